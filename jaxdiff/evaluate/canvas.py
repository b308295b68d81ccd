"""A sheet of pixels: images placed one to one (never resampled), text beside them, saved as PNG, PDF or SVG.

The same figure is the same bytes: no file holds a date.
"""

import io
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Array, Bool, Float, UInt8

from jaxdiff.evaluate.atomic import write_bytes
from jaxdiff.evaluate.dots import DPI, Number
from jaxdiff.evaluate.lettering import extent, lines_height, wrap

Images = Float[Array | np.ndarray, "n h w c"]
Tiles = UInt8[np.ndarray, "n h w 3"]
Tile = UInt8[np.ndarray, "h w 3"]

MARGIN = 16
INK, MUTED = "#222222", "#666666"
RIGHT, WRONG = "#007a56", "#c44601"  # green and red that differ for every kind of colour vision, on white
BROKEN = (255, 0, 255)  # pixels that are not finite: magenta, which no picture of data is likely to hold
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")  # Okabe and Ito
LOOKS = {"ha": "center", "va": "center", "linespacing": 1.15}
# Every format, and what keeps time out of it.
UNDATED = {"png": {}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}
STYLE = {
    "pdf.fonttype": 42,  # letters as TrueType, which publishers ask for
    "svg.hashsalt": "jaxdiff",
    "image.composite_image": False,  # each picture stays one, pixel for pixel
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
def canvas(
    path: str | Path, width: int, height: int, formats: Sequence[str] = (), **options: Any
) -> Iterator[Any]:
    """Yields an empty matplotlib Figure of width x height pixels, saved if the block ends well: to `path`, whose suffix
    says how (png, pdf, svg), and beside it in further `formats`. ValueError for other ones.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    files = files_of(path, formats)
    with rc_context(STYLE):
        # A hundredth of a pixel more: matplotlib truncates inches times dots.
        figure = Figure(figsize=((width + 0.01) / DPI, (height + 0.01) / DPI), dpi=DPI, **options)
        FigureCanvasAgg(figure)
        yield figure
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # laid out once, whatever formats follow
        drawn = {file: _saved(figure, kind) for kind, file in files.items()}
    for file, data in drawn.items():
        write_bytes(file, data)


def files_of(path: str | Path, formats: Sequence[str] = ()) -> dict[str, Path]:
    """{format: file} of a figure: `path` itself, and beside it one for every further format; ValueError for unknown ones."""
    path = Path(path)
    if isinstance(formats, str):
        raise ValueError(f'Formats are a sequence, such as ("pdf", "svg"); got {formats!r}.')
    given = {path.suffix[1:].lower(): path}
    files = {kind: path.with_suffix(f".{kind}") for kind in formats} | given
    wrong = [kind for kind in files if kind not in UNDATED]
    if wrong:
        raise ValueError(
            f"A figure is a file .png, .pdf or .svg; got {path.name!r} and formats {tuple(formats)}."
        )
    return files


def _saved(figure: Any, kind: str) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=DPI, metadata=UNDATED[kind])
    return buffer.getvalue()


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
    height, width = tile.shape[:2]
    extent = (left, left + width, top + height, top)
    _sheet(figure).imshow(tile, extent=extent, aspect="auto", interpolation="none")


def _sheet(figure: Any) -> Any:
    """Invisible axes over a whole figure, in its pixels from the upper left corner."""
    for axes in figure.axes:
        if axes.get_label() == "sheet":
            return axes
    rows = round(figure.bbox.height)
    axes = figure.add_axes((0, 0, 1, 1), label="sheet", autoscale_on=False)
    axes.set(xlim=(0, figure.bbox.width), ylim=(rows, rows - figure.bbox.height))
    axes.set_axis_off()
    return axes


def stacked(top: int, heights: Iterable[int]) -> list[int]:
    """Where rows of these heights begin, the first at `top`, and where the last one ends."""
    return list(accumulate(heights, initial=top))


def write(figure: Any, text: str, x: Number, y: Number, size: Number = 8, **style: Any) -> None:
    """Text at pixel (x, y) from the upper left corner; centred unless `ha`, `va` say otherwise."""
    width, height = figure.get_figwidth() * DPI, figure.get_figheight() * DPI
    figure.text(x / width, 1 - y / height, text, fontsize=size, **LOOKS | style)


def margin(heading: str, width: int, size: Number) -> int:
    """The margin beside a column `width` pixels wide whose heading at `size` points may be wider."""
    widest = max(extent(line, size) for line in heading.split("\n"))
    return max(MARGIN, round((widest - width) / 2) + 6)


def title_height(title: str, width: int) -> int:
    """The pixels that `title` takes on a sheet `width` pixels wide, margin above included."""
    if not title:
        return MARGIN
    return MARGIN + 12 + lines_height(_title(title, width), 10)


def write_title(figure: Any, title: str, width: int) -> None:
    """A bold title at the top of a sheet `width` pixels wide, broken into lines that fit."""
    write(figure, _title(title, width), width / 2, MARGIN, 10, va="top", weight="bold")


def _title(title: str, width: int) -> str:
    return wrap(title, width - 2 * MARGIN, 10, "bold")
