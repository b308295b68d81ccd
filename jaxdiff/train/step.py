"""One training step as a pure function; where it runs is the business of placement.py."""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from jaxdiff.train.accumulate import accumulated
from jaxdiff.train.state import TrainState, ema_names
from jaxdiff.types import PRNGKey

# (params, model_state, batch, key) -> (mean loss, (metrics, new model_state))
TrainLoss = Callable[[PyTree, PyTree, PyTree, PRNGKey], tuple[Array, tuple[dict[str, Any], PyTree]]]
Step = Callable[[TrainState, PyTree, PRNGKey], tuple[TrainState, dict[str, Any]]]


def average(ema: dict[str, PyTree], params: PyTree, decays: dict[str, float]) -> dict[str, PyTree]:
    """e <- d e + (1 - d) p for each decay d; ValueError if `ema` holds other decays."""
    if set(ema) != set(decays):
        raise ValueError(
            f"The state averages with decays {sorted(ema)}, the step with {sorted(decays)}: use the same."
        )
    return {
        name: jax.tree.map(lambda e, p: e + (1 - decay) * (p.astype(e.dtype) - e), ema[name], params)
        for name, decay in decays.items()
    }


def learning_rate(opt_state: PyTree) -> dict[str, Array]:
    """{"learning_rate": the rate of the last update} if the optimiser records exactly one, else {}."""
    found = optax.tree.get_all_with_path(opt_state, "learning_rate", lambda _, x: isinstance(x, jax.Array))
    return {"learning_rate": found[0][1]} if len(found) == 1 else {}


def _mean_over(axis_name: str, tree: PyTree) -> PyTree:
    def mean(x: Array) -> Array:
        return jax.lax.pmean(x, axis_name) if jnp.issubdtype(x.dtype, jnp.inexact) else x

    return jax.tree.map(mean, tree)


def make_step(
    loss: TrainLoss,
    tx: optax.GradientTransformation,
    ema_decays: Iterable[float] = (),
    *,
    accumulate: int = 1,
    axis_name: str | None = None,
) -> Step:
    """`(state, batch, key) -> (state, metrics)`: a gradient, an update, then the averages.

    `loss(params, model_state, batch, key) -> (mean loss, (metrics, new model_state))`. Its key is that of
    the step, folded from the root key of the run; examples fold theirs from batch["id"]. `accumulate`
    microbatches give the gradient of the whole batch. `axis_name` averages over the devices of a pmap.
    Metrics gain loss, grad_norm (before clipping), update_norm; learning_rate if the optimiser records it.
    """
    gradient = accumulated(jax.value_and_grad(loss, has_aux=True), accumulate)
    decays = ema_names(ema_decays)

    def step(state: TrainState, batch: PyTree, key: PRNGKey) -> tuple[TrainState, dict[str, Any]]:
        outputs = gradient(state.params, state.model_state, batch, jax.random.fold_in(key, state.step))
        (value, (metrics, model_state)), grads = (
            outputs if axis_name is None else _mean_over(axis_name, outputs)
        )
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = average(state.ema, params, decays)
        norms = {"grad_norm": optax.tree.norm(grads), "update_norm": optax.tree.norm(updates)}
        metrics = {**metrics, "loss": value, **norms, **learning_rate(opt_state)}
        return TrainState(state.step + 1, params, ema, opt_state, model_state), metrics

    return step
