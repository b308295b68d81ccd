"""Checks of a victim beside the table, such as a battery against masked gradients: run once, kept as text and pictures."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import checks, evaluate
from jaxdiff.data.dataset import Dataset
from jaxdiff.evaluate.atomic import write_text
from jaxdiff.evaluate.fingerprints import plain
from jaxdiff.keys import purpose
from jaxdiff.study.claim import claimed
from jaxdiff.study.parts import Later
from jaxdiff.study.table.run import Evaluation
from jaxdiff.study.table.victim import Victim
from jaxdiff.types import PRNGKey

TEXT = "result.md"


class Check(NamedTuple):
    """What is examined on the first n images that a victim gets right, and which victims."""

    examine: Later
    n: int
    on: tuple[str, ...]


def check(examine: Later, n: int = 64, on: str | Sequence[str] = "*") -> Check:
    """A check of victims: `examine` is a part of a function of (classifier, images, labels, key), whose result as a string is
    Markdown.

    It may also take `defense` and the undefended `classifier` under that of `base`, the `label_names`, and a `folder`: pictures
    that it draws there (PNG) are figures of the report.
    """
    checks.count("check", n=n)
    return Check(examine, n, (on,) if isinstance(on, str) else tuple(on))


def examined(
    name: str,
    check: Check,
    victim_name: str,
    victim: Victim,
    evaluation: Evaluation,
    rows: list[dict],
    key: PRNGKey,
) -> tuple[str, list[Path]]:
    """What a check says of a victim, and its pictures: made once, on the first images that are right in these rows."""
    right = [row["id"] for row in rows if row["correct_before"]][: check.n]
    if not right:
        return "The victim gets no image right: there is nothing to examine.", []
    record = evaluation.about(victim_name, victim, victim.needs + check.examine.needs)
    record |= {"check": plain(check.examine.spec), "ids": right}
    folder = evaluation.setting.folder / f"{victim_name}--check-{name}-{evaluate.fingerprint(record)}"
    with claimed(folder, record):
        path = folder / TEXT
        if not path.exists():
            found = _examine(check, victim, evaluation.setting.data, right, purpose(key, name), folder)
            write_text(path, f"{found}\n")
        return path.read_text(encoding="utf-8"), sorted(folder.glob("*.png"))


def _examine(check: Check, victim: Victim, data: Dataset, ids: list[int], key: PRNGKey, folder: Path) -> Any:
    arrays, batch = jax.device_get(victim.arrays | check.examine.arrays), data.fetch(np.asarray(ids))
    base, defense = victim.parts(arrays)
    return check.examine(
        arrays,
        classifier=victim.seen(arrays),
        base=base,
        defense=defense,
        images=jnp.asarray(batch["image"]),
        labels=jnp.asarray(batch["label"]),
        key=key,
        folder=folder,
        label_names=data.label_names,
    )


def matching(check: Check, victims: Sequence[str]) -> list[str]:
    """The victims that a check is for; ValueError if there are none."""
    found = [v for v in victims if any(fnmatchcase(v, pattern) for pattern in check.on)]
    if not found:
        raise ValueError(f"A check is on {', '.join(map(repr, check.on))}; the victims are {list(victims)}.")
    return found
