"""Accuracy with an exact confidence interval."""

from collections.abc import Sequence
from typing import NamedTuple, SupportsIndex

import numpy as np


class Proportion(NamedTuple):
    """A fraction in [0, 1] of `n` outcomes, with the ends of its confidence interval."""

    accuracy: float
    low: float
    high: float
    n: int


def clopper_pearson(
    successes: SupportsIndex, n: SupportsIndex, confidence: float = 0.95
) -> tuple[float, float]:
    """The exact (conservative) interval of a binomial proportion: both ends in [0, 1].

    Raises ValueError unless n >= 1, 0 <= successes <= n and 0 < confidence < 1.
    """
    k, n = successes.__index__(), n.__index__()
    if n < 1 or not 0 <= k <= n:
        raise ValueError(f"An interval needs n >= 1 and 0 <= successes <= n; got {k} successes of {n}.")
    if not 0 < confidence < 1:
        raise ValueError(f"The confidence is a fraction in (0, 1), for example 0.95; got {confidence}.")
    from scipy.stats import beta

    tail = (1 - confidence) / 2
    low = beta.ppf(tail, k, n - k + 1) if k > 0 else 0.0
    high = beta.isf(tail, k + 1, n - k) if k < n else 1.0
    return float(low), float(high)


def proportion(outcomes: Sequence[bool] | np.ndarray, confidence: float = 0.95) -> Proportion:
    """The fraction of true outcomes and its Clopper-Pearson interval; ValueError if there are none."""
    successes, n = int(np.sum(np.asarray(outcomes, bool))), len(outcomes)
    low, high = clopper_pearson(successes, n, confidence)
    return Proportion(successes / n, low, high, n)
