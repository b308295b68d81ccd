"""How much a number would change with other samples of the same number: the bootstrap (Efron 1979)."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Int

from jaxdiff import checks

NORMAL = 1.959963984540054  # the 97.5 % quantile of a standard normal
Statistic = Callable[[Int[np.ndarray, " n"]], float]


def bootstrap_std(statistic: Statistic, n: int, draws: int = 100, seed: int = 0) -> float:
    """The standard deviation of statistic(rows) over `draws` resamples, with replacement, of n rows.

    Of a distance between distributions resamples are farther off than the samples, so their quantiles are no interval for it;
    their spread is that of the number, value +- 1.96 std.
    """
    checks.count("bootstrap_std", 2, draws=draws)
    checks.count("bootstrap_std", n=n)
    rng = np.random.default_rng(seed)
    return float(np.std([statistic(rng.integers(0, n, n)) for _ in range(draws)], ddof=1))
