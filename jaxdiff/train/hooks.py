"""Hooks of the loop: `hook(step, state, metrics)`, called after each step (see `loop.fit`)."""

from collections.abc import Callable
from typing import Any

from jaxdiff.checks import count, function, instance
from jaxdiff.train.checkpoint import Checkpoints
from jaxdiff.train.state import TrainState

Hook = Callable[[int, TrainState, dict[str, Any]], Any]


class Every:
    """`f(step, state, metrics)` at each n-th step, and at step `last`; ValueError for n < 1."""

    def __init__(self, n: int, f: Hook, last: int | None = None) -> None:
        count("A hook that runs every n steps", n=n)
        function("A hook", f=f)
        if last is not None:
            count("A hook", last=last)
        self._n, self._f, self._last = n, f, last

    def due(self, step: int) -> bool:
        """Whether `f` runs at `step`."""
        return step % self._n == 0 or step == self._last

    def __call__(self, step: int, state: TrainState, metrics: dict[str, Any]) -> None:
        """Runs `f` if it is due."""
        if self.due(step):
            self._f(step, state, metrics)


def every(n: int, f: Hook, last: int | None = None) -> Every:
    """`f` at each n-th step (a drawing, an evaluation), and at step `last` if given."""
    return Every(n, f, last)


class Checkpointing(Every):
    """Saves the state and `batches.get_state()` at each n-th step and at step `total`."""

    def __init__(self, checkpoints: Checkpoints, batches: Any, n: int, total: int) -> None:
        instance("checkpointing", Checkpoints, "Checkpoints(directory)", checkpoints=checkpoints)
        function(
            "checkpointing, which stores the position in the data,",
            get_state=getattr(batches, "get_state", None),
        )
        count("checkpointing", total=total)
        checkpoints.check_writable()
        super().__init__(n, lambda step, state, _: checkpoints.save(step, state, batches.get_state()), total)
        self._checkpoints = checkpoints

    def last_good(self) -> str:
        """The last complete checkpoint, in words."""
        step = self._checkpoints.latest
        found = "none yet" if step is None else f"step {step}"
        return f"last good checkpoint: {found} in {self._checkpoints.directory}"

    def close(self) -> None:
        """Waits until everything is on disk."""
        self._checkpoints.wait()


def checkpointing(checkpoints: Checkpoints, batches: Any, every: int, total: int) -> Checkpointing:
    """Saves state and data position every `every` steps and at step `total`, but never after a NaN."""
    return Checkpointing(checkpoints, batches, every, total)
