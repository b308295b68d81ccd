"""Pictures of images: sample grids and denoising trajectories. An image pixel is whole pixels of the figure."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Array, Float

from jaxdiff.evaluate.canvas import (
    MARGIN,
    Images,
    as_tiles,
    canvas,
    margin,
    place,
    stacked,
    title_height,
    write,
    write_title,
)
from jaxdiff.evaluate.lettering import extent, lines_height, wrap

GAP = 6
LEAST = 320  # the pixels across that a title has at least


def image_grid(
    images: Images,
    path: str | Path,
    columns: int | None = None,
    labels: Sequence[object] | None = None,
    title: str = "",
    size: int = 96,
    formats: Sequence[str] = (),
) -> Path:
    """A picture of images in [0, 1], row by row (a square by default), each at least `size` pixels, labels underneath.

    Raises ValueError for shapes that are no pictures or a number of labels that is not the number of images.
    """
    tiles = as_tiles(images, size)
    n, height, width = tiles.shape[:3]
    if labels is not None and len(labels) != n:
        raise ValueError(f"{n} images need {n} labels; got {len(labels)}.")
    columns = min(n, columns or int(np.ceil(np.sqrt(n))))
    texts = [wrap(str(label), width, 7.5) for label in (() if labels is None else labels)]
    rows = [texts[i : i + columns] for i in range(0, n, columns)]
    steps = [height + GAP + max((4 + lines_height(text, 7.5) for text in row), default=0) for row in rows]
    content = 2 * MARGIN + columns * (width + GAP) - GAP
    sheet = max(content, LEAST if title else 0)
    start = MARGIN + (sheet - content) // 2
    *tops, foot = stacked(title_height(title, sheet), steps)
    with canvas(path, sheet, foot - GAP + MARGIN, formats) as figure:
        write_title(figure, title, sheet)
        for k, tile in enumerate(tiles):
            left, top = start + k % columns * (width + GAP), tops[k // columns]
            place(figure, tile, left, top)
            if texts:
                write(figure, texts[k], left + width / 2, top + height + 4, 7.5, va="top")
    return Path(path)


def trajectory_strip(
    states: Float[Array | np.ndarray, "n times h w c"],
    times: Float[Array | np.ndarray, " times"] | Sequence[float],
    path: str | Path,
    title: str = "",
    size: int = 96,
    formats: Sequence[str] = (),
) -> Path:
    """A picture with a row per example and a column per time, from noise to image or back, `t = ...` above the columns.

    States are shown as images in [0, 1], clipped. Raises ValueError unless there is one time per column.
    """
    states = np.asarray(states)
    n, count = states.shape[:2]
    if len(times) != count:
        raise ValueError(f"{count} states in time need {count} times; got {len(times)}.")
    tiles = as_tiles(states.reshape(n * count, *states.shape[2:]), size)
    height, width = tiles.shape[1:3]
    labels = time_labels(times)
    step = max(width + GAP, *(round(extent(label, 8)) + GAP for label in labels))
    content = (count - 1) * step + width + 2 * max(margin(label, width, 8) for label in labels)
    sheet = max(content, LEAST if title else 0)
    start = (sheet - (count - 1) * step - width) // 2
    head = title_height(title, sheet) + 26
    with canvas(path, sheet, head + n * (height + GAP) - GAP + MARGIN, formats) as figure:
        write_title(figure, title, sheet)
        for j, label in enumerate(labels):
            write(figure, label, start + j * step + width / 2, head - 14)
        for k, tile in enumerate(tiles):
            place(figure, tile, start + k % count * step, head + k // count * (height + GAP))
    return Path(path)


def time_labels(times: Sequence[float] | Float[Array | np.ndarray, " times"]) -> list[str]:
    """`t = 0.75`: three significant digits, the t on the first label only."""
    texts = [f"{float(t):.3g}" for t in times]
    return [f"$t$ = {text}" if j == 0 else text for j, text in enumerate(texts)]
