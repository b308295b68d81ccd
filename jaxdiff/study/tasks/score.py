"""The stage that trains a score network."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxdiff import checks
from jaxdiff.data import augment as augments
from jaxdiff.data.dataset import Dataset
from jaxdiff.diffusion import KINDS, Process, denoising, time_label, to_network
from jaxdiff.keys import example_keys, purpose
from jaxdiff.models.layers import example_rngs
from jaxdiff.study.networks import bound_score, check_output, example_inputs
from jaxdiff.study.study import Plan
from jaxdiff.study.tasks.splits import validation_part
from jaxdiff.study.training import Problem, Training, check_trained, trained


def score(
    data: Callable[[str], Dataset],
    model: Any,
    process: Process,
    train: Training,
    kind: str,
    weight: Callable,
    time: Callable,
    label: Mapping[str, Any],
    augment: Sequence[Callable] = (),
) -> Plan:
    """A score network that predicts `kind` (see `diffusion.KINDS`), trained on "train" by the denoising loss.

    `weight` and `time` are parts of `diffusion.losses`; `label` {"scale", "offset"} says how times are written for the network
    (see `time_label`). If the data have a validation part, its denoising loss is measured, at the same times and noise at every
    evaluation. The product is a `ScoreModel`.
    """
    checks.known("score", KINDS, kind=kind)
    dataset = data("train")
    inputs = example_inputs(dataset.image_shape, times=True)
    variables = check_output("The score network", model, inputs, dataset.image_shape)
    losses_of = denoising(process, kind, weight)
    augmented = augments.compose(*augment)

    def losses(predict: Callable, batch: Mapping, keys: jax.Array, prepare: Callable) -> jax.Array:
        x0 = to_network(jax.vmap(prepare)(batch["image"], _part(keys, "augment")))
        t = jax.vmap(time)(_part(keys, "time"))
        return losses_of(time_label(predict, **label), x0, t, _part(keys, "noise"))

    def loss(params: Any, model_state: Any, batch: Mapping, key: jax.Array) -> tuple:
        keys = example_keys(key, batch["id"])

        def predict(x_t, label):
            rngs = example_rngs(_part(keys, "dropout"))
            return model.apply({"params": params, **model_state}, x_t, label, train=True, rngs=rngs)

        return jnp.mean(losses(predict, batch, keys, augmented)), ({}, model_state)

    def measure(variables: Any, batch: Mapping, key: jax.Array) -> dict[str, jax.Array]:
        predict = lambda x_t, label: model.apply(variables, x_t, label)
        return {"loss": losses(predict, batch, example_keys(key, batch["id"]), augments.none())}

    problem = Problem(model, inputs, dataset, loss, validation_part(data), measure)
    check_trained(train, problem)
    bound = lambda variables: bound_score(model, process, kind, label, variables)
    return Plan(bound(variables), lambda run: bound(trained(run, train, problem)))


def _part(keys: jax.Array, name: str) -> jax.Array:
    return jax.vmap(lambda key: purpose(key, name))(keys)
