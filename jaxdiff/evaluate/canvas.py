"""A sheet of pixels: images placed one to one (never resampled), text beside them, saved as PNG."""

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Array, Bool, Float, UInt8

from jaxdiff.evaluate.atomic import write_bytes

Images = Float[Array | np.ndarray, "n h w c"]
Number = float | int
Tiles = UInt8[np.ndarray, "n h w 3"]
Tile = UInt8[np.ndarray, "h w 3"]

DPI, MARGIN = 150, 16
INK, MUTED = "#222222", "#666666"
RIGHT, WRONG = "#007a56", "#c44601"  # green and red that differ for every kind of colour vision, on white
BROKEN = (255, 0, 255)  # pixels that are not finite: magenta, which no picture of data is likely to hold
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")  # Okabe and Ito
STYLE = {
    "font.size": 9,
    "axes.titlesize": 11,
    "axes.labelsize": 9.5,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.7,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "savefig.facecolor": "white",
}


@contextmanager
def canvas(path: str | Path, width: int, height: int, **options: Any) -> Iterator[Any]:
    """Yields an empty matplotlib Figure of width x height pixels, saved to `path` if the block ends well."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        # A hundredth of a pixel more: matplotlib truncates inches times dots.
        figure = Figure(figsize=((width + 0.01) / DPI, (height + 0.01) / DPI), dpi=DPI, **options)
        FigureCanvasAgg(figure)
        yield figure
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=DPI)
    write_bytes(path, buffer.getvalue())


def as_tiles(images: Images, target: int) -> UInt8[np.ndarray, "n H W 3"]:
    """Images in [0, 1] (clipped), grey or RGB, as RGB bytes, enlarged by a whole factor.

    Pixels that are not finite are magenta, and a warning counts them. Raises ValueError for another number of channels or no
    images.
    """
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or not images.size:
        raise ValueError(f"Pictures are [n, height, width, 1 or 3]; got shape {images.shape}.")
    finite = np.isfinite(images).all(-1)
    shown = np.where(finite[..., None], np.clip(images, 0, 1), 0)
    rgb = np.broadcast_to(np.round(255 * shown).astype(np.uint8), (*images.shape[:3], 3))
    return enlarge(mark_broken(rgb, finite), target)


def mark_broken(tiles: Tiles, finite: Bool[np.ndarray, "n h w"]) -> Tiles:
    """The tiles with magenta for pixels that are not finite; a warning counts these and their pictures."""
    if finite.all():
        return tiles
    pictures = int((~finite).any((1, 2)).sum())
    logging.getLogger(__name__).warning(
        "%d pixels in %d of %d pictures are not finite; they are drawn in magenta.",
        int((~finite).sum()),
        pictures,
        len(tiles),
    )
    return np.where(finite[..., None], tiles, np.array(BROKEN, np.uint8))


def with_gaps(name: str, *values: Any) -> str:
    """The name of a series, with how many of its points are not finite in any of `values`, and so are not drawn."""
    finite = np.all([np.isfinite(np.asarray(v, float)) for v in values], axis=0)
    missing = np.size(finite) - int(finite.sum())
    return f"{name} ({missing} of {np.size(finite)} not finite)" if missing else name


def enlarge(tiles: Tiles, target: int) -> UInt8[np.ndarray, "n H W 3"]:
    """Every pixel repeated, the longer side to the smallest multiple that reaches `target`."""
    scale = max(1, -(-target // max(tiles.shape[1:3])))
    return tiles.repeat(scale, axis=1).repeat(scale, axis=2)


def place(figure: Any, tile: Tile, left: int, top: int) -> None:
    """Puts the pixels of `tile` at (left, top), counted from the upper left corner."""
    height = round(figure.get_figheight() * DPI)
    figure.figimage(tile, left, height - top - tile.shape[0])


def write(figure: Any, text: str, x: Number, y: Number, size: Number = 8, **style: Any) -> None:
    """Text at pixel (x, y) from the upper left corner; centred unless `ha`, `va` say otherwise."""
    width, height = figure.get_figwidth() * DPI, figure.get_figheight() * DPI
    figure.text(x / width, 1 - y / height, text, fontsize=size, **{"ha": "center", "va": "center"} | style)


def pixels(size: Number) -> float:
    """The height in pixels of a font of `size` points."""
    return size * DPI / 72


def fit(text: str, width: Number, size: Number) -> str:
    """`text` cut with an ellipsis to what fits into `width` pixels at `size` points, by an average letter."""
    letters = max(1, int(width / (0.58 * pixels(size))))
    return text if len(text) <= letters else text[: letters - 1] + "…"


def title_height(title: str, width: int) -> int:
    """The pixels that `title` takes on a sheet `width` pixels wide, margin above included."""
    if not title:
        return MARGIN
    lines = wrap(title, width - 2 * MARGIN, 10).count("\n") + 1
    return MARGIN + 12 + round(lines * 1.25 * pixels(10))


def write_title(figure: Any, title: str, width: int) -> None:
    """A bold title at the top of a sheet `width` pixels wide, broken into lines that fit."""
    text = wrap(title, width - 2 * MARGIN, 10)
    write(figure, text, width / 2, MARGIN, 10, va="top", weight="bold", linespacing=1.15)


def wrap(text: str, width: Number, size: Number) -> str:
    """`text` broken into lines that fit into `width` pixels at `size` points, by the average letter."""
    import textwrap

    return "\n".join(textwrap.wrap(text, max(8, int(width / (0.58 * pixels(size))))))
