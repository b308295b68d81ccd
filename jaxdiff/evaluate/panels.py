"""The panel of an attack: clean, adversarial, magnified perturbation and purified images side by side, with what was seen."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int

from jaxdiff.evaluate.canvas import (
    INK,
    MARGIN,
    MUTED,
    RIGHT,
    WRONG,
    Images,
    Tiles,
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
from jaxdiff.evaluate.dots import Number
from jaxdiff.evaluate.lettering import NARROW, extent, lines_height, wrap
from jaxdiff.evaluate.tidy import write_beside

Classes = Int[Array | np.ndarray, " n"] | Sequence[int]
Shares = Float[Array | np.ndarray, " n"] | Sequence[float | int]
GAP, SPACE, SIDE, SMALL = 8, 34, 128, 7.5
VALUES = (
    "predictions", "purified_predictions", "clean_predictions", "confidences", "purified_confidences", "clean_confidences",
    "norms",
)  # fmt: skip
KEY = "perturbation: mean over channels, blue below and red above zero, full colour at the stated value"
COLUMNS = ("row", "image", "label", "prediction", "confidence", "norm", "scale")


class Attacked(NamedTuple):
    """What one defense or attack did to the examples: images [n, h, w, c] in [0, 1], predicted classes [n] and their
    confidences [n] in [0, 1], and the norms of the perturbations [n], called `norm`. What is None is not shown.

    `predictions` are those on the adversarial images, or, where `purified` is given with its own, before purification;
    `clean_predictions` those of this defense on the clean images.
    """

    adversarial: Any
    predictions: Any = None
    purified: Any = None
    purified_predictions: Any = None
    confidences: Any = None
    purified_confidences: Any = None
    norms: Any = None
    norm: str = "norm"
    clean_predictions: Any = None
    clean_confidences: Any = None


class _Seen(NamedTuple):
    """The classes that were seen in the images of a column, and how sure that was."""

    predictions: Any = None
    confidences: Any = None


class _Column(NamedTuple):
    """A column of pictures, and what is known of them; `before` are the clean ones, as the same defense sees them."""

    title: str
    tiles: Tiles
    seen: _Seen = _Seen()
    norms: Any = None
    norm: str = ""
    before: _Seen = _Seen()
    scale: float | None = None


def attack_panel(
    clean: Images,
    attacked: Mapping[str, Attacked],
    labels: Classes,
    path: str | Path,
    names: Sequence[str] | None = None,
    clean_predictions: Classes | None = None,
    title: str = "",
    size: int = 112,
    clean_confidences: Shares | None = None,
    formats: Sequence[str] = (),
) -> Path:
    """A picture with a row per example: clean, then for each {heading: Attacked} adversarial, perturbation, purified.

    Perturbations are signed (blue below, red above zero; the mean over channels) with the largest as full colour, stated above.
    Predicted classes are green and ticked when right, red and crossed when wrong, their confidences beside them; class -1 is a
    non-finite prediction. `names` are the classes. Beside it, as CSV: row, image, label, prediction, confidence, norm, scale.
    Raises ValueError if shapes or counts disagree.
    """
    _check(clean, attacked, labels, _Seen(clean_predictions, clean_confidences), names)
    groups = [("", [_Column("clean", as_tiles(clean, size), _Seen(clean_predictions, clean_confidences))])]
    groups += [(name, _columns(np.asarray(clean), a, size)) for name, a in attacked.items()]
    height, width = groups[0][1][0].tiles.shape[1:3]
    slot = max(width, round(extent("perturbation", 8)))
    lefts = _lefts([len(columns) for _, columns in groups], slot)
    sheet = lefts[-1][-1] + width + margin(groups[-1][1][-1].title, width, 8)
    captions = [[_captions(c, labels, names, slot) for c in columns] for _, columns in groups]
    below = [max(map(_height, row)) for row in zip(*(c for group in captions for c in group), strict=True)]
    headings = [
        wrap(name, g[-1] + width - g[0], 9, "bold") for (name, _), g in zip(groups, lefts, strict=True)
    ]
    rule = title_height(title, sheet) + 6 + max(lines_height(heading, 9) for heading in headings)
    head = rule + 54
    *tops, foot = stacked(head, [height + 14 + lines for lines in below])
    key = wrap(KEY, sheet - 2 * MARGIN, 6.5)
    with canvas(path, sheet, foot + 12 + lines_height(key, 6.5), formats) as figure:
        write_title(figure, title, sheet)
        write(figure, key, sheet / 2, foot + 2, 6.5, va="top", color=MUTED)
        _row_labels(figure, labels, names, [top + height / 2 for top in tops])
        for (_, columns), heading, texts, group in zip(groups, headings, captions, lefts, strict=True):
            _heading(figure, heading, group[0], group[-1] + width, rule)
            for column, lines, left in zip(columns, texts, group, strict=True):
                write(figure, column.title, left + width / 2, head - 8, 8, va="bottom")
                _draw(figure, column, lines, left, tops)
    write_beside(path, COLUMNS, _numbers(groups, labels))
    return Path(path)


def _columns(clean: np.ndarray, a: Attacked, size: int) -> list[_Column]:
    adversarial, before = np.asarray(a.adversarial), _Seen(a.clean_predictions, a.clean_confidences)
    norms = None if a.norms is None else np.asarray(a.norms, float)  # one of None is NaN
    seen, tiles = _Seen(a.predictions, a.confidences), as_tiles(adversarial, size)
    columns = [
        _Column("adversarial", tiles, seen, norms, a.norm, before),
        _perturbation(clean, adversarial, size),
    ]
    if a.purified is not None:
        seen = _Seen(a.purified_predictions, a.purified_confidences)
        columns.append(_Column("purified", as_tiles(a.purified, size), seen))
    return columns


def _perturbation(clean: np.ndarray, adversarial: np.ndarray, size: int) -> _Column:
    delta, bound = difference(clean, adversarial)
    tiles = enlarge(signed_colours(delta, bound), size)
    return _Column(f"perturbation\n±{255 * bound:.3g}/255", tiles, scale=bound)


def _lefts(counts: Sequence[int], width: int) -> list[list[int]]:
    """The left edges of the columns, group by group."""
    lefts, x = [], SIDE
    for count in counts:
        lefts.append([x + j * (width + GAP) for j in range(count)])
        x = lefts[-1][-1] + width + SPACE
    return lefts


def _captions(
    column: _Column, labels: Classes, names: Sequence[str] | None, width: int
) -> list[list[tuple[str, str]]]:
    """For every example the lines below its picture, (text, colour)."""
    captions: list[list[tuple[str, str]]] = []
    for k, label in enumerate(labels):
        lines = [_told(column.seen, k, label, names), _told(column.before, k, label, names, "clean: ")]
        if column.norms is not None:
            lines.insert(1, (f"{column.norm}{NARROW}{column.norms[k]:.3g}", MUTED))
        captions.append([(wrap(text, width + GAP, SMALL), colour) for text, colour in lines if text])
    return captions


def _told(seen: _Seen, k: int, label: Any, names: Sequence[str] | None, before: str = "") -> tuple[str, str]:
    """The prediction of an example in words, and its colour; empty where it is not known."""
    if seen.predictions is None:
        return "", MUTED
    right = int(seen.predictions[k]) == int(label)
    sure = np.nan if seen.confidences is None else float(seen.confidences[k])
    share = f" {100 * sure:.0f}{NARROW}%" if np.isfinite(sure) else ""
    return (
        f"{before}{'✓' if right else '✗'}{NARROW}{_name(seen.predictions[k], names)}{share}",
        RIGHT if right else WRONG,
    )


def _height(lines: list[tuple[str, str]]) -> int:
    return sum(lines_height(text, SMALL) for text, _ in lines)


def _heading(figure: Any, heading: str, left: int, right: int, rule: int) -> None:
    if heading:
        write(figure, heading, (left + right) / 2, rule - 4, 9, va="bottom", weight="bold")
        place(figure, np.full((2, right - left, 3), 170, np.uint8), left, rule)


def _row_labels(figure: Any, labels: Classes, names: Sequence[str] | None, middles: Sequence[Number]) -> None:
    x = SIDE - 12
    for label, y in zip(labels, middles, strict=True):
        name = wrap(_name(label, names), x - 4, 8)
        write(figure, "true class", x, y - 6, 6.5, ha="right", va="bottom", color=MUTED)
        write(figure, name, x, y - 4, 8, ha="right", va="top", color=INK)


def _draw(
    figure: Any, column: _Column, captions: list[list[tuple[str, str]]], left: int, tops: Sequence[int]
) -> None:
    height, width = column.tiles.shape[1:3]
    for tile, lines, y in zip(column.tiles, captions, tops, strict=True):
        place(figure, tile, left, y)
        y += height + 4
        for text, colour in lines:
            write(figure, text, left + width / 2, y, SMALL, va="top", color=colour)
            y += lines_height(text, SMALL)


def _numbers(groups: list[tuple[str, list[_Column]]], labels: Classes) -> Iterator[tuple]:
    """The rows of the CSV: every picture, and the clean one once more where a defense has seen it too."""
    for k, label in enumerate(labels):
        for group, columns in groups:
            for c in columns:
                title = c.title.split("\n")[0]
                name = f"{group}: {title}" if group else title
                yield k, name, label, *_at(k, *c.seen, c.norms), c.scale
                if c.before.predictions is not None:
                    yield k, f"{group}: clean", label, *_at(k, *c.before, None), None


def _at(k: int, *columns: Any) -> list[Any]:
    return [None if column is None else np.asarray(column)[k] for column in columns]


def _name(label: Any, names: Sequence[str] | None) -> str:
    label = int(label)
    if label < 0:
        return "not finite"
    return str(label) if names is None else names[label]


def _check(
    clean: Images, attacked: Mapping[str, Attacked], labels: Classes, seen: _Seen, names: Sequence[str] | None
) -> None:
    n = len(clean)
    if len(labels) != n:
        raise ValueError(f"{n} examples need {n} labels; got {len(labels)}.")
    columns = {"clean_predictions": seen.predictions, "clean_confidences": seen.confidences}
    _check_columns("clean", n, columns, names)
    for name, a in attacked.items():
        for what in ("adversarial", "purified"):
            images = getattr(a, what)
            if images is not None and np.shape(images) != np.shape(clean):
                raise ValueError(
                    f"{name}: {what} images {np.shape(images)} do not match the clean ones {np.shape(clean)}."
                )
        _check_columns(name, n, {k: getattr(a, k) for k in VALUES}, names)


def _check_columns(who: str, n: int, columns: Mapping[str, Any], names: Sequence[str] | None) -> None:
    for what, values in columns.items():
        if values is None:
            continue
        if len(values) != n:
            raise ValueError(f"{who}: {n} examples need {n} {what}; got {len(values)}.")
        given = np.asarray(values, float)
        least, most = (f(given[~np.isnan(given)], initial=0.0) for f in (np.min, np.max))
        whose = what.replace("confidences", "predictions")
        if columns.get(whose) is None and whose != what:
            raise ValueError(f"{who}: {what} are those of {whose}; give these too.")
        if whose != what and not 0 <= least <= most <= 1:
            raise ValueError(f"{who}: {what} are fractions in [0, 1]; got {least:g} to {most:g}.")
        if what.endswith("predictions") and names is not None and most >= len(names):
            raise ValueError(f"{who}: {what} are below {len(names)}, the number of names; got {most:g}.")
