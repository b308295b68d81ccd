"""Figures of the attack report: worst images, StAdv's flow, accuracy against the radius."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
from cells import build_attack
from evaluation import Evaluation, attack_keys
from ml_collections import ConfigDict
from report import radius_series

from jaxdiff import evaluate
from jaxdiff.attacks import run_with_flow

Rows = Mapping[tuple[str, str], list[dict]]
Pictures = Mapping[tuple[str, str], Mapping[str, np.ndarray]]


def draw_figures(
    config: ConfigDict, workdir: Path, evaluations: Mapping[str, Evaluation], rows: Rows, pictures: Pictures
) -> dict[str, Path]:
    """{caption: file} of every figure of the report."""
    spec, folder, figures = config.attack, workdir / "figures", {}
    folder.mkdir(exist_ok=True)
    for name, evaluation in evaluations.items():
        own = {attack: r for (victim, attack), r in rows.items() if victim == name}
        kept = {attack: p for (victim, attack), p in pictures.items() if victim == name}
        ids = worst_images(own, spec.panel, spec.show)
        if ids:
            caption = (
                f"{name}: the images with the largest loss under any attack; prediction below, green if right"
            )
            figures[caption] = draw_worst(spec, folder / f"worst-{name}.png", evaluation, own, kept, ids)
        for attack in spec.flow:
            caption = f"{name}, {attack}: the flow field on the image; arrows show where its content went"
            figures[caption] = draw_flow(spec, folder / f"flow-{name}-{attack}.png", evaluation, attack)
        if "curve" in spec:
            caption = f"{name}: accuracy against the radius, with 95 % intervals"
            figures[caption] = draw_curve(spec, folder / f"radius-{name}.png", evaluation)
    return figures


def worst_images(rows: Mapping[str, list[dict]], panel: Sequence[str], n: int) -> list[int]:
    """The n ids, right before, with the largest loss under any attack, among those that all attacks of the panel have."""
    losses: dict[int, float] = {}
    for row in (row for cell in rows.values() for row in cell):
        if row["correct_before"] and row["loss"] is not None:
            losses[row["id"]] = max(row["loss"], losses.get(row["id"], row["loss"]))
    common = [i for i in losses if all(any(row["id"] == i for row in rows[a]) for a in panel)]
    return sorted(common, key=lambda i: -losses[i])[:n] if panel else []


def draw_worst(
    spec: ConfigDict,
    path: Path,
    evaluation: Evaluation,
    rows: Mapping[str, list[dict]],
    kept: Mapping[str, Mapping],
    ids: list[int],
) -> Path:
    """Images, and what each attack of the panel made of them."""
    data, attacked = evaluation.setting.data, {}
    clean = data.fetch(np.asarray(ids))
    for attack in spec.panel:
        position = {row["id"]: j for j, row in enumerate(rows[attack])}
        where = [position[i] for i in ids]
        attacked[attack] = evaluate.Attacked(
            kept[attack]["adversarial"][where], [rows[attack][j]["after"] for j in where]
        )
    return evaluate.attack_panel(clean["image"], attacked, clean["label"], path, data.label_names)


def draw_flow(spec: ConfigDict, path: Path, evaluation: Evaluation, name: str) -> Path:
    """The first images, attacked once more to get the flow fields themselves."""
    setting, victim, cell = evaluation.setting, evaluation.victim, spec.cells[name].to_dict()
    batch, attack = (
        setting.data.fetch(np.asarray(setting.ids[: spec.show])),
        build_attack(cell, cell.get("threat", {}).get("radius")),
    )

    @jax.jit
    def run(weights, x, y, keys):
        classifier = victim.seen(weights, victim.gradient(cell))
        found, flows = jax.vmap(lambda *e: run_with_flow(attack, classifier, *e))(x, y, keys)
        return found.x, flows, jax.vmap(lambda x, key: classifier(x, key).argmax())(found.x, keys)

    keys = attack_keys(setting.key, batch["id"])
    attacked, flows, seen = run(victim.weights, batch["image"], batch["label"], keys)
    names = setting.data.label_names
    labels = [f"{names[y]}, seen as {names[int(k)]}" for y, k in zip(batch["label"], seen, strict=True)]
    return evaluate.flow_figure(batch["image"], np.asarray(attacked), np.asarray(flows), path, labels)


def draw_curve(spec: ConfigDict, path: Path, evaluation: Evaluation) -> Path:
    """Accuracy of some cells against the radius, on the first `n` images."""
    series = {a: radius_series(evaluation, a, spec.cells[a].to_dict(), spec.curve) for a in spec.curve.cells}
    title = f"{evaluation.victim.name}, n = {min(spec.curve.n, len(evaluation.setting.ids))}"
    return evaluate.accuracy_curve(list(spec.curve.radii), series, path, xlabel="radius", title=title)
