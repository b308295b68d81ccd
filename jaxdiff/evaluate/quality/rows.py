"""Rows of numbers as the metrics take them."""

from typing import Any

import numpy as np


def rows_of(who: str, features: Any, least: int = 1) -> np.ndarray:
    """Features [n, d] in float64; ValueError unless there are `least` rows at least, all finite."""
    x = np.asarray(features, np.float64)
    if x.ndim != 2 or len(x) < least or not x.shape[1]:
        raise ValueError(f"{who} needs features [n, d] of at least {least} images; got shape {x.shape}.")
    if not np.isfinite(x).all():
        bad = int((~np.isfinite(x).all(1)).sum())
        raise ValueError(
            f"{who} needs finite features; those of {bad} of {len(x)} images are not. Leave out broken samples, and say so."
        )
    return x


def two_of(who: str, a: Any, b: Any, least: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Two such, of as many features; ValueError if these differ."""
    a, b = rows_of(who, a, least), rows_of(who, b, least)
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"{who} compares equal features; got {a.shape[1]} and {b.shape[1]} of an image.")
    return a, b
