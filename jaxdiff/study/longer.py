"""Training longer: a run begins where a shorter one of the same stage has ended, if that is on its way.

It is if the two differ in their number of steps alone, and the learning rates of both agree up to there: a constant rate does
not ask how long a run is, a cosine does.
"""

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdiff.study.claim import record_of
from jaxdiff.study.parts import is_part, lasting
from jaxdiff.study.study import Run
from jaxdiff.train.step import learning_rate

CHECKPOINTS, METRICS = "checkpoints", "metrics.jsonl"
STEPS = "steps"


def adopt(run: Run, optimizer_for: Callable[[int], optax.GradientTransformation], steps: int) -> None:
    """Copies the checkpoint of the longest shorter run that the run of this folder would come by, if it has none of its own.

    It says in a line where it goes on from, or why it can not.
    """
    own = run.folder / CHECKPOINTS
    if _latest(own) is not None or jax.process_index():
        return
    for done, folder in sorted(_shorter(run), key=lambda found: -found[0]):
        step = _latest(folder / CHECKPOINTS)
        if step is None or step >= steps:
            continue
        differs = first_difference(optimizer_for(done), optimizer_for(steps), step)
        if differs is not None:
            print(
                f"{run.name}: not continued from the {done} steps in {folder.name}, whose learning rate differs at step "
                f"{differs}: trained from the start."
            )
            continue
        own.mkdir(exist_ok=True)
        fresh = own / f".{step}.{os.getpid()}"
        shutil.copytree(folder / CHECKPOINTS / str(step), fresh)
        shutil.copyfile(folder / METRICS, run.folder / METRICS)
        fresh.replace(own / str(step))
        print(f"{run.name}: goes on from step {step} of {folder.name}")
        return


def first_difference(
    a: optax.GradientTransformation, b: optax.GradientTransformation, steps: int
) -> int | None:
    """The first of `steps` steps at which two optimisers have different learning rates; None if they agree. An optimiser that
    does not record its rate differs at once.
    """
    rates = [learning_rates(tx, steps) for tx in (a, b)]
    if rates[0] is None or rates[1] is None:
        return 1
    apart = np.flatnonzero(rates[0] != rates[1])
    return int(apart[0]) + 1 if len(apart) else None


def learning_rates(tx: optax.GradientTransformation, steps: int) -> np.ndarray | None:
    """The rates of its first `steps` updates [steps]; None if it does not record them."""
    params = jnp.zeros(())
    if not learning_rate(tx.init(params)):
        return None

    def step(state, _):
        _, state = tx.update(params, state, params)
        return state, learning_rate(state)["learning_rate"]

    return np.asarray(jax.jit(lambda: jax.lax.scan(step, tx.init(params), length=steps)[1])())


def _shorter(run: Run) -> list[tuple[int, Path]]:
    """(steps, folder) of the runs of this stage that differ in their steps alone, and have less of them."""
    mine, _ = _without_steps(record_of(run.folder))
    found = []
    for folder in run.workdir.glob(f"{run.name}-*"):
        if folder == run.folder or folder.is_symlink():
            continue
        theirs, steps = _without_steps(record_of(folder))
        if theirs is not None and theirs == mine and steps is not None:
            found.append((steps, folder))
    return found


def _without_steps(record: Mapping[str, Any] | None) -> tuple[Any, int | None]:
    """(the record without the steps of its training, these steps)."""
    if record is None:
        return None, None
    try:
        record = lasting(record)
    except ValueError:  # of a function that there is no more
        return None, None
    steps = None
    for name, value in record.items():
        if is_part(value) and STEPS in value and "optimizer" in value:
            steps = value[STEPS]
            record = record | {name: {k: v for k, v in value.items() if k != STEPS}}
    return record, steps


def _latest(checkpoints: Path) -> int | None:
    steps = [int(path.name) for path in checkpoints.glob("*") if path.name.isdigit()]
    return max(steps, default=None)
