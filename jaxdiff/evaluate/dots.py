"""Pixels and points: the one resolution of all pictures."""

Number = float | int
DPI = 150


def pixels(size: Number) -> float:
    """`size` points in pixels."""
    return size * DPI / 72
