"""The training run that scores and classifiers share: resumable, with checkpoints, metrics and pictures."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from common import purpose
from ml_collections import ConfigDict

from jaxdiff.build import build
from jaxdiff.data.dataset import Dataset
from jaxdiff.data.stream import stream
from jaxdiff.evaluate.fingerprints import plain
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


def start_state(section: ConfigDict, model: Any, inputs: tuple, seed: int) -> tuple[TrainState, Any]:
    """The state of step 0 on the training devices, and its optimiser."""
    params, model_state = initialise(model, purpose(jax.random.key(seed), "initialise"), *inputs)
    tx = build(optimizer, section.optimizer, total=section.train.steps)
    state = init_state(params, tx, section.train.ema_decays, model_state)
    return shared(state, data_mesh(training_devices())), tx


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
) -> TrainState:
    """Trains to `section.train.steps` from wherever `folder` stands; returns the final state.

    `draw(state, path)` makes a picture every `draw_every` steps.
    """
    settings = section.train
    key = purpose(jax.random.key(seed), name)
    state, tx = start_state(section, model, inputs, seed)
    batches = stream(data, settings.batch_size, seed, shard=(jax.process_index(), jax.process_count()))
    with Checkpoints(folder / "checkpoints", settings.keep, plain(section.model)) as checkpoints:
        state = resume(checkpoints, state, batches)
        if int(state.step) >= settings.steps:
            return state
        step = make_step(loss, tx, settings.ema_decays, accumulate=settings.accumulate)
        hooks = [
            progress(settings.steps, settings.batch_size, desc=name),
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
        hooks = [hook for hook in hooks if hook]
        return fit(jit_step(step, data_mesh(training_devices())), state, batches, settings.steps, hooks, key)


def final_params(section: ConfigDict, state: TrainState) -> Any:
    """The parameters to evaluate: the average of the largest decay, or the last ones if there is none."""
    return state.ema[max(state.ema, key=float)] if state.ema else state.params


def timed(stage: Callable[[], Any]) -> tuple[Any, float]:
    """What `stage()` returns, and its wall time in seconds."""
    start = time.perf_counter()
    result = jax.block_until_ready(stage())
    return result, time.perf_counter() - start


def example_inputs(data: Dataset, times: bool) -> tuple:
    """A batch of one image (and one time) of the data set's shape, for initialisation."""
    image = jnp.zeros((1, *data.image_shape))
    return (image, jnp.zeros(1)) if times else (image,)
