"""Figures of the attack report: worst images, StAdv's flow, accuracy against the radius."""

from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
from cells import build_attack, without_radius
from evaluation import Evaluation, attack_keys, is_random
from ml_collections import ConfigDict
from report import on_common_images, radius_series

from jaxdiff import evaluate
from jaxdiff.attacks import Stepwise, run_with_flow
from jaxdiff.attacks.stepwise import choose
from jaxdiff.evaluate.summary import share

Rows = Mapping[tuple[str, str], list[dict]]
Pictures = Mapping[tuple[str, str], Mapping[str, np.ndarray]]
LENGTHS = {
    norm: rf"$\ell_{sign}$, pixels in [0, 1]" for norm, sign in (("linf", r"\infty"), ("l2", 2), ("l1", 1))
} | {"flow_field": "flow, in halves of the image"}


def draw_figures(
    config: ConfigDict, workdir: Path, evaluations: Mapping[str, Evaluation], rows: Rows, pictures: Pictures
) -> dict[str, Path]:
    """{caption: file} of every figure of the report."""
    spec, folder, figures = config.attack, workdir / "figures", {}
    folder.mkdir(exist_ok=True)
    for name, evaluation in evaluations.items():
        own = {attack: r for (victim, attack), r in rows.items() if victim == name}
        kept = {attack: p for (victim, attack), p in pictures.items() if victim == name}
        ids = worst_images(own, spec.show) if spec.panel else []
        if ids:
            caption = (
                f"{name}: of the images that all attacks have, those that fell to the most, non-finite ones first; "
                "prediction below, green if right"
            )
            figures[caption] = draw_worst(spec, folder / f"worst-{name}.png", evaluation, own, kept, ids)
        for attack in spec.flow:
            right = [row for row in own[attack] if row["correct_before"]][: spec.show]
            caption = (
                f"{name}, {attack}: the flow field on images that were right; arrows show where content went"
            )
            if right:
                path = folder / f"flow-{name}-{attack}.png"
                figures[caption] = draw_flow(spec, path, evaluation, attack, right)
        for threat, curve in curves_of(spec).items():
            caption = f"{name}: accuracy against the {threat} radius, with 95 % intervals"
            path = folder / f"radius-{name}-{threat}.png"
            figures[caption] = draw_curve(spec, path, evaluation, threat, curve)
    return figures


def worst_images(rows: Mapping[str, list[dict]], n: int) -> list[int]:
    """The n ids that fell to the most attacks, of those right before that all attacks have.

    Those that any attack made non-finite come first; ties go to the smaller id.
    """
    ranks: dict[int, tuple] = {}
    for row in (row for cell in on_common_images(rows).values() for row in cell if row["correct_before"]):
        broken, fallen, _ = ranks.get(row["id"], (0, 0, 0))
        ranks[row["id"]] = min(broken, -(not row["finite"])), fallen - (1 - share(row)), row["id"]
    return sorted(ranks, key=ranks.__getitem__)[:n]


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
        shown = [rows[attack][j] for j in where]
        after, norms = ([row[name] for row in shown] for name in ("after", "norm"))
        attacked[attack] = evaluate.Attacked(kept[attack]["adversarial"][where], after, norms=norms)
        before = [row["before"] for row in shown]
    return evaluate.attack_panel(clean["image"], attacked, clean["label"], path, data.label_names, before)


def draw_flow(spec: ConfigDict, path: Path, evaluation: Evaluation, name: str, rows: list[dict]) -> Path:
    """The images of these rows of a cell, attacked as they were in the cell, to get the flow fields themselves."""
    batch = evaluation.setting.data.fetch(np.asarray([row["id"] for row in rows]))
    attacked, flows = flows_of(evaluation, spec.cells[name].to_dict(), batch)
    names = [*evaluation.setting.data.label_names, "not finite"]  # class -1
    labels = [f"{names[row['label']]}, seen as {names[row['after']]}" for row in rows]
    return evaluate.flow_figure(batch["image"], attacked, flows, path, labels)


def flows_of(evaluation: Evaluation, cell: Mapping, batch: Mapping) -> tuple[np.ndarray, np.ndarray]:
    """What the cell of an attack by flow makes of a batch, and the flows that make it."""
    setting, victim = evaluation.setting, evaluation.victim
    attack = build_attack(cell, cell.get("threat", {}).get("radius"))
    # Where the cell stops at the first victory (see `attack_function`), so does this.
    if cell.get("stop", not is_random(victim, cell) and not without_radius(cell)):
        attack = until_won(attack)

    @jax.jit
    def run(weights, *examples):
        classifier = victim.seen(weights, victim.gradient(cell))
        found, flows = jax.vmap(lambda *e: run_with_flow(attack, classifier, *e))(*examples)
        return found.x, flows

    keys = attack_keys(setting.key, batch["id"])
    return jax.device_get(run(victim.weights, batch["image"], batch["label"], keys))


def until_won(attack: Stepwise) -> Stepwise:
    """The attack, standing still from its first victory on."""

    def step(problem, state, i):
        return choose(attack.best(state).won, state, attack.step(problem, state, i))

    return attack.replace(step=step)


def curves_of(spec: ConfigDict) -> dict[str, ConfigDict]:
    """{threat: curve}: the cells of `curve` by their threats, for radii are lengths in a norm; empty without one.

    ValueError for a threat that `radii` does not name.
    """
    curves: dict[str, ConfigDict] = {}
    for name in spec.get("curve", {}).get("cells", ()):
        threat = spec.cells[name].threat.name
        if threat not in spec.curve.radii:
            raise ValueError(f"config.attack.curve.radii has none for {threat!r}, the threat of {name!r}.")
        fresh = ConfigDict({"cells": (), "radii": tuple(spec.curve.radii[threat]), "n": spec.curve.n})
        curve = curves.setdefault(threat, fresh)
        curve.cells = (*curve.cells, name)
    return curves


def draw_curve(spec: ConfigDict, path: Path, evaluation: Evaluation, threat: str, curve: ConfigDict) -> Path:
    """Accuracy of some cells of one threat against its radius, on the first `n` images."""
    series = {a: radius_series(evaluation, a, spec.cells[a].to_dict(), curve) for a in curve.cells}
    title = f"{evaluation.victim.name}, n = {min(curve.n, len(evaluation.setting.ids))}"
    xlabel = f"radius ({LENGTHS.get(threat, threat)})"
    return evaluate.accuracy_curve(list(curve.radii), series, path, xlabel=xlabel, title=title)
