"""The tables of the attack report: minima over attacks, every image under every attack, what the attacks took."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from report import on_common_images

from jaxdiff import evaluate
from jaxdiff.evaluate.atomic import write_text
from jaxdiff.evaluate.summary import share, valid

ALL, WHOLE = "all attacks", "attacks on all images"


def worst_over(cells: Mapping[str, list[dict]]) -> dict:
    """The summary of the minimum over attacks, image by image, on the images that all attacks have.

    No largest norm: those of the attacks are not in the same norm.
    """
    summary = evaluate.worst_case(list(on_common_images(cells).values()))
    return {k: v for k, v in summary.items() if k != "max_norm"} | {"minimum_over": list(cells)}


def minima(name: str, cells: Mapping[str, list[dict]], n: int) -> list[dict]:
    """The records of the last columns: all attacks on their common images and, unless those are all n, the attacks on all n."""
    records = [evaluate.record(name, ALL, worst_over(cells))]
    whole = {attack: rows for attack, rows in cells.items() if len(rows) == n}
    if whole and len(whole) < len(cells):
        records.insert(0, evaluate.record(name, WHOLE, worst_over(whole)))
    return records


def write_per_image(path: Path, rows: Mapping[tuple[str, str], list[dict]]) -> Path:
    """A table with a line for each classifier and image: what became of it under every attack, as CSV.

    1 is right before and after, 0 is not (of a judged cell its share), empty is not attacked; norms are those of the attack's
    threat (L2 where it has none). `first` is the first attack, in the order of the config, that broke an image that was right;
    `all attacks` is the least of all, and empty if the image stands but some attacks have not tried. `not finite` names the
    attacks that ended in numbers that are not (which counts as 0), `no image` those that found it to be none in [0, 1], or its
    label none of the classifier's (which counts as not attacked).
    """
    attacks = list(dict.fromkeys(attack for _, attack in rows))
    columns = [column for attack in attacks for column in (attack, f"{attack} norm")]
    lines = [["classifier", "id", "label", "right_before", *columns, "first", ALL, "not finite", "no image"]]
    for name in dict.fromkeys(name for name, _ in rows):
        found: dict[int, dict[str, dict]] = {}
        for attack in attacks:
            for row in rows[name, attack]:
                found.setdefault(row["id"], {})[attack] = row
        lines += [[name, *_line(own, attacks)] for _, own in sorted(found.items())]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return write_text(path, text.getvalue())


def _line(every: Mapping[str, dict], attacks: list[str]) -> list:
    any_row, own = next(iter(every.values())), {a: row for a, row in every.items() if valid(row)}
    stands, right = (
        {a: share(row) for a, row in own.items()},
        all(row["correct_before"] for row in own.values()),
    )
    cells = []
    for attack in attacks:
        norm = own[attack]["norm"] if attack in own else None
        cells += [f"{stands[attack]:g}" if attack in own else "", "" if norm is None else f"{norm:.6g}"]
    broke = [attack for attack in attacks if right and stands.get(attack) == 0]
    least = min(stands.values(), default=1)
    together = f"{least:g}" if least == 0 or len(own) == len(attacks) else ""
    head = [any_row["id"], any_row["label"], int(right) if own else ""]
    blown = " ".join(a for a, row in own.items() if not row["finite"])
    return [
        *head,
        *cells,
        broke[0] if broke else "",
        together,
        blown,
        " ".join(a for a in every if a not in own),
    ]


def costs(rows: Mapping[tuple[str, str], list[dict]]) -> str:
    """A table of what each attack has done and needed, over the images that were right before."""
    lines, left_out = [], []
    for (name, attack), every in rows.items():
        cell = [row for row in every if valid(row)]
        right = [row for row in cell if row["correct_before"]]
        lost = [row for row in right if not (row["correct_after"] and row["finite"])]
        fallen = [row for row in lost if row["finite"]]
        median = lambda key, rows: f"{np.median([row[key] for row in rows]):.4g}" if rows else "—"
        found = [row for row in right if row.get("found")]
        queries = [row["queries"] for row in right if "queries" in row]
        cells = [
            name, attack, f"{len(lost)} of {len(right)}", str(len(lost) - len(fallen)), median("norm", fallen),
            median("linf", fallen), median("found", found), f"{np.mean(queries):.0f}" if queries else "—",
            f"{sum(row['seconds'] for row in every):.1f}",
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
        left_out += [f"{name} under {attack}: {len(every) - len(cell)}"] if len(cell) < len(every) else []
    notes = ["Medians over the images that fell, in the norm of the threat (L2 where it has none); mean evaluations. Those "
             "that ended in numbers that are not finite are among the fallen, and in no median."]  # fmt: skip
    if left_out:
        notes.append(
            f"Left out, as no images in [0, 1] with a label of the classifier: {'; '.join(left_out)}."
        )
    head = [
        "classifier",
        "attack",
        "fallen",
        "of them not finite",
        "norm",
        "L-inf",
        "norm without radius",
        "evaluations",
        "seconds",
    ]
    return "\n".join(
        ["| " + " | ".join(head) + " |", "|:--|:--" + "|--:" * 7 + "|", *lines, "", " ".join(notes)]
    )
