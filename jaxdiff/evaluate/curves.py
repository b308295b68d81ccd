"""Curves: accuracy against the radius with confidence bands, training losses, and the metrics file they come
from.
"""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxdiff.evaluate.canvas import PALETTE, canvas, with_gaps

MARKERS = "osD^vPX"
Series = tuple[Any, Any, Any]  # accuracy, low, high: fractions [radii]


def accuracy_curve(
    radii: Any,
    series: Mapping[str, Series],
    path: str | Path,
    xlabel: str = r"radius ($\ell_\infty$)",
    title: str = "Accuracy under attack",
) -> Path:
    """A PNG of accuracy in % against the radius, for {name: (accuracy, low, high)} fractions, with the
    interval as band.

    Raises ValueError unless all three have one value per radius.
    """
    for name, values in series.items():
        if any(np.shape(v) != np.shape(radii) for v in values):
            raise ValueError(f"{name}: accuracy, low and high need one value for each of {len(radii)} radii.")
    with canvas(path, 930, 630, layout="constrained") as figure:
        axes = figure.add_subplot(xlabel=xlabel, ylabel="accuracy (%)", title=title)
        for k, (name, values) in enumerate(series.items()):
            label = with_gaps(name, *values)
            accuracy, low, high = (100 * np.asarray(v) for v in values)
            colour = PALETTE[k % len(PALETTE)]
            axes.fill_between(radii, low, high, color=colour, alpha=0.18, linewidth=0)
            axes.plot(
                radii, accuracy, color=colour, marker=MARKERS[k % len(MARKERS)], markersize=4.5, label=label
            )
        axes.set_ylim(0, 102)
        axes.legend(loc="best")
    return Path(path)


def loss_curves(
    series: Mapping[str, tuple[Any, Any]],
    path: str | Path,
    title: str = "Training loss",
    ylabel: str = "loss",
) -> Path:
    """A PNG of {name: (steps, losses)}: each value thin, its running average thick; a log axis if all are
    positive.
    """
    with canvas(path, 930, 630, layout="constrained") as figure:
        axes = figure.add_subplot(xlabel="step", ylabel=ylabel, title=title)
        for k, (name, (steps, losses)) in enumerate(series.items()):
            steps, losses = np.asarray(steps, float), np.asarray(losses, float)
            colour = PALETTE[k % len(PALETTE)]
            axes.plot(steps, losses, color=colour, linewidth=0.6, alpha=0.35)
            axes.plot(steps, smooth(losses), color=colour, linewidth=1.8, label=with_gaps(name, losses))
        if all(np.nanmin(np.asarray(v, float), initial=np.inf) > 0 for _, v in series.values()):
            _log_axis(axes)
        axes.legend(loc="best")
    return Path(path)


def _log_axis(axes: Any) -> None:
    """Logarithmic with plain decimals: 1, 2 and 5 of every decade where powers of ten alone are too few."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 300 else (1,)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())


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
