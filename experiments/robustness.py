"""The main job: trains what is missing, attacks every defense of a config, and writes the table and the report.

    python experiments/robustness.py --config=configs/digits.py --workdir=runs/digits

Stages: score network, classifier, adversarially trained classifier, one cell per defense and attack, figures, report. A
finished stage is not run again; a killed one goes on where it was, and the numbers are the same.
"""

import time
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from cell_checks import check_cell
from common import Score, build_score, load_data, need, run
from evaluation import Evaluation, Setting, Victim
from field_checks import check_known
from ml_collections import ConfigDict
from part_checks import check_n
from report import Job, Trained, check_radii, draw_figures, same_images, stage_seconds
from train_classifier import train_classifier
from train_score import train_score
from training import side_by_side

import jaxdiff.models
from jaxdiff import evaluate
from jaxdiff.build import build
from jaxdiff.data.dataset import Dataset
from jaxdiff.defenses import diffpure
from jaxdiff.diffusion import grids, solvers
from jaxdiff.models import as_classifier
from jaxdiff.types import Defense

DEFENSES = {"none": "classifier", "adversarial_training": "adversarial_training", "diffpure": "classifier"}
ATTACKS = ("standard", "fgsm", "pgd", "blind_pgd", "bpda", "adaptive_pgd")  # the order of the columns


def train_all(config: ConfigDict, workdir: Path) -> Trained:
    """Trains, or restores, what the cells of the config need."""
    sections, purified = check_needs(config)
    score_params, variables = side_by_side(
        lambda: train_score(config, workdir) if purified else None,
        lambda: {s: train_classifier(config, workdir, s, line=1) for s in sections},
    )
    models = {s: build(jaxdiff.models, config[s].model) for s in sections}
    return Trained(models, variables, build_score(config) if purified else None, score_params)


def build_purifier(spec: ConfigDict, score: Score, params: Any) -> Defense:
    """DiffPure with the solver and the grid of the config."""
    solver = build(solvers, spec.solver, process=score.process)
    ts = build(grids, spec.grid, process=score.process)
    denoise = score.denoiser(params, spec.clip)
    return diffpure(score.process, solver, denoise, ts, spec.remat, spec.get("surrogate_steps"))


def build_victim(config: ConfigDict, trained: Trained, data: Dataset, defense: str) -> Victim:
    """The classifier of a row of the table, behind its defense."""
    section = DEFENSES[defense]
    model, weights = trained.models[section], {"variables": trained.variables[section]}
    classifier = lambda weights: as_classifier(model, weights["variables"])
    if defense != "diffpure":
        return Victim(defense, data.num_classes, weights, classifier)
    purifier = lambda weights: build_purifier(config.robustness.purify, trained.score, weights["score"])
    return Victim(defense, data.num_classes, weights | {"score": trained.score_params}, classifier, purifier)


def full_cell(config: ConfigDict, cell: Mapping) -> dict[str, Any]:
    """A cell with the threat and the objective that the config names for all of them; without a threat if its own is None."""
    spec = config.robustness
    full = {"threat": spec.threat.to_dict(), "objective": spec.objective.to_dict(), **cell}
    return {field: value for field, value in full.items() if (field, value) != ("threat", None)}


def cells_in_order(config: ConfigDict, data: Dataset) -> dict[tuple[str, str], dict[str, Any]]:
    """{(defense, attack): cell}, rows and columns in the order of a paper; ValueError for what can not run on the data."""
    cells = config.robustness.cells.to_dict()
    check_known("config.robustness.cells", cells, set(DEFENSES))
    for defense, attacks in cells.items():
        for attack, cell in attacks.items():
            name = f"config.robustness.cells.{defense}.{attack}"
            if isinstance(cell, Mapping):  # else `check_cell` says so
                cell = full_cell(config, cell)
            check_cell(name, cell, data.image_shape, data.num_classes)
    rank = lambda attack: (ATTACKS.index(attack) if attack in ATTACKS else len(ATTACKS), attack)
    order = [(d, a) for d in DEFENSES if d in cells for a in sorted(cells[d], key=rank)]
    full = {(d, a): full_cell(config, cells[d][a]) for d, a in order}
    check_curve(config, full)
    return full


def check_curve(config: ConfigDict, cells: Mapping[tuple[str, str], Mapping]) -> None:
    """ValueError, before anything is trained, for a cell that can not be drawn over the radius."""
    known = {f"{defense}/{attack}": cell for (defense, attack), cell in cells.items()}
    for name in config.robustness.get("curve", {}).get("cells", ()):
        if "threat" not in known.get(name, {}):
            with_radius = [other for other, cell in known.items() if "threat" in cell]
            raise ValueError(
                f"config.robustness.curve.cells names {name!r}; the cells with a radius are {with_radius}."
            )
        check_radii("config.robustness.curve", known[name], config.robustness.curve.radii)


def prepare(config: ConfigDict) -> tuple[Dataset, dict]:
    """The data, and the cells in order; ValueError for what can not run."""
    need(config, "robustness")
    data = load_data(config, "test")
    check_n("robustness", config.robustness.n, data)
    check_needs(config)
    return data, cells_in_order(config, data)


def check_needs(config: ConfigDict) -> tuple[list[str], bool]:
    """The sections that are trained for the cells of a config, and whether a score network is; ValueError for missing ones."""
    used = [d for d in DEFENSES if d in config.robustness.cells]
    sections, purified = list(dict.fromkeys(DEFENSES[d] for d in used)), "diffpure" in used
    need(config, *sections, *["score"] * purified)
    if purified:
        need(config.robustness, "purify")
    return sections, purified


def main(config: ConfigDict, workdir: Path, data: Dataset, cells: Mapping) -> None:
    """Runs all stages."""
    started = time.perf_counter()
    trained = train_all(config, workdir)
    setting = Setting.of(config, config.robustness, "robustness", data, workdir)
    evaluations = {
        defense: Evaluation(build_victim(config, trained, data, defense), setting)
        for defense in dict.fromkeys(d for d, _ in cells)
    }
    rows, pictures = {}, {}
    for (defense, attack), cell in cells.items():
        found = evaluations[defense].run(attack, cell, keep=config.robustness.show)
        rows[defense, attack], pictures[defense, attack] = found
    records = [evaluate.record(*cell, evaluate.summarise(rows[cell])) for cell in cells]
    evaluate.write_results(workdir / "results.json", records)
    job = Job(config, workdir, trained, setting, evaluations, cells, rows, pictures)
    figures = draw_figures(job)
    path = evaluate.write_report(
        workdir / "report.md",
        f"Robustness on {data.name}, {config.robustness.threat.name} radius {config.robustness.threat.radius:g}",
        config=config,
        seed=config.seed,
        date=date.today().isoformat(),
        versions=evaluate.versions(),
        records=records,
        figures=figures,
        stages=stage_seconds(workdir, records),
        notes=same_images(rows) + evaluate.machine_notes((workdir / "ledger").glob("*.jsonl")),
    )
    print(evaluate.terminal_table(records))
    print(f"\n{time.perf_counter() - started:.0f} s; report: {path}")


if __name__ == "__main__":
    run(main, prepare)
