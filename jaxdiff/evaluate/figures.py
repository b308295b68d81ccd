"""Pictures of images: sample grids and denoising trajectories. An image pixel is whole pixels of the PNG."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Array, Float

from jaxdiff.evaluate.canvas import (
    MARGIN,
    Images,
    as_tiles,
    canvas,
    fit,
    place,
    title_height,
    write,
    write_title,
)

GAP = 6


def image_grid(
    images: Images,
    path: str | Path,
    columns: int | None = None,
    labels: Sequence[object] | None = None,
    title: str = "",
    size: int = 96,
) -> Path:
    """A PNG of images in [0, 1], row by row (a square by default), each at least `size` pixels, labels
    underneath.

    Raises ValueError for shapes that are no pictures or a number of labels that is not the number of images.
    """
    tiles = as_tiles(images, size)
    n, height, width = tiles.shape[:3]
    if labels is not None and len(labels) != n:
        raise ValueError(f"{n} images need {n} labels; got {len(labels)}.")
    columns = min(n, columns or int(np.ceil(np.sqrt(n))))
    caption = 0 if labels is None else 20
    step = height + caption + GAP
    rows = -(-n // columns)
    sheet = 2 * MARGIN + columns * (width + GAP) - GAP
    head = title_height(title, sheet)
    with canvas(path, sheet, head + rows * step - GAP + MARGIN) as figure:
        write_title(figure, title, sheet)
        for k, tile in enumerate(tiles):
            left, top = MARGIN + k % columns * (width + GAP), head + k // columns * step
            place(figure, tile, left, top)
            if labels is not None:
                write(figure, fit(str(labels[k]), width, 7.5), left + width / 2, top + height + 12, 7.5)
    return Path(path)


def trajectory_strip(
    states: Float[Array | np.ndarray, "n times h w c"],
    times: Float[Array | np.ndarray, " times"] | Sequence[float],
    path: str | Path,
    title: str = "",
    size: int = 96,
) -> Path:
    """A PNG with a row per example and a column per time, from noise to image or back, `t = ...` above the
    columns.

    States are shown as images in [0, 1], clipped. Raises ValueError unless there is one time per column.
    """
    states = np.asarray(states)
    n, count = states.shape[:2]
    if len(times) != count:
        raise ValueError(f"{count} states in time need {count} times; got {len(times)}.")
    tiles = as_tiles(states.reshape(n * count, *states.shape[2:]), size)
    height, width = tiles.shape[1:3]
    sheet = 2 * MARGIN + count * (width + GAP) - GAP
    head = title_height(title, sheet) + 26
    with canvas(path, sheet, head + n * (height + GAP) - GAP + MARGIN) as figure:
        write_title(figure, title, sheet)
        for j, label in enumerate(time_labels(times)):
            write(figure, label, MARGIN + j * (width + GAP) + width / 2, head - 14)
        for k, tile in enumerate(tiles):
            place(figure, tile, MARGIN + k % count * (width + GAP), head + k // count * (height + GAP))
    return Path(path)


def time_labels(times: Sequence[float] | Float[Array | np.ndarray, " times"]) -> list[str]:
    """`t = 0.75`: three significant digits, the t on the first label only."""
    texts = [f"{float(t):.3g}" for t in times]
    return [f"$t$ = {text}" if j == 0 else text for j, text in enumerate(texts)]
