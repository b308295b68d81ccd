"""Curves that coincide are both seen, and none is moved."""

import itertools

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from jaxdiff.evaluate import accuracy_curve, loss_curves
from jaxdiff.evaluate.canvas import PALETTE
from jaxdiff.evaluate.layers import PERIOD, coincide, layered

X = np.arange(11.0)
PLAIN = layered([(X, X)], 0.1)[0]


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        (X, True),
        (X + 0.05, True),
        (X + 0.2, False),
        (10 - X, False),  # they cross
        (np.where(X < 8, X + 1, X), True),  # the last fifth of the way
        (np.where(X < 9, X + 1, X), False),
        (np.full(11, np.nan), False),
        (np.full(11, np.inf), False),
    ],
)
def test_curves_coincide_where_they_run_together(y, expected):
    assert coincide((X, X), (X, y), 0.1) is coincide((X, y), (X, X), 0.1) is expected


def test_curves_are_compared_where_both_are():
    assert coincide((X, X), (X[3:6], X[3:6]), 0.1) and not coincide((X, X), (X + 0.5, X + 0.5), 0.1)
    assert coincide((X[:1], X[:1]), (X[:1], X[:1]), 0.1)


@pytest.mark.parametrize("m", [2, 3, 5])
def test_of_m_curves_each_is_seen_in_its_share_of_every_period(m):
    layers = layered([(X, X)] * m, 0.1)
    share = (np.arange(1000) + 0.5) / 1000
    on = [share < layer.dashes[0] / PERIOD if layer.dashes else share < 1 for layer in layers]
    top = np.max([np.where(seen, k, -1) for k, seen in enumerate(on)], axis=0)
    np.testing.assert_allclose(np.bincount(top, minlength=m) / 1000, 1 / m, atol=2e-3)
    assert all(sum(layer.dashes) == pytest.approx(PERIOD) for layer in layers[1:])
    for lower, upper in itertools.pairwise(layers):
        assert lower.width > upper.width and lower.marker > upper.marker


def test_only_curves_that_coincide_are_layered_also_by_way_of_a_third():
    far, near, between = (X, X + 9), (X, X + 0.16), (X, X + 0.08)
    assert layered([(X, X), far, near], 0.1) == [PLAIN] * 3
    found = layered([(X, X), far, near, between], 0.1)
    assert found[1] == PLAIN and len({found[0], found[2], found[3]}) == 3


def seen(path, colour):
    """How many pixels above the legend have a colour."""
    png = np.round(255 * imread(path)[:520, ..., :3]).astype(int)
    return int((png == np.round(255 * np.array(to_rgb(colour))).astype(int)).all(-1).sum())


def test_three_equal_series_are_all_seen(tmp_path):
    radii, falling = np.arange(6), np.linspace(0.9, 0.1, 6)
    equal = accuracy_curve(radii, dict.fromkeys("abc", (falling,) * 3), tmp_path / "a.png")
    tail = {
        name: (np.r_[first, 0.5, 0, 0, 0, 0],) * 3 for name, first in (("a", 0.9), ("b", 0.7), ("c", 0.8))
    }
    tail = accuracy_curve(radii, tail, tmp_path / "t.png")
    losses = {name: (np.arange(200), np.exp(-np.arange(200) / 50)) for name in "abc"}
    for path in (equal, tail, loss_curves({"loss": losses}, tmp_path / "l.png")):
        assert min(seen(path, colour) for colour in PALETTE[:3]) > 300
