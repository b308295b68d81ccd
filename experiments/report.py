"""Figures and notes of the robustness report, from ledgers, kept pictures and metrics."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from common import Score
from evaluation import Evaluation, Setting
from ml_collections import ConfigDict
from part_checks import about
from sample import draw_trajectory
from train_score import draw_samples

import jaxdiff.attacks
from jaxdiff import evaluate
from jaxdiff.build import build
from jaxdiff.train.jsonl import read_jsonl

SECTIONS = ("score", "classifier", "adversarial_training")
LOSSES = {"denoising loss": ("score",), "classification loss": ("classifier", "adversarial_training")}
Rows = Mapping[tuple[str, str], list[dict]]


class Trained(NamedTuple):
    """Everything that attacks need: modules, and the arrays that are arguments of the compiled attacks."""

    models: dict[str, Any]
    variables: dict[str, Any]
    score: Score | None
    score_params: Any


class Job(NamedTuple):
    """A finished robustness run: what its figures are drawn from."""

    config: ConfigDict
    workdir: Path
    trained: Trained
    setting: Setting
    evaluations: Mapping[str, Evaluation]
    cells: Mapping[tuple[str, str], dict[str, Any]]
    rows: Rows
    pictures: Mapping[tuple[str, str], Mapping]


def draw_figures(job: Job) -> dict[str, Path]:
    """{caption: file} of every figure of the report."""
    folder, trained = job.workdir / "figures", job.trained
    folder.mkdir(exist_ok=True)
    figures = {}
    if trained.score is not None:
        parts = job.config, trained.score
        shape = job.setting.data.image_shape
        figures["Samples of the score network"] = draw_samples(*parts, shape)(
            trained.score_params, folder / "samples.png"
        )
        figures["Denoising, from noise (t = 1) to image (t = 0)"] = draw_trajectory(
            *parts, trained.score_params, shape, folder / "trajectory.png"
        )
    panel = draw_panel(job, folder / "panel.png")
    figures["Attacks on the same images: prediction below each, green if right"] = panel
    if "curve" in job.config.robustness:
        figures["Accuracy against the radius, with 95 % intervals"] = draw_curve(job, folder / "radius.png")
    logs = {section: job.workdir / section / "metrics.jsonl" for section in SECTIONS}
    metrics = {s: evaluate.read_metrics(log) for s, log in logs.items() if read_jsonl(log)}
    told = {s: each["loss"] for s, each in metrics.items() if "loss" in each}
    losses = {kind: {s: told[s] for s in of if s in told} for kind, of in LOSSES.items() if told.keys() & of}
    if losses:
        figures["Training losses"] = evaluate.loss_curves(losses, folder / "losses.png")
    return figures


def draw_panel(job: Job, path: Path) -> Path:
    """Clean images, and for each defense what its strongest attack made of them."""
    show, data = min(job.config.robustness.show, *map(len, job.rows.values())), job.setting.data
    clean = data.fetch(np.asarray(job.setting.ids[:show]))
    attacked, short = {}, {"none": "no defense", "adversarial_training": "adv. training"}
    for defense in job.evaluations:
        attack = min((a for d, a in job.rows if d == defense), key=lambda a: _accuracy(job.rows[defense, a]))
        kept, first = job.pictures[defense, attack], job.rows[defense, attack][:show]
        after = [row["after"] for row in first]
        purified = kept.get("purified")
        attacked[f"{short.get(defense, defense)}: {attack}"] = evaluate.Attacked(
            adversarial=kept["adversarial"][:show],
            predictions=after if purified is None else None,
            purified=None if purified is None else np.clip(purified[:show], 0.0, 1.0),
            purified_predictions=None if purified is None else after,
            norms=[row["norm"] for row in first],
            norm=norm_label(job.config.robustness),
            clean_predictions=[row["before"] for row in first],
        )
    return evaluate.attack_panel(clean["image"], attacked, clean["label"], path, data.label_names)


def norm_label(spec: ConfigDict) -> str:
    """The norm of the threat, as figures write it."""
    return {"linf": r"$\ell_\infty$", "l2": r"$\ell_2$"}.get(spec.threat.name, spec.threat.name)


def draw_curve(job: Job, path: Path) -> Path:
    """Accuracy of some cells against the radius, on the first `n` images."""
    spec, series = job.config.robustness, {}
    for name in spec.curve.cells:
        defense, attack = name.split("/")
        cell, evaluation = job.cells[defense, attack], job.evaluations[defense]
        label = f"{defense.replace('_', ' ')}, {attack.replace('_', ' ')}"
        series[label] = radius_series(evaluation, attack, cell, spec.curve)
    return evaluate.accuracy_curve(
        list(spec.curve.radii),
        series,
        path,
        xlabel=f"radius ({norm_label(spec)})",
        title=f"Accuracy under attack, n = {min(spec.curve.n, len(job.setting.ids))}",
    )


def check_radii(where: str, cell: Mapping, radii: Sequence[float]) -> None:
    """ValueError for a radius that the threat of a cell can not have."""
    for radius in radii:
        with about(f"{where}.radii"):
            build(jaxdiff.attacks, {**cell["threat"], "radius": radius})


def radius_series(evaluation: Evaluation, attack: str, cell: Mapping, curve: ConfigDict) -> tuple:
    """(accuracy, low, high) of a cell at the radii of a curve."""
    found = [evaluate.summarise(evaluation.run(attack, cell, r, curve.n)[0]) for r in curve.radii]
    return tuple([s[k] for s in found] for k in ("accuracy", "low", "high"))


def same_images(rows: Rows) -> list[str]:
    """Notes: which number counts for each defense, and all its attacks compared on the images that all of them have."""
    notes = []
    for defense in dict.fromkeys(d for d, _ in rows):
        cells = on_common_images({a: r for (d, a), r in rows.items() if d == defense})
        ranking = sorted(cells, key=lambda a: _accuracy(cells[a]))
        listed = ", ".join(f"{a} {100 * _accuracy(cells[a]):.1f} %" for a in ranking)
        worst = evaluate.worst_case(list(cells.values()))
        images = f"{worst['n']} images"
        if worst["nonfinite"]:
            images += f" ({worst['nonfinite']} not finite, so not robust)"
        notes.append(
            f"**{defense}**: the number that counts is the one under {ranking[0]}. On the same {images}: {listed}; "
            f"still right under every attack at once: {100 * worst['accuracy']:.1f} %."
        )
    return notes


def on_common_images(cells: Mapping[str, list[dict]]) -> dict[str, list[dict]]:
    """The rows of the images that all cells have."""
    common = set.intersection(*({row["id"] for row in rows} for rows in cells.values()))
    return {attack: [row for row in rows if row["id"] in common] for attack, rows in cells.items()}


def stage_seconds(workdir: Path, records: list[dict]) -> dict[str, float]:
    """Wall time of each stage, time before a kill included: training from its metrics, attacks from their ledgers."""
    seconds = {}
    for section in SECTIONS:
        told = [row.get("seconds") for row in read_jsonl(workdir / section / "metrics.jsonl")]
        if told := [s for s in told if isinstance(s, int | float)]:
            seconds[f"training: {section}"] = max(told)
    return seconds | {f"attack: {r['defense']}, {r['attack']}": r["seconds"] for r in records}


def _accuracy(rows: list[dict]) -> float:
    return evaluate.summarise(rows)["accuracy"]
