"""Records as a table: a row per defense, a column per attack, the number that counts for each defense marked.

The grid is one; Markdown, LaTeX and the terminal differ in how they write a cell, and in CSV every cell is a line.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxdiff import checks
from jaxdiff.evaluate.results import ABSENT, Record, Reference, check_records
from jaxdiff.evaluate.tidy import csv_text

WITHIN = "within"
COLUMNS = (
    "accuracy",
    "low",
    "high",
    "n",
    "threat",
    "radius",
    "confidence",
    "nonfinite",
    "invalid",
    "seconds",
)
NOTED = {  # of a record -> its sign in the cell, and what it says in the footnote
    "nonfinite": ("†", "non-finite examples, counted as not robust"),
    "invalid": ("‡", "examples that were no images in [0, 1] with a label of the classifier, left out of n"),
}


def markdown_table(
    records: Sequence[Mapping[str, Any]], reference: Reference | None = None, reference_name: str = "paper"
) -> str:
    """A Markdown table of cells like `71.1 % [66.2, 75.7]`, those that count (`marked`) in bold, and a
    caption.

    `reference[defense][attack]` (fractions) stands beside ours, or alone where we have no value. The caption
    says n, the confidence, and how many examples were not finite, or no images with a label.
    """
    lines = grid(records, reference or {}, lambda *a: _markdown_cell(*a, reference_name), "defense")
    rows = ["| " + " | ".join(text.replace("|", "\\|") for text in line) + " |" for line in lines]
    line = "|" + "|".join([":--"] + ["--:"] * (len(lines[0]) - 1)) + "|"
    notes = [caption(records), f"**Bold**: {rule(records)}."]
    return "\n".join([rows[0], line, *rows[1:], "", *(f"{note}  " for note in [*notes, *footnotes(records)])])


def terminal_table(records: Sequence[Mapping[str, Any]], reference: Reference | None = None) -> str:
    """The same table aligned for a terminal: `*` marks what counts, `(ref 70.6)` a reference."""
    lines = grid(records, reference or {}, _terminal_cell, "")
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    body = [
        "  ".join(_align(text, w, i) for i, (text, w) in enumerate(zip(line, widths, strict=True)))
        for line in lines
    ]
    notes = [caption(records), f"* {rule(records)}", *footnotes(records)]
    return "\n".join([line.rstrip() for line in body] + notes)


def csv_table(
    records: Sequence[Mapping[str, Any]], reference: Reference | None = None, reference_name: str = "paper"
) -> str:
    """CSV with a line for each cell, fractions unrounded: ours, whether it counts (`marked`), and a reference with its name,
    beside ours or alone.
    """
    references, lines = reference or {}, []
    names = named(records, references)
    cells, marks = {(r["defense"], r["attack"]): r for r in records}, marked(records)
    for defense, attack in names:
        ours, theirs = cells.get((defense, attack), {}), references.get(defense, {}).get(attack)
        numbers = [ours.get(name) for name in COLUMNS]
        counts = int((defense, attack) in marks) if ours else None
        lines.append([defense, attack, *numbers, counts, theirs, None if theirs is None else reference_name])
    return csv_text(["defense", "attack", *COLUMNS, "counts", "reference", "of"], lines)


def marked(records: Sequence[Mapping[str, Any]]) -> set[tuple[str, str]]:
    """The cells (defense, attack) that count: the lowest of each defense, or, where records are minima over
    attacks, image by image (`minimum_over` names the attacks), these: cells over other images compare badly.
    """
    marks: set[tuple[str, str]] = set()
    for defense in {r["defense"] for r in records}:
        row = [r for r in records if r["defense"] == defense]
        low = min(r["accuracy"] for r in row)
        counting = [r for r in row if r.get("minimum_over")] or [r for r in row if r["accuracy"] == low]
        marks |= {(defense, r["attack"]) for r in counting}
    return marks


def rule(records: Sequence[Mapping[str, Any]]) -> str:
    """`marked` in words."""
    if not any(r.get("minimum_over") for r in records):
        return "the lowest of each defense, the number that counts"
    return "the minimum over attacks, image by image, the number that counts; cells with other n are over other images"


def grid(
    records: Sequence[Mapping[str, Any]], reference: Reference, cell: Callable[..., str], corner: str
) -> list[list[str]]:
    """Header and rows of texts: `cell(ours, theirs, whether it counts, whether n differs)` for every defense and attack."""
    defenses, attacks = (list(dict.fromkeys(names)) for names in zip(*named(records, reference), strict=True))
    cells = {(r["defense"], r["attack"]): r for r in records}
    marks, show_n = marked(records), len({r["n"] for r in records}) > 1

    def text(defense: str, attack: str) -> str:
        ours, theirs = cells.get((defense, attack)), reference.get(defense, {}).get(attack)
        return cell(ours, theirs, (defense, attack) in marks, show_n)

    over = threats(records, attacks)
    head = [[corner, *attacks]] + ([[WITHIN, *over]] if any(over) else [])
    return head + [[d, *(text(d, a) for a in attacks)] for d in defenses]


def threats(records: Sequence[Mapping[str, Any]], attacks: Sequence[str]) -> list[str]:
    """The threat over each column, as "linf 8/255"; all of them if the rows differ, nothing where there is none."""
    found: dict[str, list[str]] = {attack: [] for attack in attacks}
    for r in records:
        if r.get("threat") is not None:
            found[r["attack"]].append(f"{r['threat']} {length(r['radius'])}")
    return [" / ".join(dict.fromkeys(found[attack])) for attack in attacks]


def length(radius: float | int) -> str:
    """A radius as papers write it: 0.2, or 8/255."""
    if float(f"{radius:.3g}") == radius:
        return f"{radius:g}"
    steps = 255 * radius
    return f"{round(steps)}/255" if abs(steps - round(steps)) < 1e-4 else f"{radius:.4g}"


def named(records: Sequence[Mapping[str, Any]], reference: Reference) -> list[tuple[str, str]]:
    """The cells (defense, attack) that have a value, ours or a reference; ValueError for bad records or references, or none."""
    check_records(records)
    if not records:
        raise ValueError("A table needs at least one record.")
    for theirs in reference.values():
        checks.number("A reference", "[0, 1]", **theirs)
    ours = [(r["defense"], r["attack"]) for r in records]
    return list(dict.fromkeys([*ours, *((d, a) for d, attacks in reference.items() for a in attacks)]))


def _markdown_cell(
    ours: Record | None, theirs: float | int | None, bold: bool, show_n: bool, name: str
) -> str:
    text = ABSENT if ours is None else value(ours, show_n, " %")
    text = f"**{text}**" if bold else text
    return text if theirs is None else f"{text} ({name} {100 * theirs:.1f})"


def _terminal_cell(ours: Record | None, theirs: float | int | None, bold: bool, show_n: bool) -> str:
    text = ABSENT if ours is None else value(ours, show_n, "")
    text = text + ("*" if bold else " ")
    return text if theirs is None else f"{text} (ref {100 * theirs:.1f})"


def value(ours: Mapping[str, Any], show_n: bool, unit: str) -> str:
    """`71.1 % [66.2, 75.7] n=512†`: a cell in words, its `unit` behind the accuracy."""
    accuracy, low, high = (f"{100 * ours[name]:.1f}" for name in ("accuracy", "low", "high"))
    count = f" n={ours['n']}" if show_n else ""
    signs = "".join(sign for field, (sign, _) in NOTED.items() if ours.get(field))
    return f"{accuracy}{unit} [{low}, {high}]{count}{signs}"


def caption(records: Sequence[Mapping[str, Any]]) -> str:
    """What the numbers of a table are."""
    counts = sorted({r["n"] for r in records})
    levels = sorted({100 * r.get("confidence", 0.95) for r in records})
    level = " or ".join(f"{v:g}" for v in levels)
    n = f"n = {counts[0]}" if len(counts) == 1 else "n as given"
    return f"Accuracy in %, {n}, [{level} % Clopper-Pearson interval]."


def footnotes(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the signs in its cells are."""
    notes = []
    for field, (sign, words) in NOTED.items():
        counts = [f"{r['defense']} under {r['attack']}: {r[field]}" for r in records if r.get(field)]
        notes += [f"{sign} {words} ({'; '.join(counts)})."] if counts else []
    return notes


def _align(text: str, width: int, column: int) -> str:
    return text.ljust(width) if column == 0 else text.rjust(width)
