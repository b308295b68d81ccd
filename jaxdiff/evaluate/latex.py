"""The table of records as LaTeX, in the manner of booktabs."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxdiff.evaluate.results import ABSENT, Record, Reference
from jaxdiff.evaluate.tables import WITHIN, caption, footnotes, grid, rule, value

SPECIAL = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", "—": "---", "…": r"\dots{}",
    "†": r"\textdagger{}", "‡": r"\textdaggerdbl{}", "\n": " ",
}  # fmt: skip


def latex_table(
    records: Sequence[Mapping[str, Any]], reference: Reference | None = None, reference_name: str = "paper"
) -> str:
    r"""A `table` for a document with \usepackage{booktabs}: cells like `71.1 [66.2, 75.7]`, those that count in bold, `(70.6)`
    beside them a reference.

    The caption says n, the confidence, whose the references are, and how many examples were not finite, or no images.
    """
    head, *body = grid(records, reference or {}, _cell, "defense")
    within = [body.pop(0)] if body[0][0] == WITHIN else []
    notes = [caption(records), f"Bold: {rule(records)}."]
    notes += [f"In parentheses: {reference_name}."] if reference else []
    lines = [
        "% \\usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escape(' '.join([*notes, *footnotes(records)]))}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}",
        r"\toprule",
        *(_row([escape(name) for name in line]) for line in [head, *within]),
        r"\midrule",
        *(_row([escape(name), *cells]) for name, *cells in body),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    """`text` without letters that LaTeX would take for commands."""
    return "".join(SPECIAL.get(letter, letter) for letter in text)


def _row(cells: list[str]) -> str:
    r"""A line of cells. Behind \\ and rules, [ would open an argument and * be a star of the command: {} keeps them apart."""
    guard = "{}" if cells[0][:1] in ("[", "*") else ""
    return guard + " & ".join(cells) + r" \\"


def _cell(ours: Record | None, theirs: float | int | None, bold: bool, show_n: bool) -> str:
    text = escape(ABSENT if ours is None else value(ours, show_n, ""))
    text = rf"\textbf{{{text}}}" if bold else text
    return text if theirs is None else f"{text} ({100 * theirs:.1f})"
