"""Any set of attacks on any classifiers: table, figures, ledgers, and a check for masked gradients.

    python experiments/attack.py --config=configs/attack_cifar10.py --workdir=runs/attack_cifar10

A row is a classifier (converted, or trained by another experiment), a column an attack; the last columns are minima over
attacks for each image. A killed run goes on where it was, and the numbers are the same.
"""

import time
from collections.abc import Mapping
from datetime import date
from pathlib import Path

import classifiers
import jax
import jax.numpy as jnp
import numpy as np
from attack_figures import curves_of, draw_figures
from attack_tables import ALL, WHOLE, costs, minima, write_per_image
from cell_checks import check_cell
from common import load_data, need, run
from evaluation import Evaluation, Setting, Victim
from ml_collections import ConfigDict
from part_checks import check_arguments, check_n
from report import check_radii

from jaxdiff import evaluate
from jaxdiff.build import build
from jaxdiff.data.dataset import Dataset
from jaxdiff.defenses import masking_battery
from jaxdiff.keys import purpose
from jaxdiff.models import as_classifier


def build_victim(name: str, spec: Mapping, data: Dataset) -> Victim:
    """The classifier of a row; ValueError if its classes are not those of the data."""
    model, variables = build(classifiers, spec, image_shape=data.image_shape)
    victim = Victim(name, data.num_classes, variables, lambda weights: as_classifier(model, weights))
    image = jax.ShapeDtypeStruct(data.image_shape, jnp.float32)
    logits = jax.eval_shape(victim.classifier(variables), image, jax.random.key(0))
    if logits.shape != (data.num_classes,):
        raise ValueError(
            f"The classifier {name!r} has the output {logits.shape}; {data.name} has {data.num_classes} classes."
        )
    return victim


def checked_cells(config: ConfigDict, data: Dataset | None = None) -> dict[str, dict]:
    """{name: cell} as plain dicts; ValueError, before hours of attacks, for what can not run on the data (the config's)."""
    cells, data = config.attack.cells.to_dict(), load_data(config, "test") if data is None else data
    for name, cell in cells.items():
        known = config.attack.get("surrogates", ())
        check_cell(f"config.attack.cells.{name}", cell, data.image_shape, data.num_classes, known)
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
        if not attack.startswith("stadv") or {"restarts", "surrogates"} & set(cells[name]):
            raise ValueError(
                f"config.attack.flow draws stadv on its victim without restarts; {name!r} is another attack."
            )
    for name in curve:
        if "threat" not in cells[name]:
            raise ValueError(
                f"config.attack.curve.cells: {name!r} has no threat, so no radius to draw a curve over."
            )
        if cells[name]["threat"]["name"] in spec.curve.radii:
            check_radii("config.attack.curve", cells[name], spec.curve.radii[cells[name]["threat"]["name"]])


def evaluations(config: ConfigDict, workdir: Path, data: Dataset) -> dict[str, Evaluation]:
    """One evaluation a classifier, all on the same images."""
    setting = Setting.of(config, config.attack, "attack", data, workdir)
    sources, surrogates = (
        config.attack.get(k, ConfigDict()).to_dict() for k in ("classifiers", "surrogates")
    )
    named = {name for cell in config.attack.cells.values() for name in cell.get("surrogates", ())}
    others = {name: build_victim(name, surrogates[name], data) for name in sorted(named)}
    victims = {name: build_victim(name, source, data) for name, source in sources.items()}
    return {name: Evaluation(victim, setting, others) for name, victim in victims.items()}


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


def prepare(config: ConfigDict) -> tuple[Dataset, dict]:
    """The data, and the cells; ValueError for what can not run."""
    need(config, "attack")
    data = load_data(config, "test")
    check_n("attack", config.attack.n, data)
    for kind in ("classifiers", "surrogates"):
        for name, spec in config.attack.to_dict().get(kind, {}).items():
            check_arguments(f"config.attack.{kind}.{name}", classifiers, spec)
    curves_of(config.attack)  # says now what it can not draw
    return data, checked_cells(config, data)


def main(config: ConfigDict, workdir: Path, data: Dataset, cells: Mapping) -> None:
    """Runs all cells."""
    started = time.perf_counter()
    rows, pictures, records, sections = {}, {}, [], {}
    everything = evaluations(config, workdir, data)
    for name, evaluation in everything.items():
        for attack, cell in cells.items():
            found = evaluation.run(attack, cell, keep=config.attack.n)
            rows[name, attack], pictures[name, attack] = found
            records.append(evaluate.record(name, attack, evaluate.summarise(rows[name, attack])))
        own = {attack: rows[name, attack] for attack in cells}
        records += minima(name, own, config.attack.n)
        if "masking" in config.attack:
            sections[f"Gradient masking: {name}"] = check_gradients(
                config, evaluation, next(iter(own.values()))
            )
    evaluate.write_results(workdir / "results.json", records)
    write_per_image(workdir / "per_image.csv", rows)
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
        stages={f"{r['defense']}, {r['attack']}": r["seconds"] for r in records if "minimum_over" not in r},
        notes=["An image counts only if it is right before and after the attack. "
               f"**{ALL}**: the minimum over the attacks of the row, image by image, on the images that all of them have; "
               f"**{WHOLE}**: over those attacks alone that have all images, where others have fewer. "
               "Image by image: [per_image.csv](per_image.csv).",
               *evaluate.machine_notes((workdir / "ledger").glob("*.jsonl"))],
        sections=sections,
    )  # fmt: skip
    print(evaluate.terminal_table(records))
    for heading, text in sections.items():
        print(f"\n{heading}\n{text}")
    print(f"\n{time.perf_counter() - started:.0f} s; report: {path}")


if __name__ == "__main__":
    run(main, prepare)
