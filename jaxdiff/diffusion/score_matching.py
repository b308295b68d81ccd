"""Score matching without noise, for small dimensions (Hyvarinen 2005; Song et al. 2019, arXiv 1905.07088).

For a model s of the score of data x, up to a constant the mean of 1/2 |s(x) - grad log p(x)|^2 is that of

    implicit    1/2 |s(x)|^2 + tr ds/dx,                                                             (1)
    sliced      1/2 |s(x)|^2 + mean over v of v^T (ds/dx) v,    v uniform in {-1, 1}^d.              (2)
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from jaxdiff import checks
from jaxdiff.types import Image, PRNGKey, Scalar

Score = Callable[[Image], Image]


def implicit(score: Score, x: Image) -> Scalar:
    """Equation (1) of one example, by as many derivatives as it has dimensions."""
    checks.function("implicit", score=score)
    x = checks.floats("implicit", x)
    jacobian = jax.jacfwd(score)(x).reshape(x.size, x.size)
    return 0.5 * jnp.sum(score(x) ** 2) + jnp.trace(jacobian)


def sliced(score: Score, x: Image, key: PRNGKey, slices: int = 1) -> Scalar:
    """Equation (2) of one example, by as many derivatives as there are slices."""
    checks.function("sliced", score=score)
    checks.count("sliced", slices=slices)
    x, key = checks.floats("sliced", x), checks.key("sliced", key)
    directions = jax.random.rademacher(key, (slices, *x.shape), x.dtype)
    value, pushed = jax.linearize(score, x)
    return 0.5 * jnp.sum(value**2) + jnp.mean(jax.vmap(partial(_curvature, pushed))(directions))


def _curvature(pushed: Callable, v: Image) -> Scalar:
    return jnp.sum(v * pushed(v))
