"""Accuracy with an exact confidence interval."""

import math
from collections.abc import Sequence
from typing import NamedTuple, SupportsFloat, SupportsIndex

import numpy as np


class Proportion(NamedTuple):
    """A fraction in [0, 1] of `n` outcomes, with the ends of its confidence interval."""

    accuracy: float
    low: float
    high: float
    n: int


def clopper_pearson(
    successes: SupportsFloat, n: SupportsIndex, confidence: float = 0.95
) -> tuple[float, float]:
    """The exact (conservative) interval of a binomial proportion: both ends in [0, 1].

    Its ends are quantiles of beta distributions, defined for a fractional number of successes too. Raises ValueError
    unless n >= 1, 0 <= successes <= n and 0 < confidence < 1.
    """
    k, n = float(successes), n.__index__()
    if n < 1 or not 0 <= k <= n:
        raise ValueError(f"An interval needs n >= 1 and 0 <= successes <= n; got {k:g} successes of {n}.")
    if not 0 < confidence < 1:
        raise ValueError(f"The confidence is a fraction in (0, 1), for example 0.95; got {confidence}.")
    from scipy.stats import beta

    tail = (1 - confidence) / 2
    low = beta.ppf(tail, k, n - k + 1) if k > 0 else 0.0
    high = beta.isf(tail, k + 1, n - k) if k < n else 1.0
    return float(low), float(high)


def proportion(outcomes: Sequence[bool | int | float] | np.ndarray, confidence: float = 0.95) -> Proportion:
    """The fraction of true outcomes and its Clopper-Pearson interval; ValueError if there are none.

    An outcome may also be a share in [0, 1]: their sum then counts as the successes. A share varies no more than a yes or no
    with the same mean, so the interval is rather too wide than too narrow.
    """
    successes, n = math.fsum(outcomes), len(outcomes)
    low, high = clopper_pearson(successes, n, confidence)
    return Proportion(successes / n, low, high, n)
