"""The main job: trains what is missing, attacks every defense of a config, and writes the table and the report.

    python experiments/robustness.py --config=configs/digits.py --workdir=runs/digits

Stages: score network, classifier, adversarially trained classifier, one cell per defense and attack, figures, report. A
finished stage is not run again; a killed one goes on where it was, and the numbers are the same.
"""

import time
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from common import Score, build_score, check_known, load_data, need, purpose, run
from ml_collections import ConfigDict
from report import draw_figures, same_images, stage_seconds
from train_classifier import train_classifier
from train_score import train_score
from training import side_by_side

import jaxdiff.models
from jaxdiff import evaluate
from jaxdiff.attacks import ascent, eot, objectives, restarts, threat, untargeted
from jaxdiff.build import build
from jaxdiff.data.dataset import Dataset
from jaxdiff.defenses import attackers_view, diffpure
from jaxdiff.diffusion import grids, solvers
from jaxdiff.models import as_classifier
from jaxdiff.train import data_mesh, shared, spread
from jaxdiff.types import Attack, Classifier, Defense

DEFENSES = {"none": "classifier", "adversarial_training": "adversarial_training", "diffpure": "classifier"}
ATTACKS = ("standard", "fgsm", "pgd", "blind_pgd", "bpda", "adaptive_pgd")  # the order of the columns
CELL = {"ascent", "objective", "gradient", "eot", "restarts", "n"}


class Trained(NamedTuple):
    """Everything that attacks need: modules, and the arrays that are arguments of the compiled attacks."""

    models: dict[str, Any]
    variables: dict[str, Any]
    score: Score | None
    score_params: Any


def train_all(config: ConfigDict, workdir: Path) -> Trained:
    """Trains, or restores, what the cells of the config need."""
    used = [d for d in DEFENSES if d in config.robustness.cells]
    purified = "diffpure" in used
    if purified:
        need(config, "score")
    sections = list(dict.fromkeys(DEFENSES[d] for d in used))
    need(config, *sections)
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
    return diffpure(score.process, solver, score.denoiser(params, spec.clip), ts, spec.remat)


def build_attack(config: ConfigDict, cell: Mapping, radius: Any) -> Attack:
    """The attack of a cell at a radius; the step length scales with it. A cell without an ascent is "standard"."""
    if "ascent" not in cell:
        return lambda classifier, x, y, key: x
    spec = config.robustness
    scale = radius / spec.threat.radius
    limits = build(threat, {**spec.threat, "radius": radius})
    climb = build(ascent, {**cell["ascent"], "lr": cell["ascent"]["lr"] * scale}, threat=limits)
    objective = build(objectives, cell.get("objective", spec.objective))
    attack = untargeted(climb, objective)
    if cell.get("eot", 1) > 1:
        single = attack
        attack = lambda classifier, x, y, key: single(eot(classifier, cell["eot"]), x, y, key)  # noqa: E731
    return restarts(attack, cell["restarts"], objective) if cell.get("restarts", 1) > 1 else attack


def attack_function(config: ConfigDict, trained: Trained, defense: str, cell: Mapping) -> Callable:
    """(arguments, batch) -> attacked images, for `spread`; every example draws from its own key."""
    model = trained.models[DEFENSES[defense]]

    def one(arguments, image, label, example):
        view: Classifier = as_classifier(model, arguments["variables"])
        if gradient_of(defense, cell) != "blind":
            purify = build_purifier(config.robustness.purify, trained.score, arguments["score"])
            view = attackers_view(view, purify, cell.get("gradient", "exact"))
        key = jax.random.fold_in(purpose(arguments["key"], "attack"), example)
        return build_attack(config, cell, arguments["radius"])(view, image, label, key)

    return lambda arguments, batch: jax.vmap(one, (None, 0, 0, 0))(
        arguments, batch["image"], batch["label"], batch["id"]
    )


def judge_function(config: ConfigDict, trained: Trained, defense: str) -> Callable:
    """(arguments, batch with "adversarial") -> the outcome of every example, for `spread`.

    The randomness of a judgement comes from the example alone: the same before and after, the same for every attack,
    and unknown to all of them.
    """
    spec, model = config.robustness, trained.models[DEFENSES[defense]]
    norm, objective = build(threat, spec.threat).norm, build(objectives, spec.objective)

    def one(arguments, image, x_adv, label, example):
        classifier: Classifier = as_classifier(model, arguments["variables"])
        purify: Defense = lambda x, key: x  # noqa: E731
        if defense == "diffpure":
            purify = build_purifier(spec.purify, trained.score, arguments["score"])
        key = jax.random.fold_in(purpose(arguments["key"], "judgement"), example)
        purified = jax.vmap(lambda x: purify(x, key))(jnp.stack([image, x_adv]))
        before, after = jax.vmap(lambda x: classifier(x, key))(purified)
        outcome = evaluate.outcome(image, x_adv, before, after, objective(after, label), norm(x_adv - image))
        return outcome | ({"purified": purified[1]} if defense == "diffpure" else {})

    return lambda arguments, batch: jax.vmap(one, (None, 0, 0, 0, 0))(
        arguments, batch["image"], batch["adversarial"], batch["label"], batch["id"]
    )


def gradient_of(defense: str, cell: Mapping) -> str:
    """What the attacker of a cell differentiates; without a purification, the classifier alone."""
    return cell.get("gradient", "exact") if defense == "diffpure" else "blind"


