"""A training run, resumable, as the stages of scores and classifiers share it: checkpoints, metrics, a held-out part.

What is random comes from the stage's own key: initial weights, the order of the data, and every example's draws. A run that
was killed goes on from its last checkpoint, and ends with the same numbers.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdiff import checks
from jaxdiff.data.dataset import Dataset
from jaxdiff.data.stream import stream
from jaxdiff.keys import purpose
from jaxdiff.models import initialise
from jaxdiff.study.held_out import HeldOut
from jaxdiff.study.longer import CHECKPOINTS, METRICS, adopt
from jaxdiff.study.networks import CARRIED, final_variables
from jaxdiff.study.parts import Aside, Later
from jaxdiff.study.study import Run
from jaxdiff.train import (
    Checkpoints,
    TrainState,
    abstract,
    checkpointing,
    data_mesh,
    every,
    fit,
    init_state,
    jit_step,
    jsonl,
    make_step,
    progress,
    resume,
    shared,
    tensorboard,
    training_devices,
    wandb,
)
from jaxdiff.train.average import WARMUPS, ema_names

WRITERS = {"tensorboard": tensorboard, "wandb": wandb}
EVALUATIONS = 5  # of the held-out part in a run, unless it is said how often
Loss = Callable[[Any, Any, Mapping[str, Any], jax.Array], tuple]


class Training(NamedTuple):
    """How long and how: see `training`."""

    optimizer: optax.GradientTransformation
    optimizer_for: Callable[[int], optax.GradientTransformation]  # of a run of so many steps
    steps: int
    batch_size: int
    ema_decays: tuple[float, ...]
    ema_warmup: str
    accumulate: int
    log_every: int
    checkpoint_every: int
    keep: int
    evaluate_every: int
    writers: tuple[str, ...]


def training(
    optimizer: Later,
    steps: int,
    batch_size: int,
    ema_decays: Sequence[float] = (),
    ema_warmup: str = "corrected",
    accumulate: int = 1,
    log_every: Aside[int] = 100,
    checkpoint_every: Aside[int] = 1000,
    keep: Aside[int] = 2,
    evaluate_every: Aside[int | None] = None,
    writers: Aside[Sequence[str]] = (),
) -> Training:
    """A training run of `steps` batches, gradients accumulated over so many parts of each.

    `optimizer` is given the steps as its `total`. The product are the parameters averaged with the largest of `ema_decays`,
    which begin as `ema_warmup` says (see `train.average`), or the last ones if there is none. Every so many steps metrics are
    logged, a checkpoint is written, of which the last `keep` are kept, and the held-out part of the data is evaluated: five
    times a run, if it is not said. `writers` are "tensorboard", "wandb". ValueError for what is no number of its kind.
    """
    who = "training"
    counts = {"steps": steps, "batch_size": batch_size, "accumulate": accumulate, "log_every": log_every}
    checks.count(who, **counts, checkpoint_every=checkpoint_every, keep=keep)
    if batch_size % accumulate:
        raise ValueError(
            f"{who} needs a batch_size that is a multiple of accumulate; got {batch_size} and {accumulate}."
        )
    if evaluate_every is not None:
        checks.count(who, evaluate_every=evaluate_every)
    ema_names(ema_decays)
    checks.known(who, WARMUPS, ema_warmup=ema_warmup)
    for writer in writers:
        checks.known(who, WRITERS, writers=writer)
    tx = optimizer(total=steps)
    checks.instance(who, optax.GradientTransformation, "part(train.optimizer.adam, lr=1e-3)", optimizer=tx)
    return Training(
        tx, lambda total: optimizer(total=total), steps, batch_size, tuple(ema_decays), ema_warmup, accumulate, log_every,
        checkpoint_every, keep, evaluate_every or max(1, steps // EVALUATIONS), tuple(writers),
    )  # fmt: skip


class Problem(NamedTuple):
    """What is trained: a network for `inputs` on data, by a loss; `measure(variables, batch, key)` gives per-example metrics
    of the held-out part, if there is one; `carried()` is the first state of the loss itself, such as losses of the past, and
    `begin(params, key)` makes the first parameters of random ones; `extra(run)` are more hooks.
    """

    model: Any
    inputs: tuple[Any, ...]
    data: Dataset
    loss: Loss
    held_out: Dataset | None = None
    measure: Callable[..., dict[str, Any]] | None = None
    carried: Callable[[], Mapping[str, Any]] = dict
    begin: Callable[[Any, Any], Any] = lambda params, key: params
    extra: Callable[[Run], Sequence[Callable]] = lambda run: ()


def trained(run: Run, told: Training, problem: Problem) -> Any:
    """The variables at the end of training, from wherever the folder of the run stands."""
    mesh = data_mesh(training_devices())
    held_out = HeldOut.of(run, problem.held_out, problem.measure)
    adopt(run, told.optimizer_for, told.steps)
    with Checkpoints(
        run.folder / CHECKPOINTS, told.keep, {"model": type(problem.model).__name__}
    ) as checkpoints:
        state = finished(checkpoints, told, problem, run)
        if state is None and run.finished:
            raise ValueError(
                f"The stage {run.name!r} in {run.workdir} is not finished: step {checkpoints.latest or 0} of {told.steps}."
            )
        if state is None:
            state = shared(first_state(told, problem, run), mesh)
            seed = int(jax.random.bits(purpose(run.key, "order")))
            hosts = jax.process_index(), jax.process_count()
            batches = stream(problem.data, told.batch_size, seed, shard=hosts)
            state = resume(checkpoints, state, batches)
            hooks = [*_hooks(run, told, checkpoints, batches, held_out), *problem.extra(run)]
            step = jit_step(_step(told, problem.loss), mesh)
            state = fit(step, state, batches, told.steps, hooks, purpose(run.key, "train"))
    variables = final_variables(state)
    held_out.finish(told.steps, variables)
    return variables


def finished(checkpoints: Checkpoints, told: Training, problem: Problem, run: Run) -> TrainState | None:
    """The last state of a run that has come to its end; None if it has not."""
    latest = checkpoints.latest
    if latest is None or latest < told.steps:
        return None
    restored = checkpoints.restore(abstract(jax.eval_shape(lambda: first_state(told, problem, run))))
    return restored[0] if restored and int(restored[0].step) >= told.steps else None


def first_state(told: Training, problem: Problem, run: Run | None = None) -> TrainState:
    """The state of step 0."""
    key = jax.random.key(0) if run is None else run.key
    params, model_state = initialise(problem.model, purpose(key, "initialise"), *problem.inputs)
    params = problem.begin(params, purpose(key, "begin"))
    carried = problem.carried()
    carried = {CARRIED: carried} if jax.tree.leaves(carried) else {}
    return init_state(params, told.optimizer, told.ema_decays, {**model_state, **carried})


def check_trained(told: Training, problem: Problem) -> None:
    """Traces a step, so that what is wrong with loss, data or optimiser is said before anything runs."""
    state = jax.eval_shape(lambda: first_state(told, problem))
    image = jax.ShapeDtypeStruct((told.batch_size, *problem.data.image_shape), jnp.float32)
    number = jax.ShapeDtypeStruct((told.batch_size,), jnp.int32)
    batch = {"image": image, "label": number, "id": number}
    jax.eval_shape(_step(told, problem.loss), state, batch, jax.random.key(0))


def _step(told: Training, loss: Loss) -> Callable:
    return make_step(
        loss, told.optimizer, told.ema_decays, accumulate=told.accumulate, ema_warmup=told.ema_warmup
    )


def _hooks(
    run: Run, told: Training, checkpoints: Checkpoints, batches: Any, held_out: HeldOut
) -> list[Callable]:
    folder, size, total = run.folder, told.batch_size, told.steps
    hooks = [
        progress(total, size, desc=run.name, position=run.line),
        lambda *_: run.stop_if_asked(),
        jsonl(folder / METRICS, size, told.log_every, total),
        *(WRITERS[name](folder / name, size, told.log_every, total) for name in told.writers),
        checkpointing(checkpoints, batches, told.checkpoint_every, total),
    ]
    if held_out:
        hooks.append(every(told.evaluate_every, held_out.hook))
    return [hook for hook in hooks if hook]
