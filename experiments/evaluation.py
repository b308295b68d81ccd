"""Cells of a robustness table: one victim under one attack, every image once, every outcome in a ledger.

A victim is what is judged, and how an attacker sees it. An attack is built from a cell (`cells.py`); an AutoAttack is several,
each run on what the ones before left standing.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from cells import Cell, norm_of, stages_of, transferred, without_radius
from common import width
from judging import Victim, attack_keys, is_random, judge_function, judged_cell, protocol_of
from part_checks import check_n

import jaxdiff
from jaxdiff import evaluate
from jaxdiff.attacks import Stepwise, lost, pooled
from jaxdiff.chunks import in_chunks
from jaxdiff.data.dataset import Dataset
from jaxdiff.defenses import protocols
from jaxdiff.evaluate.summary import robust, share
from jaxdiff.keys import purpose
from jaxdiff.train import data_mesh, shared, spread
from jaxdiff.types import Attack


def attack_function(
    victim: Victim,
    cell: Cell,
    attack_of: Callable[[Any], Attack],
    slots: int,
    others: Mapping[str, Victim],
) -> Callable:
    """(arguments, batch) -> attacked images and the evaluations they took, for `spread`; `others` are those of `surrogates`.

    Every example draws from its own key. With `stop` (unless the classifier is random, or the attack looks for the least norm)
    an example in a stepwise attack is done when it has fallen, and one that is wrong as it is is left alone. What an attack
    without a radius of its own has `found` beyond that of its cell is no success: the image stays as it is. Of a victim that
    is not random a stepwise attack also says where it has `won`, and which images were `wrong` as they are.
    """
    free, gradient = without_radius(cell), victim.gradient(cell)
    random, protocol = is_random(victim, cell), protocol_of(cell)
    stop = cell.get("stop", not random and not free)
    norm = jax.vmap(norm_of(cell))

    def within(radius, x, result):
        found = norm(result["adversarial"] - x)
        # What is not finite is for the judge to see.
        far = jnp.isfinite(found) & (found > radius * (1.0 + 1e-5))
        kept = jnp.where(far.reshape(-1, *[1] * (x.ndim - 1)), x, result["adversarial"])
        won = {"won": result["won"] & ~far} if "won" in result else {}
        return result | won | {"adversarial": kept, "found": found}

    def run(arguments, batch):
        classifier = victim.seen(arguments["weights"], gradient)
        surrogates = {name: other.classifier(arguments["others"][name]) for name, other in others.items()}
        attack = transferred(cell, attack_of(arguments["radius"]), surrogates)
        if protocol is not None:
            attack = protocols.known_to(protocol, attack)
        keys = attack_keys(arguments["key"], batch["id"])
        examples = batch["image"], batch["label"], keys
        by_example = lambda f: in_chunks(lambda e: jax.vmap(f)(*e), slots)(examples)
        if isinstance(attack, Stepwise):
            wrong = jnp.zeros(len(keys), bool)
            if stop:
                wrong = by_example(lambda x, y, key: lost(classifier(x, key), y))
            found = pooled(attack, slots, stop)(classifier, *examples, batch["real"] & ~wrong)
            seen = {} if random else {"won": found.won, "wrong": wrong}
            result = {"adversarial": found.x, "queries": found.queries} | seen
        else:
            result = {"adversarial": by_example(lambda *e: attack(classifier, *e))}
        if not free:
            return result
        return in_chunks(lambda e: within(arguments["radius"], *e), slots)((batch["image"], result))

    return run


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
    slots: int  # examples that a device attacks, or judges, at a time
    fingerprint: str  # of the library's version and what the config says beyond the cells

    @classmethod
    def of(cls, config: Any, section: Any, name: str, data: Dataset, workdir: Path) -> "Setting":
        """From a config's section with n, batch_size and perhaps slots; the images are the first n of a seeded permutation."""
        check_n(name, section.n, data)
        ids = np.random.RandomState(config.seed).permutation(len(data))[: section.n].tolist()
        devices = jax.device_count()
        batch_size = -(-section.batch_size // devices) * devices
        key = purpose(jax.random.key(config.seed), name)
        parts = [config.get("score", {}).get(k) for k in ("process", "kind", "label")]
        digest = evaluate.fingerprint(
            jaxdiff.__version__, config.data, config.seed, section.get("purify"), parts
        )
        return cls(data, ids, workdir, key, batch_size, width(section), digest)


class Evaluation:
    """The cells of one victim: compiled once each, their rows in ledgers, their pictures kept.

    `others` are the classifiers that cells name as `surrogates`.
    """

    def __init__(self, victim: Victim, setting: Setting, others: Mapping[str, Victim] | None = None) -> None:
        self.victim, self.setting, self.mesh, self.others = victim, setting, data_mesh(), others or {}
        weights = {name: shared(other.weights, self.mesh) for name, other in self.others.items()}
        self.arguments = {"weights": shared(victim.weights, self.mesh), "others": weights, "key": setting.key}
        self.digest, *digests = (_digest(v) for v in (victim, *self.others.values()))
        self.digests = dict(zip(self.others, digests, strict=True))
        self.compiled: dict[str, Callable] = {}

    def run(
        self, label: str, cell: Cell, radius: float | None = None, n: int | None = None, keep: int = 0
    ) -> tuple[list[dict], dict[str, np.ndarray]]:
        """The rows of a cell on the first n ids (at another radius, if given), and the pictures of the first `keep`.

        An AutoAttack's row of an image is that of the attack it fell to, or of the last (of shares of draws, the lowest);
        queries and seconds add up.
        """
        cell = judged_cell(self.victim, cell)
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
        others = {other: self.others[other] for other in cell.get("surrogates", ())}
        attack = self._once(
            evaluate.fingerprint("attack", stage, programs),
            lambda: attack_function(victim, cell, attack_of, setting.slots, others),
            None,
        )
        judged = {k: cell.get(k) for k in ("objective", "judge", "threat")} | {"targets": "targets" in cell}
        judge = self._once(
            evaluate.fingerprint("judge", judged), lambda: judge_function(victim, cell), setting.slots
        )
        arguments = self.arguments | {"radius": jnp.float32(radius if radius is not None else 0.0)}
        digests = [self.digests[other] for other in others]
        path = evaluate.ledger_path(setting.workdir / "ledger", victim.name, name)
        ledger = evaluate.Ledger.open(
            path,
            evaluate.fingerprint(
                setting.fingerprint, self.digest, *digests, programs, gradient, radius, stage
            ),
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

    def _once(self, program: str, make: Callable[[], Callable], width: int | None) -> Callable:
        if program not in self.compiled:
            self.compiled[program] = dealt(spread(make(), self.mesh, width), self.mesh.size)
        return self.compiled[program]


def _digest(victim: Victim) -> str:
    return evaluate.fingerprint(*jax.tree.leaves(jax.device_get(victim.weights)))


def _added(before: dict | None, row: dict, stage: str) -> dict:
    """The row of an AutoAttack's last stage, or of one before that left less standing, with what all of them have cost."""
    if not stage:
        return row
    row = row | {"stage": stage}
    total = {k: row.get(k, 0) + (before or {}).get(k, 0) for k in ("queries", "seconds")}
    return (before if before and share(before) < share(row) else row) | total
