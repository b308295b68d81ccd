"""Rows of tables of tests of which a few run by default: compilations take nearly all of the time."""

from collections.abc import Iterable
from typing import Any

import pytest


def slow_but(rows: Iterable[Any], *quick: Any) -> list[Any]:
    """Every row as a parameter, and those that are not `quick` marked slow; ValueError for a quick one that is no row."""
    rows = list(rows)
    for row in quick:
        if row not in rows:
            raise ValueError(f"{row!r} is none of the rows {rows}.")
    slow = [pytest.mark.slow]
    return [
        pytest.param(*(r if isinstance(r, tuple) else (r,)), marks=[] if r in quick else slow) for r in rows
    ]
