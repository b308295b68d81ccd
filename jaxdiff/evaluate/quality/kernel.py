"""The kernel distance (KID, Bińkowski et al. 2018, arXiv 1801.01401): the unbiased squared maximum mean discrepancy with

    k(x, y) = (x . y / d + 1)^3,                                                     (1)
    sum_{i != j} k(x_i, x_j) / (n (n - 1)) + the same of y - 2 mean k(x_i, y_j).     (2)

Unlike the Fréchet distance its mean does not depend on n; it may be negative.
"""

from typing import Any

import numpy as np
from jaxtyping import Float

from jaxdiff import checks
from jaxdiff.evaluate.quality.rows import two_of


def kernel_distance(
    a: Any, b: Any, subsets: int = 100, size: int = 1000, seed: int = 0
) -> Float[np.ndarray, " subsets"]:
    """Equation (2) of `subsets` draws of `size` rows of both: their mean is KID, their spread how sure it is.

    If either has no more than `size` rows, it is taken whole; if both are, there is one value.
    """
    a, b = two_of("kernel_distance", a, b, least=2)
    checks.count("kernel_distance", subsets=subsets)
    checks.count("kernel_distance", 2, size=size)
    if max(len(a), len(b)) <= size:
        return np.asarray([_discrepancy(a, b)])
    rng = np.random.default_rng(seed)
    draw = lambda x: x[rng.choice(len(x), size, replace=False)] if len(x) > size else x
    return np.asarray([_discrepancy(draw(a), draw(b)) for _ in range(subsets)])


def _discrepancy(a: np.ndarray, b: np.ndarray) -> float:
    kernel = lambda x, y: (x @ y.T / x.shape[1] + 1.0) ** 3
    among = lambda k: (k.sum() - np.trace(k)) / (len(k) * (len(k) - 1))
    return float(among(kernel(a, a)) + among(kernel(b, b)) - 2.0 * kernel(a, b).mean())
