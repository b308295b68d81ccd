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
from jaxdiff.evaluate.fingerprints import plain
from jaxdiff.study.bound import arrays_of, made
from jaxdiff.study.claim import claimed
from jaxdiff.study.table.attack import attack_function, dealt
from jaxdiff.study.table.cell import Cell
from jaxdiff.study.table.judge import judge_function
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
    """The cells of one victim: compiled once each, their rows in ledgers, their pictures kept."""

    def __init__(self, name: str, victim: Victim, cells: Sequence[Cell], setting: Setting) -> None:
        self.name, self.victim, self.setting, self.mesh = name, victim, setting, data_mesh()
        self.products = dict(victim.products)
        for cell in cells:
            self.products |= cell.products
        self.arrays = shared(arrays_of(self.products), self.mesh)
        self.digests = {n: evaluate.fingerprint(*_leaves(a)) for n, a in self.arrays.items()}
        self.compiled: dict[str, Callable] = {}
        self.ledgers: list[Path] = []

    def run(
        self, column: str, cell: Cell, radius: float | None = None, n: int | None = None, keep: int = 0
    ) -> tuple[list[dict], dict[str, np.ndarray]]:
        """The rows of a cell on its first n ids (at another radius, if given), and the pictures of the first `keep`."""
        ids = self.setting.ids[: n or cell.n or len(self.setting.ids)]
        at = "" if radius is None else f"-at-{radius:g}"
        limits = cell.limits()
        radius = radius if radius is not None or limits is None else float(limits.radius)
        record = self.about(*cell.products) | plain({"column": column, "cell": cell.spec, "radius": radius})
        print_ = evaluate.fingerprint(record)
        folder = self.setting.folder / f"{self.name}--{column}-{print_}"
        with claimed(folder, record):
            ledger = evaluate.Ledger.open(folder / LEDGER, print_)
            attacked = self._program(cell, radius)
            label = f"{self.name}, {column}{at}"
            pictures = evaluate.run_cell(
                ledger, ids, self.setting.data.fetch, attacked, self.setting.batch_size, label, keep
            )
        self.ledgers.append(folder / LEDGER)
        return ledger.select(ids), pictures

    def attack_names(self, cell: Cell) -> list[str]:
        """The names of its attacks, in their order."""
        return list(
            cell.attacks(made(cell.products, arrays_of(cell.products)), self.setting.data.num_classes)
        )

    def about(self, *needs: str) -> dict[str, Any]:
        """All that what is found of the victim depends on, and of further stages that it is found by means of."""
        named = dict.fromkeys([*self.victim.products, *needs])
        of = {name: [self.setting.digests.get(name), self.digests.get(name)] for name in named}
        return plain(
            {
                "version": jaxdiff.__version__,
                "victim": {"name": self.name, **self.victim.spec},
                "products": of,
                "facts": self.setting.facts,
            }
        )

    def _program(self, cell: Cell, radius: float | None) -> Callable:
        """batch -> the outcome of every example, see `run_cell`."""
        named = self.victim.products | cell.products
        classes, slots = self.setting.data.num_classes, self.setting.slots
        several = len(self.attack_names(cell)) > 1
        attack = self._once(
            ["attack", cell.spec],
            lambda: attack_function(self.victim, cell, named, classes, slots),
            None,
        )
        judged = {"judge": cell.spec["judge"], "threat": cell.spec["threat"], "several": several}
        judge = self._once(
            ["judge", judged], lambda: judge_function(self.victim, cell, named, several), slots
        )
        arguments = {
            "arrays": {name: self.arrays[name] for name in named if name in self.arrays},
            "key": self.setting.key,
            "radius": jnp.float32(0.0 if radius is None else radius),
        }

        def attacked(batch):
            found = attack(arguments, batch)
            extra = {k: v for k, v in found.items() if k != "adversarial"}
            return judge(arguments, {**batch, "adversarial": found["adversarial"]}) | extra

        return attacked

    def _once(self, program: Any, make: Callable[[], Callable], width: int | None) -> Callable:
        name = evaluate.fingerprint(program)
        if name not in self.compiled:
            self.compiled[name] = dealt(spread(make(), self.mesh, width), self.mesh.size)
        return self.compiled[name]


def _leaves(arrays: Any) -> list[Any]:
    return jax.tree.leaves(jax.device_get(arrays))
