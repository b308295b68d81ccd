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
    if not series:
        raise ValueError("A plot needs at least one series; got none.")
    numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    x = np.asarray(values, float) if numeric else np.arange(len(values), dtype=float)
    drawn = {name: [np.asarray(each, float) for each in three] for name, three in series.items()}
    names = [with_gaps(name, *three) for name, three in drawn.items()]
    heights = np.concatenate([three[0][np.isfinite(three[0])] for three in drawn.values()])
    reach = REACH * float(np.ptp(heights)) if len(heights) else 0.0
    layers = layered([(x, three[0]) for three in drawn.values()], reach)
    with plots(path, title, xlabel, [ylabel], [*names, interval], formats) as (axes,):
        for k, (value, low, high) in enumerate(drawn.values()):
            colour = PALETTE[k % len(PALETTE)]
            axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
            curve = drawn_line(axes, x, value, colour, layers[k])
            curve.set(
                marker=MARKERS[k % len(MARKERS)], markersize=layers[k].marker, label=legend_entry(names[k])
            )
        axes.fill_between([], [], color=MUTED, alpha=0.18, linewidth=0, label=legend_entry(interval))
        if not numeric:
            axes.set_xticks(x, [str(value) for value in values])
            axes.set_xlim(-0.5, len(values) - 0.5)
    rows = ((name, *point) for name, three in drawn.items() for point in zip(values, *three, strict=True))
    write_beside(path, ("series", "x", "y", "low", "high"), rows)
    return Path(path)
