"""What training carries from step to step. Keys are not state: they are folded from the step."""

from collections.abc import Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PyTree

from jaxdiff.checks import instance
from jaxdiff.floats import wide_dtype
from jaxdiff.train.average import ema_names


class TrainState(NamedTuple):
    """All that training carries: a pytree.

    `step` is the number of completed steps (int32 scalar), `ema` maps a decay such as "0.9999" to averaged
    params, `model_state` is what the network updates by itself, such as {"batch_stats": ...}, or {}.
    """

    step: Array
    params: PyTree
    ema: dict[str, PyTree]
    opt_state: PyTree
    model_state: PyTree


def _copy(x: Array) -> Array:
    return jnp.array(x, copy=True)


def _average(x: Array) -> Array:
    # A bfloat16 average would not move: (1 - decay) is below its resolution.
    return jnp.array(x, wide_dtype(x.dtype), copy=True)


def check_arrays(who: str, what: str, tree: PyTree) -> None:
    """ValueError, with the path of the first leaf that is something else, unless `tree` holds arrays of numbers alone."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if (
            not isinstance(leaf, jax.Array | np.ndarray | np.generic)
            or leaf.dtype.kind in "SUMm"
            or leaf.dtype == object
        ):
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            raise ValueError(f"{who} needs {what} as a tree of arrays; {name or 'it'} is {leaf!r:.60}.")


def init_state(
    params: PyTree,
    tx: optax.GradientTransformation,
    ema_decays: Iterable[float] = (),
    model_state: PyTree = None,
) -> TrainState:
    """The state of step 0, averages at `params`. It owns copies, so that a step may donate its buffers.

    ValueError unless params (which hold one array at least) and model_state are trees of arrays of numbers.
    """
    instance("init_state", optax.GradientTransformation, "train.optimizer.adam(2e-4)", tx=tx)
    check_arrays("init_state", "params", params)
    check_arrays("init_state", "model_state", model_state)
    if not jax.tree.leaves(params):
        raise ValueError(f"init_state needs params with at least one array; got {params!r}.")
    params = jax.tree.map(_copy, params)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        ema={name: jax.tree.map(_average, params) for name in ema_names(ema_decays)},
        opt_state=jax.tree.map(_copy, tx.init(params)),
        model_state=jax.tree.map(_copy, {} if model_state is None else model_state),
    )