class Evaluation:
    """The cells of one run: compiled once each, their rows in ledgers, their first pictures kept."""

    def __init__(self, config: ConfigDict, workdir: Path, trained: Trained, data: Dataset) -> None:
        self.config, self.workdir, self.trained, self.data = config, workdir, trained, data
        spec = config.robustness
        if not 1 <= spec.n <= len(data):
            raise ValueError(
                f"config.robustness.n is between 1 and the {len(data)} test images; got {spec.n}."
            )
        order = np.random.RandomState(config.seed).permutation(len(data))
        self.ids = order[: spec.n].tolist()
        self.mesh = data_mesh()
        self.batch_size = -(-spec.batch_size // self.mesh.size) * self.mesh.size
        self.key = purpose(jax.random.key(config.seed), "robustness")
        self.digests = {
            k: evaluate.fingerprint(*jax.tree.leaves(jax.device_get(v))) for k, v in self._weights().items()
        }
        self.placed = {k: shared(v, self.mesh) for k, v in self._weights().items()}
        self.functions: dict[str, Callable] = {}  # compiled once: a transferred attack is the plain one

    def _weights(self) -> dict[str, Any]:
        weights = dict(self.trained.variables)
        return weights if self.trained.score is None else weights | {"score": self.trained.score_params}

    def run(
        self, defense: str, attack: str, radius: float | None = None, n: int | None = None, keep: int = 0
    ) -> tuple[list[dict], dict[str, np.ndarray]]:
        """The rows of a cell on the first n ids (at another radius, if given) and the pictures of the first `keep`."""
        spec = self.config.robustness
        cell = spec.cells[defense][attack].to_dict()
        nominal = radius is None
        radius = spec.threat.radius if nominal else radius
        ids = self.ids[: n or cell.get("n", spec.n)]
        label = attack if nominal else f"{attack}-at-{radius:g}"
        ledger = evaluate.Ledger.open(
            evaluate.ledger_path(self.workdir / "ledger", defense, label),
            self._fingerprint(defense, cell, radius),
        )
        parts = {"variables": self.placed[DEFENSES[defense]], "key": self.key, "radius": jnp.float32(radius)}
        if defense == "diffpure":
            parts["score"] = self.placed["score"]
        attack_batch, judge_batch = self._attack(defense, cell), self._judge(defense)

        def attacked(batch):
            x_adv = attack_batch(parts, batch) if "ascent" in cell else batch["image"]
            return judge_batch(parts, {**batch, "adversarial": x_adv})

        pictures = evaluate.run_cell(
            ledger, ids, self.data.fetch, attacked, self.batch_size, f"{defense}, {label}", keep
        )
        return ledger.select(ids), pictures

    def _attack(self, defense: str, cell: Mapping) -> Callable:
        name = evaluate.fingerprint(DEFENSES[defense], gradient_of(defense, cell), _attack_of(cell))
        return self._once(name, lambda: attack_function(self.config, self.trained, defense, cell))

    def _judge(self, defense: str) -> Callable:
        return self._once(defense, lambda: judge_function(self.config, self.trained, defense))

    def _once(self, name: str, make: Callable[[], Callable]) -> Callable:
        if name not in self.functions:
            self.functions[name] = spread(make(), self.mesh)
        return self.functions[name]

    def _fingerprint(self, defense: str, cell: Mapping, radius: float) -> str:
        """Everything the rows depend on, but for how many there are."""
        spec, digests = self.config.robustness, {"classifier": self.digests[DEFENSES[defense]]}
        if defense == "diffpure":
            digests |= {"score": self.digests["score"], "purify": spec.purify}
        settings = (self.config.data, self.config.seed, spec.threat, spec.objective, radius)
        return evaluate.fingerprint(*settings, gradient_of(defense, cell), _attack_of(cell), digests)


def _attack_of(cell: Mapping) -> dict[str, Any]:
    """What a cell says of the attack itself."""
    return {k: v for k, v in cell.items() if k not in ("n", "gradient")}


def cells_in_order(cells: Mapping) -> list[tuple[str, str]]:
    """(defense, attack) of every cell, rows and columns in the order of a paper; ValueError for unknown fields."""
    check_known("config.robustness.cells", cells, set(DEFENSES))
    for defense, attacks in cells.items():
        for attack, cell in attacks.items():
            check_known(f"config.robustness.cells.{defense}.{attack}", cell, CELL)
    rank = lambda attack: (ATTACKS.index(attack) if attack in ATTACKS else len(ATTACKS), attack)  # noqa: E731
    return [(d, a) for d in DEFENSES if d in cells for a in sorted(cells[d], key=rank)]


def main(config: ConfigDict, workdir: Path) -> None:
    """Runs all stages."""
    started = time.perf_counter()
    need(config, "robustness")
    cells = cells_in_order(config.robustness.cells)
    data = load_data(config, "test")
    trained = train_all(config, workdir)
    evaluation = Evaluation(config, workdir, trained, data)
    rows, pictures = {}, {}
    for cell in cells:
        rows[cell], pictures[cell] = evaluation.run(*cell, keep=config.robustness.show)
    records = [evaluate.record(*cell, evaluate.summarise(rows[cell])) for cell in cells]
    evaluate.write_results(workdir / "results.json", records)
    figures = draw_figures(config, workdir, evaluation, rows, pictures)
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
        notes=same_images(rows),
    )
    print(evaluate.terminal_table(records))
    print(f"\n{time.perf_counter() - started:.0f} s; report: {path}")


if __name__ == "__main__":
    run(main)
