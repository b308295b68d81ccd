"""Hooks that send metrics to other tools where they are installed: TensorBoard, Weights & Biases. The first process writes."""

import importlib
import importlib.util
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxdiff.checks import count
from jaxdiff.train import paths
from jaxdiff.train.records import Recorder

TENSORBOARD = (("tensorboardX", "tensorboardX"), ("torch.utils.tensorboard", "tensorboard"))
RUN = "run"  # the file that holds the id of a run


class TensorBoard(Recorder):
    """Scalars for TensorBoard, through whichever writer is installed."""

    def __init__(
        self, writer: Any, directory: str | os.PathLike, batch_size: int, n: int, last: int | None
    ) -> None:
        super().__init__(n, batch_size, last)
        self._new, self._writer = writer, None
        self._directory = os.fspath(directory)

    def open(self, step: int) -> None:
        """Opens the event file; events of `step` and after, left by a killed run, are dropped."""
        self._writer = self._new(self._directory, purge_step=step)

    def write(self, step: int, row: dict[str, Any]) -> None:
        """Writes what is a number."""
        for name, value in row.items():
            if isinstance(value, int | float):
                self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Writes out the event file."""
        if self._writer is not None:
            self._writer.close()


class Wandb(Recorder):
    """Numbers for Weights & Biases; a run that goes on after a kill goes on under its name."""

    def __init__(
        self,
        start: Callable[..., Any],
        directory: str | os.PathLike,
        batch_size: int,
        n: int,
        last: int | None,
    ) -> None:
        super().__init__(n, batch_size, last)
        self._start, self._run, self._directory = start, None, Path(directory)

    def open(self, step: int) -> None:
        """Begins the run, or goes on with the one whose id is in the folder."""
        self._directory.mkdir(parents=True, exist_ok=True)
        name = self._directory / RUN
        known = name.read_text().strip() if name.exists() else None
        self._run = self._start(dir=str(self._directory), id=known, resume="allow")
        name.write_text(f"{self._run.id}\n")

    def write(self, step: int, row: dict[str, Any]) -> None:
        """Sends what is a number."""
        self._run.log({k: v for k, v in row.items() if isinstance(v, int | float)}, step=step)

    def close(self) -> None:
        """Ends the run."""
        if self._run is not None:
            self._run.finish()


def tensorboard(
    directory: str | os.PathLike, batch_size: int, every: int = 100, last: int | None = None
) -> TensorBoard | None:
    """Metrics to TensorBoard; None, with a warning, if neither tensorboardX nor torch's writer is installed."""
    directory = _checked("tensorboard", directory, batch_size, every)
    for name, needs in TENSORBOARD:
        if _installed(name) and _installed(needs):
            writer = importlib.import_module(name).SummaryWriter
            return TensorBoard(writer, directory, batch_size, every, last)
    return _absent("TensorBoard", "tensorboardX")


def wandb(
    directory: str | os.PathLike, batch_size: int, every: int = 100, last: int | None = None
) -> Wandb | None:
    """Metrics to Weights & Biases, under what its environment variables say (WANDB_PROJECT, WANDB_MODE=offline); None, with a
    warning, if it is not installed.
    """
    directory = _checked("wandb", directory, batch_size, every)
    if not _installed("wandb"):
        return _absent("Weights & Biases", "wandb")
    return Wandb(importlib.import_module("wandb").init, directory, batch_size, every, last)


def _checked(who: str, directory: str | os.PathLike, batch_size: int, every: int) -> str | os.PathLike:
    count(who, batch_size=batch_size, every=every)
    if isinstance(directory, str) and "://" in directory:  # a bucket is the writer's to know
        return directory
    return paths.writable(who, paths.folder(who, directory))


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module.split(".")[0]) is not None


def _absent(tool: str, package: str) -> None:
    warnings.warn(f"{tool} gets no metrics: it is not installed. Use pip install {package}.", stacklevel=3)
