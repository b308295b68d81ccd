"""Cells of a robustness table: one victim under one attack, every image once, every outcome in a ledger.

A victim is what is judged, and how an attacker sees it. An attack is built from a cell (`cells.py`); an AutoAttack is several,
each run on what the ones before left standing.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from cells import Cell, judged_by, norm_of, stages_of, without_radius
from common import example_keys, purpose

from jaxdiff import evaluate
from jaxdiff.attacks import Stepwise, lost, pooled
from jaxdiff.build import build
from jaxdiff.data.dataset import Dataset
from jaxdiff.defenses import attackers_view, protocols
from jaxdiff.evaluate.summary import robust
from jaxdiff.train import data_mesh, shared, spread
from jaxdiff.types import Attack, Classifier, Defense, PRNGKeys


class Victim(NamedTuple):
    """A classifier, perhaps behind a defense, as functions of its weights."""

    name: str
    classes: int
    weights: Any
    classifier: Callable[[Any], Classifier]
    defense: Callable[[Any], Defense] | None = None

    def defended(self, weights: Any) -> Classifier:
        """What is judged."""
        return self.seen(weights, "exact")

    def seen(self, weights: Any, gradient: str) -> Classifier:
        """What an attacker with this gradient attacks; without a defense, the classifier."""
        classifier = self.classifier(weights)
        return attackers_view(classifier, self.defense(weights), gradient) if self.defense else classifier

    def gradient(self, cell: Cell) -> str:
        """What the attacker of a cell differentiates: without a defense, the classifier alone."""
        return cell.get("gradient", "exact") if self.defense else "blind"


def attack_function(victim: Victim, cell: Cell, attack_of: Callable[[Any], Attack], slots: int) -> Callable:
    """(arguments, batch) -> attacked images and the evaluations they took, for `spread`.

    Every example draws from its own key. With `stop` (unless the classifier is random, or the attack looks for the least norm)
    an example in a stepwise attack is done when it has fallen, and one that is wrong as it is is left alone. What an attack
    without a radius of its own has `found` beyond that of its cell is no success: the image stays as it is.
    """
    free, gradient = without_radius(cell), victim.gradient(cell)
    random = victim.defense is not None or "judge" in cell or cell.get("autoattack", {}).get("name") == "rand"
    stop = cell.get("stop", not random and not free)
    norm = jax.vmap(norm_of(cell))

    def within(radius, x, x_adv):
        if not free:
            return {"adversarial": x_adv}
        found = norm(x_adv - x)
        near = (found <= radius * (1.0 + 1e-5)).reshape(-1, *[1] * (x.ndim - 1))
        return {"adversarial": jnp.where(near, x_adv, x), "found": found}

    def run(arguments, batch):
        classifier, attack = victim.seen(arguments["weights"], gradient), attack_of(arguments["radius"])
        keys = attack_keys(arguments["key"], batch["id"])
        examples, width = (batch["image"], batch["label"], keys), min(slots, len(keys))
        if not isinstance(attack, Stepwise):
            attacked = lambda e: attack(classifier, *e)  # noqa: E731
            return within(
                arguments["radius"], batch["image"], jax.lax.map(attacked, examples, batch_size=width)
            )
        todo = batch["real"]
        if stop:
            wrong = lambda e: lost(classifier(e[0], e[2]), e[1])  # noqa: E731
            todo &= ~jax.lax.map(wrong, examples, batch_size=width)
        found = pooled(attack, slots, stop)(classifier, *examples, todo)
        return within(arguments["radius"], batch["image"], found.x) | {"queries": found.queries}

    return run


def attack_keys(key: jax.Array, ids: jax.Array) -> PRNGKeys:
    """The key of the attack on each example."""
    return example_keys(purpose(key, "attack"), ids)


def judge_function(victim: Victim, cell: Cell) -> Callable:
    """(arguments, batch with "adversarial") -> the outcome of every example, for `spread`.

    A judgement evaluates anew, with randomness that comes from the example alone: the same before and after, the same for every
    attack, and unknown to all of them. A cell with `judge` (a protocol of `jaxdiff.defenses.protocols`) is judged by several
    draws: its row is right after the attack if the verdict is 1, and holds the verdict and an independent `final` draw too.
    """
    loss, norm = judged_by(cell), norm_of(cell)
    protocol = build(protocols, cell["judge"]) if "judge" in cell else None

    def one(arguments, image, x_adv, label, example):
        weights, pictures = arguments["weights"], {}
        key = jax.random.fold_in(purpose(arguments["key"], "judgement"), example)
        judged = victim.defended(weights)
        if protocol is not None:
            before = judged(image, key)
            found = protocols.judge(protocol, judged, x_adv, label, key)
            after = found.logits[jnp.argmax(found.correct == (found.verdict >= 1.0))]
            pictures = {"verdict": found.verdict, "final": found.final}
        elif victim.defense is not None:
            defense_key, classifier_key = jax.random.split(key)
            purified = jax.vmap(lambda x: victim.defense(weights)(x, defense_key))(jnp.stack([image, x_adv]))
            before, after = jax.vmap(lambda x: victim.classifier(weights)(x, classifier_key))(purified)
            pictures = {"purified": purified[1]}
        else:
            before, after = jax.vmap(lambda x: judged(x, key))(jnp.stack([image, x_adv]))
        return (
            evaluate.outcome(image, x_adv, before, after, loss(after, label), norm(x_adv - image)) | pictures
        )

    return lambda arguments, batch: jax.vmap(one, (None, 0, 0, 0, 0))(
        arguments, batch["image"], batch["adversarial"], batch["label"], batch["id"]
    )


def dealt(f: Callable, devices: int) -> Callable:
    """`f` on a batch dealt to the devices in turn: a batch that is not full keeps all of them at work."""

    def run(arguments, batch):
        order = np.arange(len(batch["id"])).reshape(-1, devices).T.ravel()
        outputs = f(arguments, {name: np.asarray(v)[order] for name, v in batch.items()})
        return {name: np.asarray(v)[np.argsort(order)] for name, v in outputs.items()}

    return run


class Setting(NamedTuple):
    """What all cells of a run share: `ids` of the images, batches, and the key."""

    data: Dataset
    ids: list[int]
    workdir: Path
    key: jax.Array
    batch_size: int
    slots: int  # examples that a device attacks at a time
    fingerprint: str  # of what the config says beyond the cells

    @classmethod
    def of(cls, config: Any, section: Any, name: str, data: Dataset, workdir: Path) -> "Setting":
        """From a config's section with n, batch_size and perhaps slots; the images are the first n of a seeded permutation."""
        if not 1 <= section.n <= len(data):
            raise ValueError(
                f"config.{name}.n is between 1 and the {len(data)} test images; got {section.n}."
            )
        ids = np.random.RandomState(config.seed).permutation(len(data))[: section.n].tolist()
        devices = jax.device_count()
        batch_size = -(-section.batch_size // devices) * devices
        key = purpose(jax.random.key(config.seed), name)
        parts = [config.get("score", {}).get(k) for k in ("process", "kind", "label")]
        digest = evaluate.fingerprint(config.data, config.seed, section.get("purify"), parts)
        return cls(data, ids, workdir, key, batch_size, section.get("slots", batch_size // devices), digest)


class Evaluation:
    """The cells of one victim: compiled once each, their rows in ledgers, their pictures kept."""

    def __init__(self, victim: Victim, setting: Setting) -> None:
        self.victim, self.setting, self.mesh = victim, setting, data_mesh()
        self.arguments = {"weights": shared(victim.weights, self.mesh), "key": setting.key}
        self.digest = evaluate.fingerprint(*jax.tree.leaves(jax.device_get(victim.weights)))
        self.compiled: dict[str, Callable] = {}

    def run(
        self, label: str, cell: Cell, radius: float | None = None, n: int | None = None, keep: int = 0
    ) -> tuple[list[dict], dict[str, np.ndarray]]:
        """The rows of a cell on the first n ids (at another radius, if given), and the pictures of the first `keep`.

        An AutoAttack's row of an image is that of the attack it fell to, or of the last; queries and seconds add up.
        """
        name = label if radius is None else f"{label}-at-{radius:g}"
        radius = cell.get("threat", {}).get("radius") if radius is None else radius
        ids = self.setting.ids[: n or cell.get("n", len(self.setting.ids))]
        rows, pictures, standing = {}, {}, ids
        for stage, attack_of in stages_of(cell, self.victim.classes).items():
            part = f"{name}.{stage}" if stage else name
            found, kept = self._stage(part, stage, cell, attack_of, radius, standing, keep)
            for position, row in enumerate(found):
                rows[row["id"]] = _added(rows.get(row["id"]), row, stage)
                if position < keep:
                    pictures[row["id"]] = {k: v[position] for k, v in kept.items()}
            standing = [row["id"] for row in found if robust(row)]
            if not standing:
                break
        names = pictures[ids[0]] if keep else ()
        return [rows[i] for i in ids], {k: np.stack([pictures[i][k] for i in ids[:keep]]) for k in names}

    def _stage(
        self,
        name: str,
        stage: str,
        cell: Cell,
        attack_of: Callable,
        radius: float | None,
        ids: list[int],
        keep: int,
    ) -> tuple[list[dict], dict[str, np.ndarray]]:
        """The rows of one attack on some images."""
        setting, victim, programs = self.setting, self.victim, {k: v for k, v in cell.items() if k != "n"}
        gradient = victim.gradient(cell)
        attack = self._once(
            evaluate.fingerprint("attack", stage, programs),
            lambda: attack_function(victim, cell, attack_of, setting.slots),
        )
        judged = {k: cell.get(k) for k in ("objective", "judge", "threat")} | {"targets": "targets" in cell}
        judge = self._once(evaluate.fingerprint("judge", judged), lambda: judge_function(victim, cell))
        arguments = self.arguments | {"radius": jnp.float32(radius if radius is not None else 0.0)}
        path = evaluate.ledger_path(setting.workdir / "ledger", victim.name, name)
        ledger = evaluate.Ledger.open(
            path, evaluate.fingerprint(setting.fingerprint, self.digest, programs, gradient, radius, stage)
        )

        def attacked(batch):
            found = attack(arguments, batch)
            extra = {k: v for k, v in found.items() if k != "adversarial"}
            return judge(arguments, {**batch, "adversarial": found["adversarial"]}) | extra

        label = f"{victim.name}, {name}"
        pictures = evaluate.run_cell(
            ledger, ids, setting.data.fetch, attacked, setting.batch_size, label, keep
        )
        return ledger.select(ids), pictures

    def _once(self, program: str, make: Callable[[], Callable]) -> Callable:
        if program not in self.compiled:
            self.compiled[program] = dealt(spread(make(), self.mesh), self.mesh.size)
        return self.compiled[program]


def _added(before: dict | None, row: dict, stage: str) -> dict:
    """The row of an AutoAttack's last stage, with what the ones before have cost."""
    if not stage:
        return row
    total = {k: row.get(k, 0) + (before or {}).get(k, 0) for k in ("queries", "seconds")}
    return row | total | {"stage": stage}
