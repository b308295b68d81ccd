"""The stage that trains a score network."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxdiff import checks
from jaxdiff.data import augment as augments
from jaxdiff.data.dataset import Dataset
from jaxdiff.diffusion import Kind, Process, to_network
from jaxdiff.diffusion.conditions import Condition, nothing
from jaxdiff.diffusion.noise_levels import Adaptive, adaptive
from jaxdiff.diffusion.prediction import row_of
from jaxdiff.keys import example_keys, purpose
from jaxdiff.models.layers import example_rngs
from jaxdiff.study.networks import CARRIED, bound_score, check_score, example_inputs, shown_by
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
    loss: Later,
    time: Later,
    label: Later,
    augment: Sequence[Callable] = (),
    condition: Callable | None = None,
) -> Plan:
    """A score network that predicts `kind` (one of `diffusion.KINDS`, or part(diffusion.edm_kind, ...)), trained on "train".

    `loss` is a part such as part(diffusion.denoising, weight=part(weights.simple)) or part(bound_losses.hybrid, steps=1000),
    whose network has twice the channels; `time` one of `noise_levels`; `label` says how the network is shown image and time:
    part(diffusion.time_label, scale=999.0), or part(diffusion.preconditioned). With `condition`, such as
    part(conditions.label, drop=0.1), it is told more. If the data have a validation part, its loss is measured, at the same
    times and noise at every evaluation. The product is a `ScoreModel`.
    """
    row_of(kind)
    dataset = data("train")
    losses = loss(process=process, kind=kind, levels=dataset.white + 1)
    checks.function("score", loss=losses)
    levels, shown = adaptive(time(process=process)), shown_by(label, process)
    inputs = example_inputs(dataset.image_shape, times=True)
    variables, learned = check_score(model, inputs)
    condition = condition or nothing()
    loss_of = training_loss(model, losses, levels, shown, condition, augments.compose(*augment))

    def measure(variables: Any, batch: Mapping, key: jax.Array) -> dict[str, jax.Array]:
        keys = example_keys(key, batch["id"])
        told = _told(condition, batch, keys)
        predict = shown(lambda x_t, label: model.apply(variables, x_t, label, **told))
        t, _ = levels.draw(levels.init(), part_of(keys, "time"))
        return {"loss": losses(predict, to_network(batch["image"]), t, part_of(keys, "noise"))}

    problem = Problem(model, inputs, dataset, loss_of, validation_part(data), measure, levels.init())
    check_trained(train, problem)
    bound = lambda variables: bound_score(model, process, kind, shown, learned, variables)
    return Plan(bound(variables), lambda run: bound(trained(run, train, problem)))


def training_loss(
    model: Any,
    losses: Callable,
    levels: Adaptive,
    shown: Callable[[Net], Net],
    condition: Condition,
    augmented: Callable,
) -> Callable:
    """The mean loss of a batch, for `make_step`; every example draws its own time, noise, augmentation, dropout and condition.

    `losses(predict, x0 [B, ...] in [-1, 1], t [B], keys [B])` are those of the examples.
    """

    def loss(params: Any, model_state: Any, batch: Mapping, key: jax.Array) -> tuple:
        keys = example_keys(key, batch["id"])
        told = _told(condition, batch, keys)
        known = {name: v for name, v in model_state.items() if name != CARRIED}

        def predict(x_t, label):
            rngs = example_rngs(part_of(keys, "dropout"))
            return model.apply({"params": params, **known}, x_t, label, train=True, rngs=rngs, **told)

        images = jax.vmap(augmented)(batch["image"], part_of(keys, "augment"))
        carried = model_state.get(CARRIED, {})
        t, weights = levels.draw(carried, part_of(keys, "time"))
        found = losses(shown(predict), to_network(images), t, part_of(keys, "noise"))
        after = {CARRIED: levels.update(carried, t, found)} if carried else {}
        return jnp.mean(weights * found), ({}, {**model_state, **after})

    return loss


def part_of(keys: jax.Array, name: str) -> jax.Array:
    """The keys [B] of a purpose."""
    return jax.vmap(lambda key: purpose(key, name))(keys)


def _told(condition: Condition, batch: Mapping, keys: jax.Array) -> dict[str, jax.Array]:
    """What the network is told beside images and times."""
    examples = {name: batch[name] for name in ("image", "label")}
    return jax.vmap(condition)(examples, part_of(keys, "condition"))
