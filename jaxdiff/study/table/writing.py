"""The report of a table: its forms, which number counts, what the attacks took, every image under every attack."""

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from jaxdiff import evaluate
from jaxdiff.evaluate.atomic import write_text
from jaxdiff.evaluate.results import Reference
from jaxdiff.evaluate.summary import share, valid
from jaxdiff.evaluate.tidy import csv_text
from jaxdiff.study.table.cell import CLEAN
from jaxdiff.study.table.records import Rows, on_common_images

REPORT, TEX, CSV, RESULTS, IMAGES = "report.md", "table.tex", "table.csv", "results.json", "per_image.csv"
TOGETHER = "all attacks"


def write_table(
    folder: Path,
    title: str,
    records: list[dict[str, Any]],
    rows: Rows,
    names: Mapping[tuple[str, str], Sequence[str]],
    *,
    reference: Reference,
    figures: Mapping[str, Path],
    sections: Mapping[str, str],
    stages: Mapping[str, float],
    ledgers: Mapping[str, Path],
    config: Any,
    seed: int,
) -> Path:
    """Writes report, LaTeX, CSV, records and the table of every image into a folder; returns the report's path.

    `names` are the attacks of each cell that is an ensemble, in their order.
    """
    evaluate.write_results(folder / RESULTS, records)
    write_text(folder / TEX, evaluate.latex_table(records, reference))
    write_text(folder / CSV, evaluate.csv_table(records, reference))
    write_per_image(folder / IMAGES, rows)
    beside = ", ".join(f"[{name}]({name})" for name in (TEX, CSV, RESULTS, IMAGES))
    notes = [
        f"An image counts only if it is right before and after the attack. The table as LaTeX and CSV, the records, and every "
        f"image under every attack: {beside}.",
        *which_counts(rows),
        *evaluate.machine_notes(ledgers),
    ]
    return evaluate.write_report(
        folder / REPORT,
        title,
        config=config,
        seed=seed,
        date=date.today().isoformat(),
        versions=evaluate.versions(),
        records=records,
        reference=reference,
        figures=figures,
        stages=stages,
        notes=notes,
        sections={"What it took": costs(rows, names)} | dict(sections),
    )


def which_counts(rows: Rows) -> list[str]:
    """Notes: which number counts for each victim, and all its attacks compared on the images that all of them have."""
    notes = []
    for victim in dict.fromkeys(v for v, _ in rows):
        own = {column: found for (v, column), found in rows.items() if v == victim and column != CLEAN}
        if not own:
            continue
        cells = on_common_images(own)
        if not next(iter(cells.values())):
            continue
        accuracy = {column: evaluate.summarise(found)["accuracy"] for column, found in cells.items()}
        ranking = sorted(cells, key=accuracy.__getitem__)
        listed = ", ".join(f"{column} {100 * accuracy[column]:.1f} %" for column in ranking)
        worst = evaluate.worst_case(list(cells.values()))
        images = f"{worst['n']} images"
        if worst["nonfinite"]:
            images += f" ({worst['nonfinite']} not finite, so not robust)"
        notes.append(
            f"**{victim}**: the number that counts is the one under {ranking[0]}. On the same {images}: {listed}; "
            f"still right under every attack at once: {100 * worst['accuracy']:.1f} %."
        )
    return notes


def write_per_image(path: Path, rows: Rows) -> Path:
    """A table with a line for each victim and image: what became of it under every attack, as CSV.

    1 is right before and after, 0 is not (of a judged cell its share), empty is not attacked; norms are those of the attack's
    threat (L2 where it has none). `first` is the first attack, in the order of the table, that broke an image that was right;
    `all attacks` is the least of all, and empty if the image stands but some attacks have not tried. `not finite` names the
    attacks that ended in numbers that are not (which counts as 0), `no image` those that found it to be none in [0, 1], or its
    label none of the classifier's (which counts as not attacked).
    """
    columns = list(dict.fromkeys(column for _, column in rows))
    heads = [head for column in columns for head in (column, f"{column} norm")]
    lines = []
    for victim in dict.fromkeys(v for v, _ in rows):
        found: dict[int, dict[str, dict]] = {}
        own = [column for column in columns if (victim, column) in rows]
        for column in own:
            for row in rows[victim, column]:
                found.setdefault(row["id"], {})[column] = row
        lines += [[victim, *_line(each, columns, own)] for _, each in sorted(found.items())]
    head = ["victim", "id", "label", "right_before", *heads, "first", TOGETHER, "not finite", "no image"]
    return write_text(path, csv_text(head, lines))


