"""From the rows of a cell to its numbers."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxdiff.evaluate.accuracy import proportion
from jaxdiff.evaluate.ledger import Row


def share(row: Mapping[str, Any]) -> float:
    """How much of an example stands: 1 if it is right before the attack and after it (a clean mistake is
    inside every threat), else 0; what the protocol says (`share`) where one has judged.
    """
    return row.get("share", float(row["correct_before"] and row["correct_after"]))


def robust(row: Mapping[str, Any]) -> bool:
    """Whether any of an example stands: it goes on to the next attack of an AutoAttack."""
    return share(row) > 0


def summarise(rows: Sequence[Row], confidence: float = 0.95) -> dict[str, Any]:
    """The cell in numbers: robust accuracy with its interval, n, and what explains it; ValueError for no
    rows.

    `accuracy` is right before and after, `accuracy_before` and `accuracy_after` each alone: for rows that a
    protocol has judged the means of `share`, `verdict_before` and `verdict`. `nonfinite` counts examples with a
    non-finite logit, loss or norm, which are never robust; `seconds` is the whole time spent in the attack.
    """
    value = proportion([share(row) for row in rows], confidence)
    # A row's correct_after knows that what is not finite has not stood; a verdict does not.
    after = [row["finite"] * row["verdict"] if "share" in row else row["correct_after"] for row in rows]
    return value._asdict() | {
        "confidence": confidence,
        "accuracy_before": float(np.mean([row.get("verdict_before", row["correct_before"]) for row in rows])),
        "accuracy_after": float(np.mean(after)),
        "nonfinite": sum(not row["finite"] for row in rows),
        "max_norm": _largest(rows, "norm"),
        "max_linf": _largest(rows, "linf"),
        "seconds": math.fsum(row["seconds"] for row in rows),
    }


def worst_case(cells: Sequence[Sequence[Row]], confidence: float = 0.95) -> dict[str, Any]:
    """`summarise` of one defense under all attacks at once: of an example its lowest share stands, so it stands
    if it does in every cell.

    Each cell holds the rows of one attack over the same ids in the same order; ValueError otherwise.
    """
    if len({tuple(row["id"] for row in rows) for rows in cells}) != 1:
        raise ValueError(
            "The worst case is per example: every cell needs rows of the same ids in the same order."
        )
    return summarise([_worst(rows) for rows in zip(*cells, strict=True)], confidence)


def _worst(rows: Sequence[Row]) -> Row:
    return min(rows, key=share) | {
        "finite": all(row["finite"] for row in rows),
        "seconds": math.fsum(row["seconds"] for row in rows),
    }


def _largest(rows: Sequence[Row], name: str) -> float | None:
    values = [row[name] for row in rows if row[name] is not None]
    return max(values) if values else None
