"""The stage that trains a score network."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxdiff.data import augment as augments
from jaxdiff.data.dataset import Dataset
from jaxdiff.diffusion import Kind, Process, denoising, to_network
from jaxdiff.diffusion.noise_levels import NoiseLevels
from jaxdiff.diffusion.prediction import row_of
from jaxdiff.keys import example_keys, purpose
from jaxdiff.models.layers import example_rngs
from jaxdiff.study.networks import bound_score, check_output, example_inputs, shown_by
from jaxdiff.study.parts import Later
from jaxdiff.study.study import Plan
from jaxdiff.study.tasks.splits import validation_part
from jaxdiff.study.training import Problem, Training, check_trained, trained
from jaxdiff.types import Net


def score(
    data: Callable[[str], Dataset],
    model: Any,
    process: Process,
    train: Training,
    kind: Kind,
    weight: Callable,
    time: Later,
    label: Later,
    augment: Sequence[Callable] = (),
) -> Plan:
    """A score network that predicts `kind` (one of `diffusion.KINDS`, or part(diffusion.edm_kind, ...)), trained on "train" by
    the denoising loss.

    `weight` is a part of `diffusion.weights`, `time` one of `diffusion.noise_levels`; `label` says what the network is shown:
    part(diffusion.time_label, scale=999.0), or part(diffusion.preconditioned). If the data have a validation part, its
    denoising loss is measured, at the same times and noise at every evaluation. The product is a `ScoreModel`.
    """
    row_of(kind)
    time, shown = time(process=process), shown_by(label, process)
    dataset = data("train")
    inputs = example_inputs(dataset.image_shape, times=True)
    variables = check_output("The score network", model, inputs, dataset.image_shape)
    losses = score_losses(process, kind, weight, time, shown)
    loss = training_loss(model, losses, augments.compose(*augment))

    def measure(variables: Any, batch: Mapping, key: jax.Array) -> dict[str, jax.Array]:
        predict = lambda x_t, label: model.apply(variables, x_t, label)
        return {"loss": losses(predict, batch["image"], example_keys(key, batch["id"]))}

    problem = Problem(model, inputs, dataset, loss, validation_part(data), measure)
    check_trained(train, problem)
    bound = lambda variables: bound_score(model, process, kind, shown, variables)
    return Plan(bound(variables), lambda run: bound(trained(run, train, problem)))


def score_losses(
    process: Process, kind: Kind, weight: Callable, time: NoiseLevels, shown: Callable[[Net], Net]
) -> Callable[..., jax.Array]:
    """(predict, images [B, ...] in [0, 1], keys [B]) -> the denoising loss of every image, with a time and noise of its own."""
    losses_of = denoising(process, kind, weight)

    def losses(predict: Callable, images: jax.Array, keys: jax.Array) -> jax.Array:
        t = time(_part(keys, "time"))
        return losses_of(shown(predict), to_network(images), t, _part(keys, "noise"))

    return losses


def training_loss(model: Any, losses: Callable, augmented: Callable) -> Callable:
    """The mean loss of a batch, for `make_step`; every example draws its own time, noise, augmentation and dropout."""

    def loss(params: Any, model_state: Any, batch: Mapping, key: jax.Array) -> tuple:
        keys = example_keys(key, batch["id"])

        def predict(x_t, label):
            rngs = example_rngs(_part(keys, "dropout"))
            return model.apply({"params": params, **model_state}, x_t, label, train=True, rngs=rngs)

        images = jax.vmap(augmented)(batch["image"], _part(keys, "augment"))
        return jnp.mean(losses(predict, images, keys)), ({}, model_state)

    return loss


def _part(keys: jax.Array, name: str) -> jax.Array:
    return jax.vmap(lambda key: purpose(key, name))(keys)
