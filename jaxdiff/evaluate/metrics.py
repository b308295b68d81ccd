"""The metrics of a training run: read from their file, and smoothed."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


def smooth(values: np.ndarray, width: float | int | None = None) -> np.ndarray:
    """A running average (Gaussian weights, `width` values wide, a fiftieth of them by default) that skips
    non-finite ones.

    Symmetric in time, so it does not lag; weights are renormalised at the ends and at gaps. NaN where nothing
    is near.
    """
    values = np.asarray(values, float)
    if not len(values):
        return values
    width = max(width or len(values) / 50, 1e-3)
    reach = min(int(np.ceil(4 * width)), len(values) - 1)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
    good = np.isfinite(values)
    middle = slice(reach, reach + len(values))
    total = np.convolve(np.where(good, values, 0.0), kernel)[middle]
    weight = np.convolve(good.astype(float), kernel)[middle]
    return np.divide(total, weight, out=np.full(len(values), np.nan), where=weight > 0)


def read_metrics(path: str | Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """{name: (steps, values)} from a file of JSON lines {"step": 10, "loss": 0.5, ...}, sorted by step.

    A step logged twice (a run resumed from before it) counts once, the later time. Unreadable lines are
    warned about and skipped; values that are no numbers are left out. ValueError if no line is readable.
    """
    metrics: dict[str, dict[int, float]] = {}
    for number, line in enumerate(Path(path).read_text(errors="replace").splitlines(), start=1):
        row = _parse(line)
        if row is None:
            logging.getLogger(__name__).warning("%s line %d skipped: no metrics", path, number)
            continue
        for name, value in row.items():
            if name != "step" and isinstance(value, (int, float)) and not isinstance(value, bool):
                metrics.setdefault(name, {})[row["step"]] = float(value)
    if not metrics:
        raise ValueError(f"{path} holds no line like {{'step': 10, 'loss': 0.5}}.")
    return {name: _sorted(values) for name, values in metrics.items()}


def _parse(line: str) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and isinstance(row.get("step"), int) else None


def _sorted(values: Mapping[int, float]) -> tuple[np.ndarray, np.ndarray]:
    steps = sorted(values)
    return np.asarray(steps), np.asarray([values[s] for s in steps])
