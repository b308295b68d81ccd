"""What training carries from step to step. Keys are not state: they are folded from the step."""

from collections.abc import Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree


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


def ema_names(decays: Iterable[float]) -> dict[str, float]:
    """Name in `TrainState.ema` -> decay; ValueError for a decay outside [0, 1)."""
    names = {str(float(d)): float(d) for d in decays}
    for name, decay in names.items():
        if not 0 <= decay < 1:
            raise ValueError(f"An EMA decay lies in [0, 1), such as 0.9999; got {name}.")
    return names


def _copy(x: Array) -> Array:
    return jnp.array(x, copy=True)


def _average(x: Array) -> Array:
    # A bfloat16 average would not move: (1 - decay) is below its resolution.
    return jnp.array(x, jnp.promote_types(x.dtype, jnp.float32), copy=True)


def init_state(
    params: PyTree,
    tx: optax.GradientTransformation,
    ema_decays: Iterable[float] = (),
    model_state: PyTree = None,
) -> TrainState:
    """The state of step 0, averages at `params`. It owns copies, so that a step may donate its buffers."""
    params = jax.tree.map(_copy, params)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        ema={name: jax.tree.map(_average, params) for name in ema_names(ema_decays)},
        opt_state=jax.tree.map(_copy, tx.init(params)),
        model_state=jax.tree.map(_copy, {} if model_state is None else model_state),
    )
