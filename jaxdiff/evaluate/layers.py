"""Curves that lie on each other, each of them still seen: the lower ones wider, the upper ones broken. None is moved."""

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np

from jaxdiff.evaluate.dots import Number

PERIOD = 14.0  # points: dashes of all layers begin together
Curve = tuple[np.ndarray, np.ndarray]  # x, y


class Layer(NamedTuple):
    """How a curve is drawn, in points: the width of its line, its dashes (on, off; none is solid), the size of its markers."""

    width: float
    dashes: tuple[float, ...]
    marker: float


def layered(curves: Sequence[Curve], reach: Number) -> list[Layer]:
    """The layer of every curve, in the order in which they are drawn; those that coincide with none are plain lines.

    Of m curves that coincide the one at height j leaves j/m of every period open, so that each is seen in 1/m of it.
    """
    found = [Layer(1.8, (), 4.5)] * len(curves)
    for group in _groups(curves, reach):
        m = len(group)
        for j, k in enumerate(sorted(group)):
            dashes = (PERIOD * (m - j) / m, PERIOD * j / m) if j else ()
            found[k] = Layer(1.8 + 1.0 * (m - 1 - j), dashes, 4.5 + 2.0 * (m - 1 - j))
    return found


def coincide(a: Curve, b: Curve, reach: Number) -> bool:
    """Whether two curves differ by at most `reach` over a fifth of the steps that they share, or in their only point."""
    _, i, j = np.intersect1d(a[0], b[0], return_indices=True)
    with np.errstate(invalid="ignore"):  # what is not finite coincides with nothing
        close = np.abs(a[1][i] - b[1][j]) <= reach
    if len(close) < 2:
        return bool(close.any())
    return bool((close[1:] & close[:-1]).sum() >= max(1, (len(close) - 1) / 5))


def _groups(curves: Sequence[Curve], reach: Number) -> list[list[int]]:
    groups: list[list[int]] = []
    for k, curve in enumerate(curves):
        touched = [group for group in groups if any(coincide(curve, curves[i], reach) for i in group)]
        groups = [group for group in groups if group not in touched] + [[k, *chain(*touched)]]
    return groups
