"""Accuracy with an exact confidence interval."""

import math
from collections.abc import Sequence
from typing import NamedTuple, SupportsFloat, SupportsIndex

import numpy as np

from jaxdiff import checks


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
    checks.count("An interval", least=0, n=n)
    checks.number("An interval", "[0, inf)", successes=successes)
    checks.number("An interval", "(0, 1)", confidence=confidence)
    k, n = float(successes), n.__index__()
    if n < 1 or k > n:
        raise ValueError(f"An interval needs n >= 1 and 0 <= successes <= n; got {k:g} successes of {n}.")
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
    values = np.asarray(outcomes)
    if values.ndim != 1 or (values.size and values.dtype.kind not in "biuf"):
        raise ValueError(
            f"Outcomes are a sequence of yes or no, or of shares in [0, 1]; got {values.dtype}{list(values.shape)}."
        )
    if not np.all((values >= 0) & (values <= 1)):
        raise ValueError(f"An outcome is yes, no or a share in [0, 1]; got {values.min()} to {values.max()}.")
    successes, n = math.fsum(values), len(values)
    low, high = clopper_pearson(successes, n, confidence)
    return Proportion(successes / n, low, high, n)
