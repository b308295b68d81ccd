"""The Fréchet distance between Gaussians fitted to features (FID, Heusel et al. 2017, arXiv 1706.08500).

    |m_a - m_b|^2 + tr C_a + tr C_b - 2 tr (C_a C_b)^1/2                             (1)

The last trace is the sum of the singular values of R_a^T R_b for any roots C = R R^T: no square root of a matrix that is no
covariance is taken, and covariances of fewer images than features are as good as others.

Moments are merged by the sums of deviations (Chan et al. 1979), in float64: the parts may be batches, devices or hosts.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from jaxdiff.evaluate.quality.rows import rows_of


class Moments(NamedTuple):
    """The number, the mean [d], and the sum of products of deviations [d, d] of features, in float64."""

    n: int
    mean: Float[np.ndarray, " d"]
    scatter: Float[np.ndarray, "d d"]

    @classmethod
    def of(cls, features: Any) -> "Moments":
        """Those of features [n, d]."""
        x = rows_of("Moments", features)
        mean = x.mean(0)
        return cls(len(x), mean, (x - mean).T @ (x - mean))

    @property
    def covariance(self) -> Float[np.ndarray, "d d"]:
        """The unbiased one; ValueError of fewer than two images."""
        if self.n < 2:
            raise ValueError(f"A covariance needs two images at least; got {self.n}.")
        return self.scatter / (self.n - 1)


def merged(first: Moments, *others: Moments) -> Moments:
    """The moments of all their features together."""
    for other in others:
        if other.mean.shape != first.mean.shape:
            raise ValueError(f"Moments are of equal features; got {len(first.mean)} and {len(other.mean)}.")
        n, delta = first.n + other.n, other.mean - first.mean
        mean = first.mean + delta * (other.n / n)
        scatter = first.scatter + other.scatter + np.outer(delta, delta) * (first.n * other.n / n)
        first = Moments(n, mean, scatter)
    return first


def frechet_distance(a: Moments, b: Moments) -> float:
    """Equation (1), of two images at least each. It falls with n: compare numbers of equal n alone."""
    if a.mean.shape != b.mean.shape:
        raise ValueError(f"Moments are of equal features; got {len(a.mean)} and {len(b.mean)}.")
    singular = np.linalg.svd(_root(a.covariance).T @ _root(b.covariance), compute_uv=False)
    apart = np.sum((a.mean - b.mean) ** 2)
    return float(apart + np.trace(a.covariance) + np.trace(b.covariance) - 2.0 * singular.sum())


def _root(covariance: np.ndarray) -> np.ndarray:
    """R with C = R R^T."""
    values, vectors = np.linalg.eigh(covariance)
    return vectors * np.sqrt(np.maximum(values, 0.0))
