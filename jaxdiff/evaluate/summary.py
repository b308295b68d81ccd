"""From the rows of a cell to its numbers."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxdiff.evaluate.accuracy import proportion
from jaxdiff.evaluate.ledger import Row

NEEDED = ("id", "correct_before", "correct_after", "finite", "norm", "linf", "seconds")


def valid(row: Mapping[str, Any]) -> bool:
    """Whether the example was an image and a label (`valid`, true unless a row says otherwise): else it says nothing."""
    return row.get("valid", True)


def share(row: Mapping[str, Any]) -> float:
    """How much of an example stands: 1 if it is right before the attack and after it (a clean mistake is
    inside every threat), else 0; what the protocol says (`share`) where one has judged. What is not finite, or no image with a
    label, has not stood.
    """
    if not (row["finite"] and valid(row)):
        return 0.0
    return row.get("share", float(row["correct_before"] and row["correct_after"]))


def robust(row: Mapping[str, Any]) -> bool:
    """Whether any of an example stands: it goes on to the next attack of an AutoAttack."""
    return share(row) > 0


def summarise(rows: Sequence[Row], confidence: float = 0.95) -> dict[str, Any]:
    """The cell in numbers: robust accuracy with its interval, n, and what explains it; ValueError for no
    rows.

    `accuracy` is right before and after, `accuracy_before` and `accuracy_after` each alone: for rows that a
    protocol has judged the means of `share`, `verdict_before` and `verdict`. `nonfinite` counts examples with a
    non-finite logit, loss or norm, which are never robust; `invalid` those that were no image with a label (see `outcome`),
    which are in no other number, `n` included; `seconds` is the whole time spent in the attack.
    """
    _check_rows(rows)
    told = [row for row in rows if valid(row)]
    if not told:
        raise ValueError(
            f"A summary needs rows of at least one image with a label; got {len(rows)}, {len(rows)} of them invalid."
        )
    return proportion([share(row) for row in told], confidence)._asdict() | {
        "confidence": confidence,
        "accuracy_before": float(np.mean([_before(row) for row in told])),
        "accuracy_after": float(np.mean([_after(row) for row in told])),
        "nonfinite": sum(not row["finite"] for row in told),
        "invalid": len(rows) - len(told),
        "max_norm": _largest(told, "norm"),
        "max_linf": _largest(told, "linf"),
        "seconds": math.fsum(row["seconds"] for row in rows),
    }


def worst_case(cells: Sequence[Sequence[Row]], confidence: float = 0.95) -> dict[str, Any]:
    """`summarise` of one defense under all attacks at once: of an example its lowest share stands, so it stands
    if it does in every cell; likewise each alone, before and after. One that any attack has made non-finite is counted as that.

    Each cell holds the rows of one attack over the same ids in the same order; ValueError otherwise.
    """
    for rows in cells:
        _check_rows(rows)
    if len({tuple(row["id"] for row in rows) for rows in cells}) != 1:
        raise ValueError(
            "The worst case is per example: every cell needs rows of the same ids in the same order."
        )
    return summarise([_worst(rows) for rows in zip(*cells, strict=True)], confidence)


def _worst(rows: Sequence[Row]) -> Row:
    """The row with the lowest share, as a judged one, whatever the order of the attacks."""
    return min(rows, key=share) | {
        "share": min(map(share, rows)),
        "verdict_before": min(map(_before, rows)),
        "verdict": min(map(_after, rows)),
        "finite": all(row["finite"] for row in rows),
        "valid": all(map(valid, rows)),
        "seconds": math.fsum(row["seconds"] for row in rows),
    }


def _check_rows(rows: Sequence[Row]) -> None:
    for row in rows:
        absent = [name for name in NEEDED if not isinstance(row, Mapping) or name not in row]
        if absent:
            raise ValueError(f"A summary is of rows of a ledger, with the fields {NEEDED}; got {row!r}.")


def _before(row: Row) -> float:
    return float(row.get("verdict_before", row["correct_before"]))


def _after(row: Row) -> float:
    """Right after the attack; what is not finite has not stood, whatever a verdict says."""
    return float(row["verdict"] if "share" in row else row["correct_after"]) * row["finite"]


def _largest(rows: Sequence[Row], name: str) -> float | None:
    values = [row[name] for row in rows if row[name] is not None]
    return max(values) if values else None
