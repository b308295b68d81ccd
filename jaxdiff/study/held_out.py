"""Metrics on a held-out part of the data, a few times in a training run and at its end.

`validation.jsonl` holds {"step": 600, "loss": 0.1, ...} of every evaluation; `results.json` the last ones, with n, for whoever
gathers them.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxdiff.data.dataset import Dataset
from jaxdiff.data.stream import epoch
from jaxdiff.evaluate.atomic import write_text
from jaxdiff.keys import purpose
from jaxdiff.study.networks import final_variables
from jaxdiff.study.study import Run
from jaxdiff.train import TrainState, data_mesh, spread
from jaxdiff.train.jsonl import append_jsonl, cut_jsonl

LOG, RESULTS = "validation.jsonl", "results.json"
WIDTH = 64  # examples that a device evaluates at a time
Measure = Callable[[Any, Any, Any], dict[str, Any]]


class HeldOut(NamedTuple):
    """The held-out part of a run, and what is measured on it; false if there is none."""

    folder: Path
    data: Dataset | None
    measured: Callable | None
    key: Any

    @classmethod
    def of(cls, run: Run, data: Dataset | None, measure: Measure | None) -> "HeldOut":
        """`measure(variables, batch, keys)` gives {metric: [B]}; an example draws the same numbers at every evaluation."""
        if data is None or measure is None:
            return cls(run.folder, None, None, None)
        key = purpose(run.key, "held out")
        f = lambda common, batch: measure(common[0], batch, common[1])
        return cls(run.folder, data, spread(f, data_mesh(), WIDTH), key)

    def __bool__(self) -> bool:
        return self.data is not None

    def measure(self, variables: Any) -> dict[str, float]:
        """{metric: mean over the held-out part}."""
        found: dict[str, list[np.ndarray]] = {}
        for batch in epoch(self.data, WIDTH * data_mesh().size):
            valid = batch.pop("valid")
            values = jax.device_get(self.measured((variables, self.key), batch))
            for name, each in values.items():
                found.setdefault(name, []).append(np.asarray(each, np.float64)[valid])
        return {name: float(np.mean(np.concatenate(each))) for name, each in found.items()}

    def hook(self, step: int, state: TrainState, metrics: dict[str, Any]) -> None:
        """For the loop: evaluates, and logs."""
        self._log(step, self.measure(jax.device_get(final_variables(state))))

    def finish(self, step: int, variables: Any) -> None:
        """Evaluates at the end, unless that is on disk."""
        if not self or (self.folder / RESULTS).exists():
            return
        found = self.measure(variables)
        self._log(step, found)
        records = [
            {"metric": name, "split": "validation", "value": value, "step": step, "n": len(self.data)}
            for name, value in found.items()
        ]
        write_text(self.folder / RESULTS, json.dumps(records, indent=2) + "\n")

    def _log(self, step: int, found: dict[str, float]) -> None:
        if jax.process_index() == 0:
            cut_jsonl(self.folder / LOG, step - 1)
            append_jsonl(self.folder / LOG, {"step": step, **found})
