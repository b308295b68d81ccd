"""The panel of an attack: clean, adversarial, magnified perturbation and purified images side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Int

from jaxdiff.evaluate.canvas import (
    INK,
    MARGIN,
    MUTED,
    RIGHT,
    WRONG,
    Images,
    Number,
    Tiles,
    as_tiles,
    canvas,
    enlarge,
    fit,
    mark_broken,
    place,
    title_height,
    wrap,
    write,
    write_title,
)

Classes = Int[Array | np.ndarray, " n"] | Sequence[int]
GAP, SPACE, SIDE, CAPTION, FOOT = 8, 34, 128, 30, 26
KEY = "perturbation: mean over channels, blue below and red above zero, full colour at the stated value"


class Attacked(NamedTuple):
    """What one defense or attack did to the examples: images [n, h, w, c] in [0, 1] and predicted classes
    [n].

    `predictions` are those on the adversarial images, or, where `purified` is given with its own, before
    purification.
    """

    adversarial: Any
    predictions: Any = None
    purified: Any = None
    purified_predictions: Any = None


class _Column(NamedTuple):
    title: str
    tiles: Tiles
    predictions: Any


def attack_panel(
    clean: Images,
    attacked: Mapping[str, Attacked],
    labels: Classes,
    path: str | Path,
    names: Sequence[str] | None = None,
    clean_predictions: Classes | None = None,
    title: str = "",
    size: int = 112,
) -> Path:
    """A PNG with a row per example: clean, then for each {heading: Attacked} adversarial, perturbation,
    purified.

    Perturbations are signed (blue below, red above zero; the mean over channels) with the largest as full
    colour, stated above. Predicted classes are green and ticked when right, red and crossed when wrong; class
    -1 is a non-finite prediction. `names` are the classes. Raises ValueError if shapes or counts disagree.
    """
    _check(clean, attacked, labels)
    groups = [("", [_Column("clean", as_tiles(clean, size), clean_predictions)])]
    groups += [(name, _columns(np.asarray(clean), a, size)) for name, a in attacked.items()]
    height, width = groups[0][1][0].tiles.shape[1:3]
    lefts = _lefts([len(columns) for _, columns in groups], width)
    sheet = lefts[-1][-1] + width + MARGIN
    head = 80 + title_height(title, sheet)
    foot = head + len(labels) * (height + CAPTION)
    key = wrap(KEY, sheet - 2 * MARGIN, 6.5)
    with canvas(path, sheet, foot + FOOT + 14 * key.count("\n")) as figure:
        write_title(figure, title, sheet)
        write(figure, key, sheet / 2, foot + 2, 6.5, va="top", color=MUTED, linespacing=1.15)
        _row_labels(figure, labels, names, head + height / 2, height + CAPTION)
        for (name, columns), group in zip(groups, lefts, strict=True):
            _heading(figure, name, group[0], group[-1] + width, head - 74)
            for column, left in zip(columns, group, strict=True):
                write(figure, column.title, left + width / 2, head - 8, 8, va="bottom", linespacing=1.2)
                _draw(figure, column, left, head, labels, names)
    return Path(path)


def signed_colours(values: np.ndarray, bound: float) -> np.ndarray:
    """[n, h, w] in [-bound, bound] as RGB bytes of a diverging map: blue below zero, white at zero, red above; magenta where
    they are not finite.
    """
    from matplotlib import colormaps

    finite = np.isfinite(values)
    unit = 0.5 + np.where(finite, values, 0.0) / (2 * bound) if bound > 0 else np.full_like(values, 0.5)
    return mark_broken(np.round(255 * colormaps["RdBu_r"](unit)[..., :3]).astype(np.uint8), finite)


def difference(clean: np.ndarray, changed: np.ndarray) -> tuple[np.ndarray, float]:
    """[n, h, w]: what was added, the mean over channels; and the largest of its finite absolute values, 0 if there is none."""
    with np.errstate(invalid="ignore"):  # infinity less infinity is NaN, and is drawn as such
        delta = (changed - clean).mean(-1)
    return delta, float(np.abs(delta[np.isfinite(delta)]).max(initial=0.0))


def _columns(clean: np.ndarray, attacked: Attacked, size: int) -> list[_Column]:
    adversarial = np.asarray(attacked.adversarial)
    columns = [_Column("adversarial", as_tiles(adversarial, size), attacked.predictions)]
    columns += [_perturbation(clean, adversarial, size)]
    if attacked.purified is not None:
        columns += [_Column("purified", as_tiles(attacked.purified, size), attacked.purified_predictions)]
    return columns


def _perturbation(clean: np.ndarray, adversarial: np.ndarray, size: int) -> _Column:
    delta, bound = difference(clean, adversarial)
    return _Column(f"perturbation\n±{255 * bound:.3g}/255", enlarge(signed_colours(delta, bound), size), None)


def _lefts(counts: Sequence[int], width: int) -> list[list[int]]:
    """The left edges of the columns, group by group."""
    lefts, x = [], SIDE
    for count in counts:
        lefts.append([x + j * (width + GAP) for j in range(count)])
        x = lefts[-1][-1] + width + SPACE
    return lefts


def _heading(figure: Any, name: str, left: int, right: int, y: Number) -> None:
    if not name:
        return
    write(figure, fit(name, right - left, 9), (left + right) / 2, y, 9, weight="bold")
    rule = np.full((2, right - left, 3), 170, np.uint8)
    place(figure, rule, left, round(y) + 14)


def _row_labels(figure: Any, labels: Classes, names: Sequence[str] | None, y: Number, step: int) -> None:
    for k, label in enumerate(labels):
        x = SIDE - 12
        write(figure, "true class", x, y + k * step - 14, 6.5, ha="right", color=MUTED)
        write(figure, fit(_name(label, names), SIDE - 16, 8), x, y + k * step + 6, 8, ha="right", color=INK)


def _draw(
    figure: Any, column: _Column, left: int, head: int, labels: Classes, names: Sequence[str] | None
) -> None:
    height, width = column.tiles.shape[1:3]
    for k, tile in enumerate(column.tiles):
        top = head + k * (height + CAPTION)
        place(figure, tile, left, top)
        if column.predictions is None:
            continue
        right = int(column.predictions[k]) == int(labels[k])
        text = ("✓ " if right else "✗ ") + _name(column.predictions[k], names)
        colour = RIGHT if right else WRONG
        write(figure, fit(text, width + GAP, 7.5), left + width / 2, top + height + 13, 7.5, color=colour)


def _name(label: Any, names: Sequence[str] | None) -> str:
    label = int(label)
    if label < 0:
        return "not finite"
    return str(label) if names is None else names[label]


def _check(clean: Images, attacked: Mapping[str, Attacked], labels: Classes) -> None:
    shape = np.shape(clean)
    for name, a in attacked.items():
        for what in ("adversarial", "purified"):
            images = getattr(a, what)
            if images is not None and np.shape(images) != shape:
                raise ValueError(
                    f"{name}: {what} images {np.shape(images)} do not match the clean ones {shape}."
                )
        for what in ("predictions", "purified_predictions"):
            classes = getattr(a, what)
            if classes is not None and len(classes) != shape[0]:
                raise ValueError(f"{name}: {shape[0]} examples need {shape[0]} {what}; got {len(classes)}.")
    if len(labels) != shape[0]:
        raise ValueError(f"{shape[0]} examples need {shape[0]} labels; got {len(labels)}.")
