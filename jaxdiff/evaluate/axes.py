"""Any number against the values of an axis, with intervals: what a sweep shows. Its numbers lie beside it as CSV."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxdiff.evaluate.canvas import MUTED, PALETTE, with_gaps
from jaxdiff.evaluate.curves import MARKERS, drawn_line, legend_entry, plots
from jaxdiff.evaluate.layers import layered
from jaxdiff.evaluate.tidy import write_beside

Series = tuple[Any, Any, Any]  # value, low, high [values of the axis]
Points = tuple[Any, Any, Any, Any]  # x, value, low, high
REACH = 0.007  # of the height: how near two lines look like one


def axis_plot(
    values: Sequence[Any],
    series: Mapping[str, Series],
    path: str | Path,
    xlabel: str,
    ylabel: str,
    title: str = "",
    interval: str = "95 % interval over seeds",
    formats: Sequence[str] = (),
) -> Path:
    """{name: (value, low, high)} against the values of an axis: in proportion if these are numbers, else side by side.

    What is NaN is not there. Beside it, as CSV: series, x, y, low, high. ValueError unless every series has a number for each
    value of the axis.
    """
    for name, three in series.items():
        if len(three) != 3 or any(len(each) != len(values) for each in three):
            raise ValueError(f"{name}: value, low and high need a number for each of {len(values)} values.")
    numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    points = {name: (values, *three) for name, three in series.items()}
    return _draw(points, path, xlabel, ylabel, title, interval, formats, None if numeric else values)


def against_plot(
    series: Mapping[str, Points],
    path: str | Path,
    xlabel: str,
    ylabel: str,
    title: str = "",
    interval: str = "95 % interval over seeds",
    formats: Sequence[str] = (),
) -> Path:
    """{name: (x, value, low, high)}, each with values x of its own, such as numbers of evaluations, on a logarithmic axis.

    Beside it, as CSV: series, x, y, low, high. ValueError unless a series has as many of each, and x above 0.
    """
    for name, four in series.items():
        if len(four) != 4 or len({len(each) for each in four}) != 1 or not all(x > 0 for x in four[0]):
            raise ValueError(f"{name}: every value has an x above 0, a low and a high.")
    return _draw(series, path, xlabel, ylabel, title, interval, formats, logarithmic=True)


def _draw(
    series: Mapping[str, Points],
    path: str | Path,
    xlabel: str,
    ylabel: str,
    title: str,
    interval: str,
    formats: Sequence[str],
    categories: Sequence[Any] | None = None,
    logarithmic: bool = False,
) -> Path:
    """The lines with their intervals, and their numbers beside them; x are numbers, or these categories, side by side."""
    if not series:
        raise ValueError("A plot needs at least one series; got none.")
    places = lambda x: np.asarray(x, float) if categories is None else np.arange(len(x), dtype=float)
    drawn = {n: [places(x), *(np.asarray(v, float) for v in three)] for n, (x, *three) in series.items()}
    names = [with_gaps(name, *four[1:]) for name, four in drawn.items()]
    heights = np.concatenate([four[1][np.isfinite(four[1])] for four in drawn.values()])
    reach = REACH * float(np.ptp(heights)) if len(heights) else 0.0
    layers = layered([(four[0], four[1]) for four in drawn.values()], reach)
    with plots(path, title, xlabel, [ylabel], [*names, interval], formats) as (axes,):
        for k, (x, value, low, high) in enumerate(drawn.values()):
            colour = PALETTE[k % len(PALETTE)]
            axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
            curve = drawn_line(axes, x, value, colour, layers[k])
            curve.set(
                marker=MARKERS[k % len(MARKERS)], markersize=layers[k].marker, label=legend_entry(names[k])
            )
        axes.fill_between([], [], color=MUTED, alpha=0.18, linewidth=0, label=legend_entry(interval))
        if categories is not None:
            axes.set_xticks(np.arange(len(categories)), [str(value) for value in categories])
            axes.set_xlim(-0.5, len(categories) - 0.5)
        if logarithmic:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter("{x:g}")
    rows = ((name, *point) for name, four in series.items() for point in zip(*four, strict=True))
    write_beside(path, ("series", "x", "y", "low", "high"), rows)
    return Path(path)
