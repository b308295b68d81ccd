"""In what precision attacks compute: images keep their own, what is computed about them has float32 at least.

Half precision is enough for a pixel and not for what is found out about it: in float16 the squares of small perturbations are
0, and constants that grow tenfold leave its range; bfloat16 has two digits. So an attack on images of them moves in float32.
What the classifier sees, and what the attack returns, is the image of the given precision nearest to the moved one on the side
of the original,

    x' = towards(x, x + delta),    hence |x'_i - x_i| <= |delta_i| for every pixel:                          (1)

rounding never leads out of a ball, where the nearest number of bfloat16 may lie 0.002 outside of one of 0.03.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxdiff.attacks.stepwise import Best, Problem, State, Stepwise
from jaxdiff.floats import wide, wide_dtype
from jaxdiff.types import Image, PRNGKey

__all__ = ["grain", "in_float32", "seen_beside", "signs", "towards"]


class _Narrow(NamedTuple):
    """The state of an attack in float32 on an image of a narrower dtype."""

    state: State
    x: Array


def in_float32(attack: Stepwise) -> Stepwise:
    """The attack whose state has float32 at least, for images of any precision; its function sees images as in (1).

    The problem is (function, x, ...). For images of float32 or float64 it is the attack itself.
    """

    def widened(problem: Problem) -> Problem:
        function, x, *rest = problem
        return seen_beside(x, function), wide(x), *rest

    def init(problem: Problem) -> State:
        x = problem[1]
        return attack.init(problem) if _is_wide(x) else _Narrow(attack.init(widened(problem)), x)

    def step(problem: Problem, state: State, i: Any) -> State:
        if not isinstance(state, _Narrow):
            return attack.step(problem, state, i)
        return state._replace(state=attack.step(widened(problem), state.state, i))

    def best(state: State) -> Best:
        if not isinstance(state, _Narrow):
            return attack.best(state)
        found = attack.best(state.state)
        return found._replace(x=towards(state.x, found.x))

    def last(problem: Problem, state: State) -> Image:
        if not isinstance(state, _Narrow):
            return attack.last(problem, state)
        return towards(state.x, attack.last(widened(problem), state.state))

    return attack.replace(init=init, step=step, best=best, last=attack.last and last)


def seen_beside(x: Array, function: Callable) -> Callable:
    """The function (image, key) -> ... of images in the precision of x, equation (1)."""
    return function if _is_wide(x) else lambda image, key: function(towards(x, image), key)


@jax.custom_jvp
def towards(x: Array, image: Array) -> Array:
    """Equation (1): the image in the dtype of x, rounded to x's side; its gradient is that of the identity."""
    if _is_wide(x):
        return image.astype(x.dtype)
    kind = jnp.finfo(x.dtype)
    # A conversion alone may be skipped by XLA, which then keeps the precision that it has. Numbers below the normal ones stay.
    reduced = jax.lax.reduce_precision(image, kind.nexp, kind.nmant)
    nearest = jnp.where(jnp.abs(image) < float(kind.tiny), image, reduced).astype(x.dtype)
    beyond = jnp.where(image > wide(x), wide(nearest) > image, wide(nearest) < image)
    return jnp.where(beyond, jnp.nextafter(nearest, x), nearest)


@towards.defjvp
def _towards_jvp(primals, tangents):
    out = towards(*primals)
    return out, tangents[1].astype(out.dtype)


def signs(key: PRNGKey, shape: tuple[int, ...], dtype: np.dtype) -> Array:
    """-1 and 1, alike. `jax.random.rademacher` draws others as soon as JAX may use float64."""
    return jnp.where(jax.random.uniform(key, shape, dtype) < 0.5, -1.0, 1.0).astype(dtype)


def grain(dtype: np.dtype) -> float:
    """The distance between 1 and the next number: what a pixel surely feels. 1.2e-7 for float32, 0.0078 for bfloat16."""
    return float(jnp.finfo(dtype).eps)


def _is_wide(x: Array) -> bool:
    return x.dtype == wide_dtype(x.dtype)
