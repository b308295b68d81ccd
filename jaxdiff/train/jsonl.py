"""Rows as JSON lines: one atomic append each, and a cut where a resumed run begins."""

import json
import os
from pathlib import Path
from typing import Any


def read_jsonl(path: str | os.PathLike) -> list[dict[str, Any]]:
    """The complete lines of the file, without one half-written at the end; [] if there is no file."""
    path = Path(path)
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines]


def cut_jsonl(path: str | os.PathLike, step: int) -> list[dict[str, Any]]:
    """Keeps the rows whose "step" is at most `step`, atomically, and returns them."""
    path = Path(path)
    kept = [row for row in read_jsonl(path) if row["step"] <= step]
    if path.exists():
        fresh = path.with_name(path.name + ".tmp")
        fresh.write_text("".join(json.dumps(row) + "\n" for row in kept))
        os.replace(fresh, path)
    return kept


def append_jsonl(path: str | os.PathLike, row: dict[str, Any]) -> None:
    """Adds a row in a single write: a kill leaves whole lines. ValueError for a value that is not finite."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, (json.dumps(row, allow_nan=False) + "\n").encode())
    finally:
        os.close(descriptor)
