"""Curves: accuracy against the radius with confidence bands, and training losses; the numbers beside them as CSV."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from jaxdiff import checks
from jaxdiff.evaluate.canvas import MARGIN, MUTED, PALETTE, canvas, with_gaps
from jaxdiff.evaluate.layers import Layer, layered
from jaxdiff.evaluate.lettering import extent, lines_height, wrap
from jaxdiff.evaluate.metrics import smooth
from jaxdiff.evaluate.tidy import write_beside

Series = tuple[Any, Any, Any]  # accuracy, low, high: fractions [radii]
Losses = tuple[Any, Any]  # steps, losses
WIDTH, HEIGHT, HANDLE = 930, 560, 76  # pixels of a sheet, an axis and a line in the legend
SMALL = 8.5  # points of the letters there
MARKERS = "osD^vPX*"  # one more than there are colours: 56 curves before two look alike
STEPS = "step (thin: every value, thick: their running average)"
REACH = 0.007  # of the height of an axis: about the width of a line


def accuracy_curve(
    radii: Any,
    series: Mapping[str, Series],
    path: str | Path,
    xlabel: str = r"radius ($\ell_\infty$)",
    title: str = "Accuracy under attack",
    interval: str = "95 % Clopper-Pearson interval",
    formats: Sequence[str] = (),
) -> Path:
    """A figure of accuracy in % against the radius, for {name: (accuracy, low, high)} fractions, with the `interval` as band.

    Beside it, as CSV: series, x, y, low, high, the fractions as they were given. Raises ValueError unless all three are
    fractions, one for every radius.
    """
    _check_accuracies(radii, series)
    radii = np.asarray(radii)
    values = {name: [np.asarray(v, float) for v in three] for name, three in series.items()}
    names = [with_gaps(name, *three) for name, three in values.items()]
    layers = layered([(radii, 100 * three[0]) for three in values.values()], 100 * REACH)
    with plots(path, title, xlabel, ["accuracy (%)"], [*names, interval], formats) as (axes,):
        for k, (accuracy, low, high) in enumerate(values.values()):
            colour, marker = PALETTE[k % len(PALETTE)], MARKERS[k % len(MARKERS)]
            axes.fill_between(radii, 100 * low, 100 * high, color=colour, alpha=0.18, linewidth=0)
            line = drawn_line(axes, radii, 100 * accuracy, colour, layers[k])
            line.set(marker=marker, markersize=layers[k].marker, label=legend_entry(names[k]))
        axes.fill_between([], [], color=MUTED, alpha=0.18, linewidth=0, label=legend_entry(interval))
        axes.set_ylim(-2, 102)
    rows = ((name, *point) for name, v in values.items() for point in zip(radii, *v, strict=True))
    write_beside(path, ("series", "x", "y", "low", "high"), rows)
    return Path(path)


def loss_curves(
    kinds: Mapping[str, Mapping[str, Losses]],
    path: str | Path,
    title: str = "Training loss",
    formats: Sequence[str] = (),
) -> Path:
    """A figure of {kind of loss: {name: (steps, losses)}}: each value thin, its running average thick. Every kind has an axis,
    for they share no scale: a logarithmic one if all of its values are positive.

    Beside it, as CSV: kind, series, step, value, average. Raises ValueError unless every loss has its step.
    """
    _check_losses(kinds)
    series = [(k, n, *map(_numbers, pair)) for k, named in kinds.items() for n, pair in named.items()]
    names = [with_gaps(name, losses) for _, name, _, losses in series]
    averages = [smooth(losses) for *_, losses in series]
    with plots(path, title, STEPS, list(kinds), names, formats) as every:
        for kind, axes in zip(kinds, every, strict=True):
            own = [k for k in range(len(series)) if series[k][0] == kind]
            positive = all(np.nanmin(series[k][3], initial=np.inf) > 0 for k in own)
            layers = layered(*_heights([(series[k][2], averages[k]) for k in own], positive))
            for k, layer in zip(own, layers, strict=True):
                colour, (_, _, steps, losses) = PALETTE[k % len(PALETTE)], series[k]
                axes.plot(steps, losses, color=colour, linewidth=0.6, alpha=0.35)
                drawn_line(axes, steps, averages[k], colour, layer).set(label=legend_entry(names[k]))
            if positive:
                _log_axis(axes)
    rows = (
        (kind, name, *point)
        for (kind, name, *pair), average in zip(series, averages, strict=True)
        for point in zip(*pair, average, strict=True)
    )
    write_beside(path, ("kind", "series", "step", "value", "average"), rows)
    return Path(path)


@contextmanager
def plots(
    path: str | Path, title: str, xlabel: str, ylabels: list[str], names: list[str], formats: Sequence[str]
) -> Iterator[list[Any]]:
    """Yields axes, one below the other, and writes the legend of all of them underneath; the sheet grows with its texts."""
    title, xlabel = wrap(title, WIDTH - 2 * MARGIN, 11), wrap(xlabel, WIDTH - 160, 9.5)
    entries = [legend_entry(name) for name in names]
    widest = max(extent(line, SMALL) for entry in entries for line in entry.splitlines() or [""])
    columns = max(1, int((WIDTH - 2 * MARGIN) / (HANDLE + widest)))
    rows = [entries[i::columns] for i in range(-(-len(entries) // columns))]
    legend = sum(max(lines_height(entry, SMALL) for entry in row) + 10 for row in rows)
    height = len(ylabels) * HEIGHT + lines_height(title, 11) + legend
    with canvas(path, WIDTH, height, formats, layout="constrained") as figure:
        figure.suptitle(title, fontsize=11)
        every = list(figure.subplots(len(ylabels), squeeze=False)[:, 0])
        for axes, ylabel in zip(every, ylabels, strict=True):
            axes.set(xlabel=xlabel, ylabel=wrap(ylabel, HEIGHT - 120, 9.5))
        yield every
        lines = [line for axes in every for line in axes.get_legend_handles_labels()[0]]
        figure.legend(
            handles=lines, loc="outside lower center", ncols=columns, fontsize=SMALL, handlelength=4
        )


def legend_entry(name: str) -> str:
    """The name in lines that the figure is wide enough for."""
    return wrap(name, WIDTH - 2 * MARGIN - HANDLE, SMALL)


def drawn_line(axes: Any, x: np.ndarray, y: np.ndarray, colour: str, layer: Layer) -> Any:
    """The line of a curve, in the width and dashes of its layer, so that those below show."""
    (line,) = axes.plot(x, y, color=colour, linewidth=layer.width)
    if layer.dashes:
        line.set_linestyle((0, tuple(d / layer.width for d in layer.dashes)))  # matplotlib multiplies by it
    return line


def _heights(curves: list[tuple[np.ndarray, np.ndarray]], logarithmic: bool) -> tuple[list, float]:
    """The curves as they lie on their axis, and how near to each other they look like one."""
    if logarithmic:
        curves = [(x, np.log(y)) for x, y in curves]
    values = np.concatenate([y[np.isfinite(y)] for _, y in curves])
    return curves, float(REACH * np.ptp(values)) if len(values) else 0.0


def _numbers(values: Any) -> np.ndarray:
    return np.asarray(values, float)


def _check_accuracies(radii: Any, series: Mapping[str, Series]) -> None:
    if not series:
        raise ValueError("A curve needs at least one series; got none.")
    for name, values in series.items():
        if len(values) != 3 or any(np.shape(v) != np.shape(radii) for v in values):
            raise ValueError(f"{name}: accuracy, low and high need one value for each of {len(radii)} radii.")
        given = np.asarray(values, float)
        finite = given[np.isfinite(given)]
        if ((finite < 0) | (finite > 1)).any():
            raise ValueError(
                f"{name}: accuracies are fractions in [0, 1]; got {finite.min():g} to {finite.max():g}."
            )


def _check_losses(kinds: Mapping[str, Mapping[str, Losses]]) -> None:
    like = '{"denoising loss": {"score": (steps, losses)}}'
    checks.instance("loss_curves", Mapping, like, kinds=kinds)
    checks.instance("loss_curves", Mapping, like, **{str(kind): named for kind, named in kinds.items()})
    if not kinds or not all(kinds.values()):
        raise ValueError(
            f"loss_curves needs at least one series of every kind, such as {like}; got {list(kinds)}."
        )
    for name, pair in ((n, pair) for named in kinds.values() for n, pair in named.items()):
        if len(pair) != 2 or np.shape(pair[0]) != np.shape(pair[1]) or np.ndim(pair[0]) != 1:
            raise ValueError(f"{name}: every loss needs its step; got shapes {[np.shape(p) for p in pair]}.")


def _log_axis(axes: Any) -> None:
    """Logarithmic with plain decimals: 1, 2 and 5 of every decade where powers of ten alone are too few."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 300 else (1,)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
