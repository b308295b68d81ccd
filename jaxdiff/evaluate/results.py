"""results.json: one record per cell, and the tables rendered from it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxdiff import checks
from jaxdiff.evaluate.atomic import write_text
from jaxdiff.evaluate.fingerprints import plain

Record = dict[str, Any]
Reference = Mapping[str, Mapping[str, float | int]]  # defense -> attack -> accuracy in [0, 1]
REQUIRED = ("defense", "attack", "accuracy", "low", "high", "n", "seconds")
ABSENT = "—"


def record(defense: str, attack: str, summary: Mapping[str, Any], **extra: Any) -> Record:
    """One cell as a record: its names, its `summarise`d numbers, and whatever else is worth keeping."""
    return {"defense": defense, "attack": attack, **summary, **extra}


def write_results(path: str | Path, records: Sequence[Mapping[str, Any]]) -> Path:
    """Writes all records as JSON, atomically.

    ValueError for a record that lacks a field, an accuracy that is no fraction within its interval, or a cell
    given twice.
    """
    check_records(records)
    cells = [(entry["defense"], entry["attack"]) for entry in records]
    if len(set(cells)) != len(cells):
        raise ValueError(f"Each cell has one record; got {cells}.")
    return write_text(path, json.dumps(plain(list(records)), indent=2, allow_nan=False) + "\n")


def read_results(path: str | Path) -> list[Record]:
    """The records at `path`, none if there is no file yet; ValueError if it holds something else."""
    if not Path(path).exists():
        return []
    try:
        records = json.loads(Path(path).read_text(encoding="utf-8"))
        check_records(records)
    except ValueError as error:
        raise ValueError(
            f"{path} holds no results ({error}); move it away, the ledgers can write it again."
        ) from None
    return records


def check_records(records: Any) -> None:
    """ValueError unless these are records: mappings with all fields, fractions within their intervals, of an image at least."""
    if isinstance(records, Mapping | str) or not isinstance(records, Sequence):
        raise ValueError(f"Records are a list of mappings; got {type(records).__name__}.")
    for entry in records:
        _check(entry)


def _check(entry: Any) -> None:
    checks.instance("A list of records", Mapping, "record(defense, attack, summary)", entry=entry)
    absent = [name for name in REQUIRED if name not in entry]
    if absent:
        raise ValueError(f"A record needs {REQUIRED}; {absent} are missing in {dict(entry)}.")
    who = f"The record of {entry['defense']} under {entry['attack']}"
    checks.count(who, n=entry["n"])
    numbers = {name: entry[name] for name in ("accuracy", "low", "high")}
    checks.number(f"{who}, all fractions,", "[0, 1]", **numbers)
    checks.number(who, "[0, inf)", seconds=entry["seconds"])
    if not entry["low"] <= entry["accuracy"] <= entry["high"]:
        raise ValueError(f"{who} has low <= accuracy <= high, fractions; got {numbers}.")
