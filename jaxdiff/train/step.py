"""One training step as a pure function; where it runs is the business of placement.py."""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from jaxdiff.checks import function, instance
from jaxdiff.train.accumulate import accumulated
from jaxdiff.train.average import averager
from jaxdiff.train.state import TrainState
from jaxdiff.types import PRNGKey

# (params, model_state, batch, key) -> (mean loss, (metrics, new model_state))
TrainLoss = Callable[[PyTree, PyTree, PyTree, PRNGKey], tuple[Array, tuple[dict[str, Any], PyTree]]]
Step = Callable[[TrainState, PyTree, PRNGKey], tuple[TrainState, dict[str, Any]]]


def learning_rate(opt_state: PyTree) -> dict[str, Array]:
    """{"learning_rate": the rate of the last update} if the optimiser records exactly one, else {}."""
    found = optax.tree.get_all_with_path(opt_state, "learning_rate", lambda _, x: isinstance(x, jax.Array))
    return {"learning_rate": found[0][1]} if len(found) == 1 else {}


def _mean_over(axis_name: str, tree: PyTree) -> PyTree:
    def mean(x: Array) -> Array:
        return jax.lax.pmean(x, axis_name) if jnp.issubdtype(x.dtype, jnp.inexact) else x

    return jax.tree.map(mean, tree)


def _checked(loss: TrainLoss) -> TrainLoss:
    """`loss`, whose form is looked at where it is traced: ValueError in words, before JAX's own."""

    def checked(params: PyTree, model_state: PyTree, batch: PyTree, key: PRNGKey) -> tuple:
        outputs = loss(params, model_state, batch, key)
        try:
            value, (metrics, state) = outputs
            metrics = dict(metrics)
        except (TypeError, ValueError):
            raise ValueError(
                "make_step needs a loss that returns (mean loss, (metrics, new model_state)), with metrics a dict; "
                f"got {jax.tree.map(jnp.shape, outputs)!r:.80} (shapes)."
            ) from None
        if jnp.shape(value) != () or not jnp.issubdtype(jnp.result_type(value), jnp.floating):
            raise ValueError(
                "make_step needs a loss that returns one floating point number, the mean over the batch; got "
                f"{jnp.result_type(value)}{list(jnp.shape(value))}."
            )
        return value, (metrics, state)

    return checked


def make_step(
    loss: TrainLoss,
    tx: optax.GradientTransformation,
    ema_decays: Iterable[float] = (),
    *,
    accumulate: int = 1,
    axis_name: str | None = None,
    ema_warmup: str = "corrected",
) -> Step:
    """`(state, batch, key) -> (state, metrics)`: a gradient, an update, then the averages.

    `loss(params, model_state, batch, key) -> (mean loss, (metrics, new model_state))`. Its key is that of
    the step, folded from the root key of the run; examples fold theirs from batch["id"]. `accumulate`
    microbatches give the gradient of the whole batch. `axis_name` averages over the devices of a pmap.
    `ema_warmup` is how the averages begin: "corrected" (no trace of the initial parameters), "ramp" or
    "constant", see `average`. Metrics gain loss, grad_norm (before clipping), update_norm; learning_rate if
    the optimiser records it.
    """
    function("make_step", loss=loss)
    instance("make_step", optax.GradientTransformation, "train.optimizer.adam(2e-4)", tx=tx)
    if not (axis_name is None or (isinstance(axis_name, str) and axis_name)):
        raise ValueError(
            f'make_step needs axis_name as the name of a pmap\'s axis, "data", or None; got {axis_name!r}.'
        )
    gradient = accumulated(jax.value_and_grad(_checked(loss), has_aux=True), accumulate)
    average = averager(ema_decays, ema_warmup)

    def step(state: TrainState, batch: PyTree, key: PRNGKey) -> tuple[TrainState, dict[str, Any]]:
        outputs = gradient(state.params, state.model_state, batch, jax.random.fold_in(key, state.step))
        (value, (metrics, model_state)), grads = (
            outputs if axis_name is None else _mean_over(axis_name, outputs)
        )
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = average(state.ema, params, state.step + 1)
        norms = {"grad_norm": optax.tree.norm(grads), "update_norm": optax.tree.norm(updates)}
        metrics = {**metrics, "loss": value, **norms, **learning_rate(opt_state)}
        return TrainState(state.step + 1, params, ema, opt_state, model_state), metrics

    return step
