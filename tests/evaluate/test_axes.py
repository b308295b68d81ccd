"""Plots by axis: what is drawn lies beside it as numbers; categories stand side by side, numbers in proportion."""

import csv

import numpy as np
import pytest
from matplotlib import pyplot

from jaxdiff.evaluate import axes, curves


@pytest.mark.parametrize(
    ("values", "places"), [(("eps", "x0", "v"), [0.0, 1.0, 2.0]), ((0.1, 0.2, 0.8), [0.1, 0.2, 0.8])]
)
def test_values_stand_where_they_belong(tmp_path, monkeypatch, values, places):
    drawn, line = [], curves.drawn_line

    def noting(plot, x, y, *rest):
        drawn.append((np.asarray(x).tolist(), np.asarray(y).tolist()))
        return line(plot, x, y, *rest)

    monkeypatch.setattr(axes, "drawn_line", noting)
    series = {
        "a": ([1.0, 2.0, 3.0], [0.5, 1.5, 2.5], [1.5, 2.5, 3.5]),
        "b": ([3.0, np.nan, 1.0], *[[np.nan] * 3] * 2),
    }
    path = axes.axis_plot(values, series, tmp_path / "plot.png", "kind", "loss")
    assert path.exists() and [x for x, _ in drawn] == [places, places] and drawn[0][1] == [1.0, 2.0, 3.0]
    rows = list(csv.DictReader((tmp_path / "plot.csv").read_text().splitlines()))
    assert [row["x"] for row in rows[:3]] == [str(value) for value in values]
    assert [row["high"] for row in rows[:3]] == ["1.5", "2.5", "3.5"]
    assert not pyplot.get_fignums()  # nothing is left open


def test_what_is_no_series_is_said(tmp_path):
    with pytest.raises(ValueError, match="a number for each of 2 values"):
        axes.axis_plot((1, 2), {"a": ([1.0], [1.0], [1.0])}, tmp_path / "a.png", "x", "y")
    with pytest.raises(ValueError, match="at least one series"):
        axes.axis_plot((1, 2), {}, tmp_path / "a.png", "x", "y")


def test_series_have_places_of_their_own_on_a_logarithmic_axis(tmp_path, monkeypatch):
    drawn, line = [], curves.drawn_line

    def noting(plot, x, y, *rest):
        drawn.append((plot.get_figure(), np.asarray(x).tolist()))
        return line(plot, x, y, *rest)

    monkeypatch.setattr(axes, "drawn_line", noting)
    series = {
        "a": ([5, 10, 50], [3.0, 2.0, 1.0], [2.5, 1.5, 0.5], [3.5, 2.5, 1.5]),
        "b": ([9, 19], [2.0, 1.0], [1.0, 0.5], [3.0, 1.5]),
    }
    path = axes.against_plot(series, tmp_path / "plot.png", "evaluations", "fid")
    assert path.exists() and [x for _, x in drawn] == [[5.0, 10.0, 50.0], [9.0, 19.0]]
    rows = list(csv.DictReader((tmp_path / "plot.csv").read_text().splitlines()))
    assert [(row["series"], row["x"], row["y"]) for row in rows[3:]] == [
        ("b", "9", "2.0"),
        ("b", "19", "1.0"),
    ]
    for wrong in ({"a": ([1, 2], [1.0], [1.0], [1.0])}, {"a": ([0], [1.0], [1.0], [1.0])}, {}):
        with pytest.raises(ValueError, match=r"above 0|at least one series"):
            axes.against_plot(wrong, tmp_path / "plot.png", "evaluations", "fid")
