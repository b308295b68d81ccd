"""The picture of a spatial attack: the image, what became of it, the difference, and which way its content went.

A flow f says where every pixel of the attacked image looks: pixel p shows what was at p + f. So the content went by -f, from
p + f to p, and that is what an arrow shows: its tip is at p.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Float

from jaxdiff.evaluate.canvas import (
    DPI,
    MARGIN,
    MUTED,
    Images,
    as_tiles,
    canvas,
    enlarge,
    margin,
    place,
    stacked,
    title_height,
    write,
    write_title,
)
from jaxdiff.evaluate.differences import difference, signed_colours
from jaxdiff.evaluate.lettering import extent, lines_height, wrap
from jaxdiff.evaluate.tidy import write_beside

Values = Float[Array | np.ndarray, "..."]
GAP, HEAD, FOOT = 8, 30, 12
HEADINGS = ("image", "attacked", "difference", "movement")
COLUMNS = ("example", "label", "difference", "movement", "not finite", "magnified")
KEY = "difference: mean over channels, blue below and red above zero; an arrow ends where what it moved has arrived"
ARROW = "#ffd400"


class Arrows(NamedTuple):
    """Tips (column, row) in pixels and movements (right, down) of the content there in pixels, times `factor`."""

    columns: np.ndarray
    rows: np.ndarray
    right: np.ndarray
    down: np.ndarray
    factor: float


def arrows(flow: Float[Array | np.ndarray, "h w 2"], most: int = 16) -> Arrows:
    """The movement of the content of one image, at up to `most` pixels along its longer side.

    If all are shorter than two arrows are apart, they are magnified by a power of two. Those that would be dots are left out.
    """
    flow = np.nan_to_num(np.asarray(flow, np.float64), posinf=0.0, neginf=0.0)
    height, width = flow.shape[:2]
    every = -(-max(height, width) // most)
    places = [np.arange((side - 1) % every // 2, side, every) for side in (height, width)]
    rows, columns = (grid.ravel() for grid in np.meshgrid(*places, indexing="ij"))
    right, down = (-flow[rows, columns] * [width / 2, height / 2]).T
    longest = np.hypot(right, down).max()
    factor = 2.0 ** max(0.0, np.floor(np.log2(1.5 * every / longest))) if longest > 1e-4 else 1.0
    seen = factor * np.hypot(right, down) > 0.1 * every
    return Arrows(columns[seen], rows[seen], factor * right[seen], factor * down[seen], factor)


def flow_figure(
    images: Images,
    attacked: Values,
    flows: Values,
    path: str | Path,
    labels: Sequence[object] | None = None,
    title: str = "",
    size: int = 256,
    formats: Sequence[str] = (),
) -> Path:
    """A row per example: the image, the attacked image, their difference (blue below, red above zero), the arrows.

    Images are [n, h, w, c] in [0, 1]; flows [n, h, w, 2] are in units of half the image, horizontal first, as attacks by flow
    give them; `labels` stand under the attacked images, such as "cat, seen as dog". Beside it, as CSV: of every
    example the label, the largest difference and movement (in pixels), and how many times its arrows are magnified. Raises
    ValueError if shapes disagree.
    """
    images, attacked, flows = (np.asarray(a) for a in (images, attacked, flows))
    _check(images, attacked, flows, labels)
    pairs = zip(images[:, None], attacked[:, None], strict=True)
    deltas, bounds = zip(*(difference(*pair) for pair in pairs), strict=True)
    colours = np.concatenate([signed_colours(*pair) for pair in zip(deltas, bounds, strict=True)])
    columns = [
        as_tiles(images, size),
        as_tiles(attacked, size),
        enlarge(colours, size),
        as_tiles(images / 2, size),
    ]
    height, width = columns[0].shape[1:3]
    slot = max(width, *(round(extent(heading, 8.5)) for heading in HEADINGS))
    lefts = [margin(HEADINGS[0], width, 8.5) + k * (slot + GAP) for k in range(4)]
    fields = [arrows(flow) for flow in flows]
    names = [""] * len(images) if labels is None else [str(label) for label in labels]
    notes = [
        [wrap(note, slot, 7.5) for note in ("", name, f"±{255 * bound:.3g}/255", _lengths(flow, field))]
        for name, bound, flow, field in zip(names, bounds, flows, fields, strict=True)
    ]
    sheet = lefts[-1] + width + margin(HEADINGS[-1], width, 8.5)
    head = title_height(title, sheet) + HEAD
    steps = [height + 14 + max(lines_height(note, 7.5) for note in row) for row in notes]
    *tops, foot = stacked(head, steps)
    key = wrap(KEY, sheet - 2 * MARGIN, 6.5)
    with canvas(path, sheet, foot + FOOT + lines_height(key, 6.5), formats) as figure:
        write_title(figure, title, sheet)
        for name, left in zip(HEADINGS, lefts, strict=True):
            write(figure, name, left + width / 2, head - 16, 8.5)
        for k, (field, top) in enumerate(zip(fields, tops, strict=True)):
            for tiles, note, left in zip(columns, notes[k], lefts, strict=True):
                place(figure, tiles[k], left, top)
                write(figure, note, left + width / 2, top + height + 4, 7.5, va="top", color=MUTED)
            _draw(_axes(figure, lefts[3], top, height, width, images.shape[1:3]), field)
        write(figure, key, sheet / 2, foot + 2, 6.5, va="top", color=MUTED)
    rows = ((k, names[k], bounds[k], *_longest(flows[k]), fields[k].factor) for k in range(len(images)))
    write_beside(path, COLUMNS, rows)
    return Path(path)


def _longest(flow: np.ndarray) -> tuple[float, int]:
    """The longest movement in pixels, and how many pixels have none that is finite."""
    height, width = flow.shape[:2]
    moved = np.nan_to_num(flow, posinf=0.0, neginf=0.0) * [width / 2, height / 2]
    return float(np.hypot(*moved.T).max()), int((~np.isfinite(flow).all(-1)).sum())


def _lengths(flow: np.ndarray, field: Arrows) -> str:
    longest, broken = _longest(flow)
    drawn = f", drawn {field.factor:.0f}x" if field.factor > 1 else ""
    return f"up to {longest:.2g} px{drawn}" + (f", {broken} not finite" if broken else "")


def _axes(figure: Any, left: int, top: int, height: int, width: int, shape: tuple[int, ...]) -> Any:
    """Invisible axes over a tile, in the pixels of its image: the centre of the upper left one is (0, 0)."""
    dots, sheet = figure.get_figheight() * DPI, figure.get_figwidth() * DPI
    axes = figure.add_axes((left / sheet, 1 - (top + height) / dots, width / sheet, height / dots), zorder=1)
    axes.set_axis_off()
    axes.set(xlim=(-0.5, shape[1] - 0.5), ylim=(shape[0] - 0.5, -0.5))
    return axes


def _draw(axes: Any, field: Arrows) -> Any:
    style = {
        "color": ARROW,
        "units": "inches",  # a dot is not one and the same in every format
        "width": 1.8 / DPI,
        "headwidth": 4.5,
        "headlength": 5,
        "headaxislength": 4.5,
    }
    in_pixels = {"angles": "xy", "scale_units": "xy", "scale": 1, "pivot": "tip"}
    return axes.quiver(field.columns, field.rows, field.right, field.down, **in_pixels, **style)


def _check(
    images: np.ndarray, attacked: np.ndarray, flows: np.ndarray, labels: Sequence[object] | None
) -> None:
    if attacked.shape != images.shape or flows.shape != (*images.shape[:3], 2):
        raise ValueError(
            f"Images {images.shape} need attacked images of that shape and flows {(*images.shape[:3], 2)}; "
            f"got {attacked.shape} and {flows.shape}."
        )
    if labels is not None and len(labels) != len(images):
        raise ValueError(f"{len(images)} images need {len(images)} labels; got {len(labels)}.")
