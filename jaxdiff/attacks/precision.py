"""In what precision attacks compute: images keep their own, what is computed about them has float32 at least.

Half precision is enough for a pixel and not for what is found out about it: in float16 the squares of small perturbations are
0, and constants that grow tenfold leave its range; bfloat16 has two digits. So an attack on images of them moves in float32,
and the classifier sees, and the attack returns, the nearest image of the given precision:

    x' = round(x + delta),    |delta| <= radius in float32,    hence |x' - x|_inf <= round(radius) as the images have it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxdiff.attacks.stepwise import Best, Problem, State, Stepwise

__all__ = ["grain", "in_float32", "seen_as", "wide", "wide_dtype"]


@partial(jax.tree_util.register_dataclass, data_fields=["state"], meta_fields=["dtype"])
@dataclass(frozen=True)
class _Narrow:
    """The state of an attack in float32 on images of a narrower dtype."""

    state: State
    dtype: np.dtype


def in_float32(attack: Stepwise) -> Stepwise:
    """The attack whose state has the precision float32 at least, for images of any; its function sees images of their own.

    The problem is (function, x, ...). Images of float32 or float64 make no difference.
    """

    def widened(problem: Problem) -> Problem:
        function, x, *rest = problem
        return seen_as(x.dtype, function), wide(x), *rest

    def init(problem: Problem) -> State:
        dtype = problem[1].dtype
        if dtype == wide_dtype(dtype):
            return attack.init(problem)
        return _Narrow(attack.init(widened(problem)), dtype)

    def step(problem: Problem, state: State, i: Any) -> State:
        if not isinstance(state, _Narrow):
            return attack.step(problem, state, i)
        return _Narrow(attack.step(widened(problem), state.state, i), state.dtype)

    def best(state: State) -> Best:
        if not isinstance(state, _Narrow):
            return attack.best(state)
        found = attack.best(state.state)
        return found._replace(x=found.x.astype(state.dtype))

    return attack.replace(init=init, step=step, best=best)


def seen_as(dtype: np.dtype, function: Callable) -> Callable:
    """The function (image, key) -> ... of images rounded to `dtype`."""
    return lambda x, key: function(x.astype(dtype), key)


def wide(x: Array) -> Array:
    """x in float32, or wider if it is."""
    return x.astype(wide_dtype(x.dtype))


def wide_dtype(dtype: np.dtype) -> np.dtype:
    """float32, or the dtype if it is wider."""
    return jnp.promote_types(dtype, jnp.float32)


def grain(dtype: np.dtype) -> float:
    """The distance between 1 and the next number: what a pixel surely feels. 1.2e-7 for float32, 0.0078 for bfloat16."""
    return float(jnp.finfo(dtype).eps)
