"""Cells of a table, run: one victim under one attack, every image once, every outcome in a ledger.

A ledger lies in a folder of its own, named after all that its rows depend on: victim, attack, threat, view, judge, data and
seed. So a table with one more cell, more images or other figures attacks nothing again, and tables share what they have in
common. One process at a time works in such a folder.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxdiff
from jaxdiff import checks, evaluate
from jaxdiff.data.dataset import Dataset
from jaxdiff.study.claim import claimed
from jaxdiff.study.table.attack import attack_function
from jaxdiff.study.table.judge import judge_function
from jaxdiff.study.table.place import Place
from jaxdiff.study.table.victim import Victim
from jaxdiff.train import data_mesh, shared, spread
from jaxdiff.types import PRNGKey

LEDGER = "rows.jsonl"


class Setting(NamedTuple):
    """What all cells of a table share: `ids` of the images, batches, the key, and where ledgers lie; `facts` is all else that
    outcomes depend on.
    """

    data: Dataset
    ids: list[int]
    key: PRNGKey
    batch_size: int  # a multiple of the devices
    slots: int  # examples that a device attacks, or judges, at a time
    folder: Path
    facts: Any
    digests: Mapping[str, str] = {}  # of stages by their names: what their products were made of


def drawn_ids(data: Dataset, n: int, seed: int) -> list[int]:
    """The first n of a seeded permutation of the images; ValueError if there are fewer."""
    checks.count(f"A table of {data.name}, which has {len(data)} {data.split} images,", 1, len(data), n=n)
    return np.random.RandomState(seed).permutation(len(data))[:n].tolist()


def rounded(batch_size: int) -> int:
    """The least multiple of the devices that is not less."""
    checks.count("A table", batch_size=batch_size)
    devices = jax.device_count()
    return -(-batch_size // devices) * devices


def width(slots: int | None, batch_size: int) -> int:
    """`slots`, or what suits the platform and is no more than `batch_size`; devices have no say in it, so that results do not
    depend on them.
    """
    if slots is not None:
        checks.count("A table", slots=slots)
    return slots or min(batch_size, 16 if jax.default_backend() == "cpu" else 64)


class Evaluation:
    """The places of a table, run: compiled once each, their rows in ledgers, their pictures kept."""

    def __init__(self, places: Sequence[Place], setting: Setting) -> None:
        self.setting, self.mesh = setting, data_mesh()
        arrays = {name: array for place in places for name, array in place.arrays.items()}
        self.arrays = shared(arrays, self.mesh)
        self.digests = {n: evaluate.fingerprint(*_leaves(a)) for n, a in self.arrays.items()}
        self.compiled: dict[str, Callable] = {}
        self.ledgers: list[Path] = []

    def run(
        self, place: Place, radius: float | None = None, n: int | None = None, keep: int = 0
    ) -> tuple[list[dict], dict[str, np.ndarray]]:
        """The rows of a place on its first n ids (at another radius, if given), and the pictures of the first `keep`."""
        setting, cell = self.setting, place.cell
        ids = setting.ids[: n or cell.n or len(setting.ids)]
        at = "" if radius is None else f"-at-{radius:g}"
        if radius is None and cell.threat is not None:
            radius = float(cell.limits().radius)
        attacked = self._program(place, radius)
        said = {"column": place.column, "cell": cell.spec, "radius": radius}
        record = self.about(place.name, place.victim, place.needs) | said
        digest, label = evaluate.fingerprint(record), f"{place.name}, {place.column}{at}"
        with claimed(setting.folder / f"{place.name}--{place.column}-{digest}", record) as folder:
            ledger = evaluate.Ledger.open(folder / LEDGER, digest)
            pictures = evaluate.run_cell(
                ledger, ids, setting.data.fetch, attacked, setting.batch_size, label, keep
            )
        self.ledgers.append(ledger.path)
        return ledger.select(ids), pictures

    def about(self, name: str, victim: Victim, needs: Sequence[str]) -> dict[str, Any]:
        """All that what is found of a victim depends on, the stages among it that it needs, and those that it is found by."""
        return {
            "version": jaxdiff.__version__,
            "victim": {"name": name, **victim.spec},
            "products": {n: [self.setting.digests.get(n), self.digests.get(n)] for n in needs},
            "facts": self.setting.facts,
        }

    def _program(self, place: Place, radius: float | None) -> Callable:
        """batch -> the outcome of every example, see `run_cell`."""
        setting, said = self.setting, place.cell.spec
        attack = attack_function(place, setting.data.num_classes, setting.slots)
        judge = judge_function(place)
        judged_by = {"judge": said["judge"], "threat": said["threat"], "votes": place.protocol is not None}
        attack = self._once(["attack", place.name, said], attack, None)
        judge = self._once(["judge", place.name, judged_by], judge, setting.slots)
        arguments = {
            "arrays": {name: self.arrays[name] for name in place.arrays},
            "key": setting.key,
            "radius": jnp.float32(0.0 if radius is None else radius),
        }

        def attacked(batch):
            found = attack(arguments, batch)
            asked = {name: found[name] for name in ("adversarial", "won") if name in found}
            return found | judge(arguments, batch | asked)

        return attacked

    def _once(self, program: Any, f: Callable, width: int | None) -> Callable:
        """The function for `spread`, compiled once for all that are the same program."""
        name = evaluate.fingerprint(program)
        if name not in self.compiled:
            self.compiled[name] = _dealt(spread(f, self.mesh, width), self.mesh.size)
        return self.compiled[name]


def _dealt(f: Callable, devices: int) -> Callable:
    """`f` on a batch dealt to the devices in turn: a batch that is not full keeps all of them at work."""

    def run(arguments, batch):
        order = np.arange(len(batch["id"])).reshape(-1, devices).T.ravel()
        outputs = f(arguments, {name: np.asarray(v)[order] for name, v in batch.items()})
        return {name: np.asarray(v)[np.argsort(order)] for name, v in outputs.items()}

    return run


def _leaves(arrays: Any) -> list[Any]:
    return jax.tree.leaves(jax.device_get(arrays))
