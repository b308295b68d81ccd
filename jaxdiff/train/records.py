"""Hooks that record metrics: a progress bar, JSON lines. Only the first process writes."""

import abc
import os
import time
import warnings
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxdiff.checks import count
from jaxdiff.train import paths
from jaxdiff.train.hooks import Every
from jaxdiff.train.jsonl import append_jsonl, cut_jsonl
from jaxdiff.train.state import TrainState


def plain(metrics: dict[str, Any]) -> dict[str, Any]:
    """Numbers and nested lists that JSON can hold; what is not finite becomes None."""

    def convert(x: Any) -> Any:
        if isinstance(x, list):
            return [convert(y) for y in x]
        return None if isinstance(x, float) and not np.isfinite(x) else x

    return {k: convert(np.asarray(v).tolist()) for k, v in jax.device_get(metrics).items()}


class Meter:
    """Images a second since the last call; None at the first, so that compilation is not counted."""

    def __init__(self, batch_size: int) -> None:
        count("A recorder", batch_size=batch_size)
        self._batch_size = batch_size
        self._last: tuple[int, float] | None = None

    def __call__(self, step: int) -> float | None:
        """The rate between the step of the last call and `step`."""
        last, self._last = self._last, (step, time.perf_counter())
        if last is None or step <= last[0]:
            return None
        return self._batch_size * (step - last[0]) / (self._last[1] - last[1])


class Recorder(Every, abc.ABC):
    """Opens at the first step it sees, so that a resumed run shows where it is; writes as `Every` does."""

    def __init__(self, n: int, batch_size: int, last: int | None = None) -> None:
        super().__init__(n, self._record, last)
        self._meter = Meter(batch_size)
        self._opened = False

    def __call__(self, step: int, state: TrainState, metrics: dict[str, Any]) -> None:
        """Opens at the first call; writes if it is due."""
        if jax.process_index():
            return
        if not self._opened:
            self._opened = True
            self.open(step)
            self._meter(step)
        super().__call__(step, state, metrics)

    def _record(self, step: int, state: TrainState, metrics: dict[str, Any]) -> None:
        self.write(step, plain(metrics) | {"images_per_second": self._meter(step)})

    def open(self, step: int) -> None:
        """Prepares for writing; `step` is the first step of this run."""

    @abc.abstractmethod
    def write(self, step: int, row: dict[str, Any]) -> None:
        """Writes one row of plain values."""


class Progress(Recorder):
    """A tqdm bar: loss, images/s, time left."""

    def __init__(self, total: int, batch_size: int, n: int, options: dict[str, Any]) -> None:
        count("progress", total=total)
        super().__init__(n, batch_size, total)
        self._options = {"total": total, "dynamic_ncols": True} | options
        self._bar: Any = None

    def open(self, step: int) -> None:
        """Shows the bar at `step`."""
        from tqdm import tqdm

        self._bar = tqdm(initial=step, **self._options)

    def write(self, step: int, row: dict[str, Any]) -> None:
        """Moves the bar to `step`."""
        rate = row["images_per_second"]
        loss = row.get("loss")
        shown = {"loss": f"{loss:.4g}"} if isinstance(loss, float) else {}
        shown |= {"images/s": f"{rate:.0f}"} if rate else {}
        self._bar.set_postfix(shown, refresh=False)
        self._bar.update(step - self._bar.n)

    def close(self) -> None:
        """Leaves the bar as it stands."""
        if self._bar is not None:
            self._bar.close()


class Jsonl(Recorder):
    """One line each: step, metrics, images_per_second, seconds of training (those before a kill included)."""

    def __init__(self, path: str | os.PathLike, batch_size: int, n: int, last: int | None) -> None:
        super().__init__(n, batch_size, last)
        self._path = paths.writable("jsonl", paths.file("jsonl", path))
        self._failed = False

    def open(self, step: int) -> None:
        """Cuts the lines of `step` and after, left by a killed run, and starts the clock where they end."""
        kept = self._or_warn(lambda: cut_jsonl(self._path, step - 1)) or []
        before = max((s for row in kept if _is_seconds(s := row.get("seconds"))), default=0.0)
        self._start = time.perf_counter() - before

    def write(self, step: int, row: dict[str, Any]) -> None:
        """Appends one line."""
        seconds = time.perf_counter() - self._start
        self._or_warn(lambda: append_jsonl(self._path, {"step": step, **row, "seconds": round(seconds, 3)}))

    def _or_warn(self, act: Callable[[], Any]) -> Any:
        """`act()`; training does not stop because its log cannot be written, but says so once."""
        try:
            return act()
        except OSError as error:
            if not self._failed:
                warnings.warn(f"Metrics are missing from {self._path}: {error}.", stacklevel=3)
            self._failed = True


def _is_seconds(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0.0 <= value < float("inf")


def progress(total: int, batch_size: int, every: int = 10, **options: Any) -> Progress:
    """A progress bar, moved every `every` steps; `options` go to tqdm (file, desc, disable)."""
    return Progress(total, batch_size, every, options)


def jsonl(path: str | os.PathLike, batch_size: int, every: int = 100, last: int | None = None) -> Jsonl:
    """Metrics to the file `path`, every `every` steps and at step `last`."""
    return Jsonl(path, batch_size, every, last)
