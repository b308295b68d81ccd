"""The training run that scores and classifiers share: resumable, with checkpoints, metrics and pictures."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxdiff.build import build
from jaxdiff.checks import count
from jaxdiff.data.dataset import Dataset
from jaxdiff.data.stream import stream
from jaxdiff.evaluate.fingerprints import plain
from jaxdiff.keys import purpose
from jaxdiff.models import initialise
from jaxdiff.train import (
    Checkpoints,
    TrainState,
    checkpointing,
    data_mesh,
    every,
    fit,
    init_state,
    jit_step,
    jsonl,
    make_step,
    optimizer,
    progress,
    resume,
    shared,
    tensorboard,
    training_devices,
)

COUNTS = ("steps", "batch_size", "accumulate", "log_every", "checkpoint_every", "keep")


def start_state(section: ConfigDict, model: Any, inputs: tuple, seed: int) -> tuple[TrainState, Any]:
    """The state of step 0 on the training devices, and its optimiser."""
    params, model_state = initialise(model, purpose(jax.random.key(seed), "initialise"), *inputs)
    tx = build(optimizer, section.optimizer, total=section.train.steps)
    state = init_state(params, tx, section.train.ema_decays, model_state)
    return shared(state, data_mesh(training_devices())), tx


def check_settings(where: str, settings: ConfigDict) -> None:
    """ValueError unless every number of steps, images or checkpoints is there and is one."""
    missing = [name for name in COUNTS if name not in settings]
    if missing:
        raise ValueError(f"{where} needs {missing[0]!r}; it has {sorted(settings)}.")
    count(where, **{name: settings[name] for name in COUNTS})


def train(
    name: str,
    section: ConfigDict,
    seed: int,
    data: Dataset,
    model: Any,
    inputs: tuple,
    loss: Callable,
    folder: Path,
    draw: Callable[[TrainState, Path], Any] | None = None,
    line: int = 0,
) -> TrainState:
    """Trains to `section.train.steps` from wherever `folder` stands; returns the final state.

    `section.train.ema_warmup`, if given, is how the averages begin (see `jaxdiff.train.average`).
    `draw(state, path)` makes a picture every `draw_every` steps; `line` is that of the progress bar.
    """
    settings = section.train
    check_settings(f"config.{name}.train", settings)
    key = purpose(jax.random.key(seed), name)
    state, tx = start_state(section, model, inputs, seed)
    batches = stream(data, settings.batch_size, seed, shard=(jax.process_index(), jax.process_count()))
    with Checkpoints(folder / "checkpoints", settings.keep, plain(section.model)) as checkpoints:
        state = resume(checkpoints, state, batches)
        if int(state.step) >= settings.steps:
            return state
        step = make_step(
            loss,
            tx,
            settings.ema_decays,
            accumulate=settings.accumulate,
            ema_warmup=settings.get("ema_warmup", "corrected"),
        )
        hooks = [
            progress(settings.steps, settings.batch_size, desc=name, position=line),
            jsonl(folder / "metrics.jsonl", settings.batch_size, settings.log_every, settings.steps),
            tensorboard(folder / "tensorboard", settings.batch_size, settings.log_every, settings.steps),
            checkpointing(checkpoints, batches, settings.checkpoint_every, settings.steps),
            draw
            and every(
                settings.draw_every,
                lambda n, state, _: draw(state, folder / f"samples-{n:07d}.png"),
                settings.steps,
            ),
        ]
        hooks = [hook for hook in (*hooks, _stop_if_asked) if hook]
        return fit(jit_step(step, data_mesh(training_devices())), state, batches, settings.steps, hooks, key)


def final_params(section: ConfigDict, state: TrainState) -> Any:
    """The parameters to evaluate: the average of the largest decay, or the last ones if there is none."""
    return state.ema[max(state.ema, key=float)] if state.ema else state.params


def side_by_side(first: Callable[[], Any], second: Callable[[], Any]) -> tuple[Any, Any]:
    """(first(), second()), at the same time on CPU, where training small networks keeps one core busy.

    `second` runs in a thread of its own; an error or an interrupt of either stops both.
    """
    if jax.default_backend() != "cpu" or len(jax.devices()) < 2:
        return first(), second()
    outcome: dict[str, Any] = {}
    _STOP.clear()

    def background():
        try:
            outcome["value"] = second()
        except BaseException as error:
            outcome["error"] = error
            _STOP.set()

    thread = threading.Thread(target=background, daemon=True)
    thread.start()
    try:
        value = first()
        while thread.is_alive():
            thread.join(0.1)  # a join without a limit would not hear an interrupt
    except BaseException as error:
        _STOP.set()
        thread.join()
        if isinstance(error, Stopped):  # not the cause: that is what failed beside it
            raise outcome["error"] from None
        raise
    if "error" in outcome:
        raise outcome["error"]
    return value, outcome["value"]


_STOP = threading.Event()


class Stopped(Exception):
    """Training was stopped because what ran beside it failed."""


def _stop_if_asked(step: int, state: TrainState, metrics: dict[str, Any]) -> None:
    if _STOP.is_set():
        raise Stopped(f"stopped after step {step}")


def example_inputs(data: Dataset, times: bool) -> tuple:
    """A batch of one image (and one time) of the data set's shape, for initialisation."""
    image = jnp.zeros((1, *data.image_shape))
    return (image, jnp.zeros(1)) if times else (image,)
