"""Any set of attacks on any classifiers: table, figures, ledgers, and a check for masked gradients.

    python experiments/attack.py --config=configs/attack_cifar10.py --workdir=runs/attack_cifar10

A row is a classifier (converted, or trained by another experiment), a column an attack; the last column is the minimum over
all attacks for each image. A killed run goes on where it was, and the numbers are the same.
"""

import time
from collections.abc import Mapping
from datetime import date
from pathlib import Path

import classifiers
import numpy as np
from attack_figures import draw_figures
from cells import check_cell
from common import load_data, need, purpose, run
from evaluation import Evaluation, Setting, Victim
from ml_collections import ConfigDict
from report import on_common_images

from jaxdiff import evaluate
from jaxdiff.build import build
from jaxdiff.data.dataset import Dataset
from jaxdiff.defenses import masking_battery
from jaxdiff.models import as_classifier

ALL = "all attacks"


def build_victim(name: str, spec: Mapping, data: Dataset) -> Victim:
    """The classifier of a row."""
    model, variables = build(classifiers, spec, image_shape=data.image_shape)
    return Victim(name, data.num_classes, variables, lambda weights: as_classifier(model, weights))


def checked_cells(config: ConfigDict) -> dict[str, dict]:
    """{name: cell} as plain dicts; ValueError for what is no attack."""
    cells = config.attack.cells.to_dict()
    for name, cell in cells.items():
        check_cell(f"config.attack.cells.{name}", cell)
    if not cells:
        raise ValueError("config.attack.cells names no attack.")
    for victim in config.attack.classifiers:
        for name in cells:
            evaluate.ledger_path("", victim, name)  # names that can be files
    check_figures(config.attack, cells)
    return cells


def check_figures(spec: ConfigDict, cells: Mapping[str, Mapping]) -> None:
    """ValueError, before hours of attacks, if a figure can not be drawn."""
    curve = spec.get("curve", {}).get("cells", ())
    for field, names in (("panel", spec.panel), ("flow", spec.flow), ("curve.cells", curve)):
        unknown = sorted(set(names) - set(cells))
        if unknown:
            raise ValueError(f"config.attack.{field} names {unknown[0]!r}; the cells are {sorted(cells)}.")
    for name in spec.flow:
        attack = cells[name].get("attack", {}).get("name", "")
        if not attack.startswith("stadv") or "restarts" in cells[name]:
            raise ValueError(f"config.attack.flow draws stadv without restarts; {name!r} is another attack.")
    for name in curve:
        if "threat" not in cells[name]:
            raise ValueError(
                f"config.attack.curve.cells: {name!r} has no threat, so no radius to draw a curve over."
            )


def evaluations(config: ConfigDict, workdir: Path, data: Dataset) -> dict[str, Evaluation]:
    """One evaluation a classifier, all on the same images."""
    setting = Setting.of(config, config.attack, "attack", data, workdir)
    sources = config.attack.classifiers.to_dict()
    return {name: Evaluation(build_victim(name, source, data), setting) for name, source in sources.items()}


def worst_over(cells: Mapping[str, list[dict]]) -> dict:
    """The summary of the minimum over attacks, image by image, on the images that all attacks have."""
    return evaluate.worst_case(list(on_common_images(cells).values()))


def check_gradients(config: ConfigDict, evaluation: Evaluation, rows: list[dict]) -> str:
    """The verdict of the battery against gradient masking, in words, on the first images that are right."""
    spec, setting, victim = config.attack.masking, evaluation.setting, evaluation.victim
    right = [row["id"] for row in rows if row["correct_before"]][: spec.n]
    if not right:
        return "The classifier gets no image right: there is no gradient to mask."
    batch = setting.data.fetch(np.asarray(right))
    key = purpose(setting.key, "masking")
    return str(
        masking_battery(
            victim.defended(victim.weights), batch["image"], batch["label"], key, radius=spec.radius
        )
    )


def costs(rows: Mapping[tuple[str, str], list[dict]]) -> str:
    """A table of what each attack has done and needed, over the images that were right before."""
    lines = []
    for (name, attack), cell in rows.items():
        right = [row for row in cell if row["correct_before"]]
        lost = [row for row in right if not row["correct_after"]]
        fallen = [row for row in lost if row["finite"]]
        median = lambda key, rows: f"{np.median([row[key] for row in rows]):.4g}" if rows else "—"  # noqa: E731
        found = [row for row in right if row.get("found")]
        queries = [row["queries"] for row in right if "queries" in row]
        cells = [
            name, attack, f"{len(lost)} of {len(right)}", median("norm", fallen), median("linf", fallen),
            median("found", found), f"{np.mean(queries):.0f}" if queries else "—",
            f"{sum(row['seconds'] for row in cell):.1f}",
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    head = [
        "classifier",
        "attack",
        "fallen",
        "norm",
        "L-inf",
        "norm without radius",
        "evaluations",
        "seconds",
    ]
    return "\n".join(
        [
            "| " + " | ".join(head) + " |",
            "|:--|:--" + "|--:" * 6 + "|",
            *lines,
            "",
            "Medians over the images that fell, in the norm of the threat (L2 where it has none); mean evaluations.",
        ]
    )


def main(config: ConfigDict, workdir: Path) -> None:
    """Runs all cells."""
    started = time.perf_counter()
    need(config, "attack")
    cells, data = checked_cells(config), load_data(config, "test")
    rows, pictures, records, sections = {}, {}, [], {}
    everything = evaluations(config, workdir, data)
    for name, evaluation in everything.items():
        for attack, cell in cells.items():
            found = evaluation.run(attack, cell, keep=config.attack.n)
            rows[name, attack], pictures[name, attack] = found
            records.append(evaluate.record(name, attack, evaluate.summarise(rows[name, attack])))
        own = {attack: rows[name, attack] for attack in cells}
        records.append(evaluate.record(name, ALL, worst_over(own)))
        if "masking" in config.attack:
            sections[f"Gradient masking: {name}"] = check_gradients(
                config, evaluation, next(iter(own.values()))
            )
    evaluate.write_results(workdir / "results.json", records)
    sections = {"What it took": costs(rows)} | sections
    figures = draw_figures(config, workdir, everything, rows, pictures)
    path = evaluate.write_report(
        workdir / "report.md",
        f"Attacks on {data.name}",
        config=config,
        seed=config.seed,
        date=date.today().isoformat(),
        versions=evaluate.versions(),
        records=records,
        figures=figures,
        stages={f"{r['defense']}, {r['attack']}": r["seconds"] for r in records if r["attack"] != ALL},
        notes=["An image counts only if it is right before and after the attack. "
               f"**{ALL}**: the minimum over the attacks of the row, image by image, on the images that all of them have."],
        sections=sections,
    )  # fmt: skip
    print(evaluate.terminal_table(records))
    for heading, text in sections.items():
        print(f"\n{heading}\n{text}")
    print(f"\n{time.perf_counter() - started:.0f} s; report: {path}")


if __name__ == "__main__":
    run(main)
