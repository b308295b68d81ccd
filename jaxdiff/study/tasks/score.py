"""The stage that trains a score network."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdiff import checks
from jaxdiff.data import augment as augments
from jaxdiff.data.dataset import Dataset
from jaxdiff.diffusion import Kind, Process, to_network
from jaxdiff.diffusion.conditions import Condition, nothing
from jaxdiff.diffusion.learned import Trainable
from jaxdiff.diffusion.noise_levels import Adaptive, adaptive
from jaxdiff.diffusion.prediction import row_of
from jaxdiff.keys import example_keys, purpose
from jaxdiff.models.layers import example_rngs
from jaxdiff.study.bound import Bound, zeros_for_shapes
from jaxdiff.study.networks import (
    CARRIED,
    LEARNED,
    bound_score,
    check_score,
    example_inputs,
    shown_by,
    with_process,
)
from jaxdiff.study.parts import Aside, Later
from jaxdiff.study.study import Plan
from jaxdiff.study.tasks.preview import check_preview, hooks
from jaxdiff.study.tasks.splits import validation_part
from jaxdiff.study.training import Problem, Training, check_trained, trained
from jaxdiff.types import Net


class Way(NamedTuple):
    """How a network is trained: its losses, their times, and what the network is shown."""

    losses: Callable
    levels: Adaptive
    shown: Callable[[Net], Net]


def score(
    data: Callable[[str], Dataset],
    model: Any,
    process: Any,
    train: Training,
    kind: Kind,
    loss: Later,
    time: Later,
    label: Later,
    augment: Sequence[Callable] = (),
    condition: Callable | None = None,
    start: Any = None,
    watch: Aside[Later | None] = None,
) -> Plan:
    """A score network that predicts `kind` (one of `diffusion.KINDS`, or part(diffusion.edm_kind, ...)), trained on "train".

    `process` is one of `diffusion`, or one that is learned with the network, such as part(learned.scalar). `loss` is a part
    such as part(diffusion.denoising, weight=part(weights.simple)), part(bound_losses.hybrid, steps=1000), whose network has
    twice the channels, or part(students.progressive, teacher="@score", steps=8); `time` one of `noise_levels`; `label` says
    how the network is shown image and time: part(diffusion.time_label, scale=999.0), or part(diffusion.preconditioned). With
    `condition`, such as part(conditions.label, drop=0.1), it is told more; `start` is the product of a stage whose weights it
    begins with. If the data have a validation part, its loss is measured, at the same times and noise at every evaluation.
    `watch` is part(tasks.preview, ...): samples while it trains. The product is a `ScoreModel`.
    """
    row_of(kind)
    checks.instance("score", (Process, Trainable), "part(diffusion.VP)", process=process)
    dataset = data("train")
    inputs = example_inputs(dataset.image_shape, times=True)
    variables, learned = check_score(model, inputs)
    begin = _begin(process, start)
    params = jax.eval_shape(begin, variables["params"], jax.random.key(0))
    variables = {**variables, "params": params}

    def way(variables: Any, arrays: Any) -> Way:
        known = with_process(process, variables)
        losses = loss(arrays, process=known, kind=kind, levels=dataset.white + 1)
        checks.function("score", loss=losses)
        return Way(losses, adaptive(time(process=known)), shown_by(label, known))

    first = way(variables, None)
    told = condition or nothing()
    loss_of = training_loss(model, way, told, augments.compose(*augment))
    carried = lambda: {"levels": first.levels.init(), "loss": zeros_for_shapes(loss.arrays)}

    def measure(variables: Any, batch: Mapping, key: jax.Array) -> dict[str, jax.Array]:
        keys = example_keys(key, batch["id"])
        losses, levels, shown = way(variables, None)
        predict = shown(lambda x_t, label: model.apply(variables, x_t, label, **_told(told, batch, keys)))
        t, _ = levels.draw(levels.init(), part_of(keys, "time"))
        return {"loss": losses(predict, to_network(batch["image"]), t, part_of(keys, "noise"))}

    bound = lambda variables: bound_score(model, process, kind, label, learned, variables)
    if watch is not None:
        check_preview(watch(), bound(variables))
    # Built anew in the run: only then are there arrays of what it names.
    extra = lambda run: [] if watch is None else hooks(watch(), bound, run)
    problem = Problem(model, inputs, dataset, loss_of, validation_part(data), measure, carried, begin, extra)
    check_trained(train, problem)
    return Plan(bound(variables), lambda run: bound(trained(run, train, problem)))


def training_loss(model: Any, way: Callable[..., Way], condition: Condition, augmented: Callable) -> Callable:
    """The mean loss of a batch, for `make_step`; every example draws its own time, noise, augmentation, dropout and condition.

    `way(variables, arrays)` says how, for the parameters of a process and the arrays of what the loss names, which training
    carries.
    """

    def loss(params: Any, model_state: Any, batch: Mapping, key: jax.Array) -> tuple:
        keys = example_keys(key, batch["id"])
        told = _told(condition, batch, keys)
        carried = model_state.get(CARRIED, {})
        losses, levels, shown = way({"params": params}, carried.get("loss"))
        known = {name: v for name, v in model_state.items() if name != CARRIED}

        def predict(x_t, label):
            rngs = example_rngs(part_of(keys, "dropout"))
            return model.apply({"params": params, **known}, x_t, label, train=True, rngs=rngs, **told)

        images = jax.vmap(augmented)(batch["image"], part_of(keys, "augment"))
        history = carried.get("levels", {})
        t, weights = levels.draw(history, part_of(keys, "time"))
        found = losses(shown(predict), to_network(images), t, part_of(keys, "noise"))
        after = {CARRIED: {**carried, "levels": levels.update(history, t, found)}} if carried else {}
        return jnp.mean(weights * found), ({}, {**model_state, **after})

    return loss


def _begin(process: Any, start: Any) -> Callable[[Any, jax.Array], Any]:
    """(random parameters, key) -> those that training begins with."""
    if start is not None:
        checks.instance("score", Bound, "'@score'", start=start)

    def begin(params: Any, key: jax.Array) -> Any:
        own = {} if isinstance(process, Process) else {LEARNED: process.init(key)}
        params = {**params, **own}
        if start is None:
            return params
        given = zeros_for_shapes(start.arrays["params"])
        shapes = lambda tree: jax.tree.map(jnp.shape, dict(tree))
        if shapes(given) != shapes(params):
            raise ValueError("score: the network that it starts from has other weights than this one.")
        return given

    return begin


def part_of(keys: jax.Array, name: str) -> jax.Array:
    """The keys [B] of a purpose."""
    return jax.vmap(lambda key: purpose(key, name))(keys)


def _told(condition: Condition, batch: Mapping, keys: jax.Array) -> dict[str, jax.Array]:
    """What the network is told beside images and times."""
    examples = {name: batch[name] for name in ("image", "label")}
    return jax.vmap(condition)(examples, part_of(keys, "condition"))