def _line(every: Mapping[str, dict], columns: list[str], own: list[str]) -> list[Any]:
    any_row, told = next(iter(every.values())), {c: row for c, row in every.items() if valid(row)}
    stands = {column: share(row) for column, row in told.items()}
    right = all(row["correct_before"] for row in told.values())
    cells = []
    for column in columns:
        norm = told[column]["norm"] if column in told else None
        cells += [f"{stands[column]:g}" if column in told else "", "" if norm is None else f"{norm:.6g}"]
    broke = [column for column in columns if right and stands.get(column) == 0]
    least = min(stands.values(), default=1)
    together = f"{least:g}" if least == 0 or len(told) == len(own) else ""
    blown = " ".join(column for column, row in told.items() if not row["finite"])
    none = " ".join(column for column in every if column not in told)
    head = [any_row["id"], any_row["label"], int(right) if told else ""]
    return [*head, *cells, broke[0] if broke else "", together, blown, none]


COSTS = (
    "victim", "attack", "fallen", "of them not finite", "norm", "L-inf", "norm without radius", "evaluations", "to which",
    "seconds",
)  # fmt: skip


def costs(rows: Rows, names: Mapping[tuple[str, str], Sequence[str]]) -> str:
    """A table of what each attack has done and needed, over the images that were right before."""
    lines, left_out = [], []
    for (victim, column), every in rows.items():
        if column == CLEAN:
            continue
        cell = [row for row in every if valid(row)]
        lines.append(
            "| " + " | ".join(_cost(victim, column, cell, every, names.get((victim, column), []))) + " |"
        )
        left_out += [f"{victim} under {column}: {len(every) - len(cell)}"] if len(cell) < len(every) else []
    if not lines:
        return ""
    notes = [
        "Medians over the images that fell, in the norm of the threat (L2 where it has none); mean evaluations. Those that "
        "ended in numbers that are not finite are among the fallen, and in no median."
    ]
    if left_out:
        notes.append(
            f"Left out, as no images in [0, 1] with a label of the classifier: {'; '.join(left_out)}."
        )
    rule = "|:--|:--" + "|--:" * (len(COSTS) - 2) + "|"
    return "\n".join(["| " + " | ".join(COSTS) + " |", rule, *lines, "", " ".join(notes)])


def _cost(victim: str, column: str, cell: list[dict], every: list[dict], names: Sequence[str]) -> list[str]:
    right = [row for row in cell if row["correct_before"]]
    lost = [row for row in right if not (row["correct_after"] and row["finite"])]
    fallen = [row for row in lost if row["finite"]]
    median = lambda key, rows: f"{np.median([row[key] for row in rows]):.4g}" if rows else "—"
    found = [row for row in right if row.get("found")]
    queries = [row["queries"] for row in right if "queries" in row]
    by = [sum(row.get("attack") == i for row in lost) for i in range(len(names))]
    which = ", ".join(f"{name} {n}" for name, n in zip(names, by, strict=True)) if len(names) > 1 else "—"
    return [
        victim, column, f"{len(lost)} of {len(right)}", str(len(lost) - len(fallen)), median("norm", fallen),
        median("linf", fallen), median("found", found), f"{np.mean(queries):.0f}" if queries else "—", which,
        f"{sum(row['seconds'] for row in every):.1f}",
    ]  # fmt: skip
