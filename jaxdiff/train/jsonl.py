"""Rows as JSON lines: one atomic append each, and a cut where a resumed run begins.

The file is a log beside the run and decides nothing: what of it cannot be read is set aside with a warning.
"""

import json
import os
import warnings
from pathlib import Path
from typing import Any


def parse(line: bytes) -> dict[str, Any] | None:
    """The row of a line, or None if it is not an object with a whole number "step", in UTF-8."""
    try:
        row = json.loads(line.decode())
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict):
        return None
    step = row.get("step")
    return row if isinstance(step, int) and not isinstance(step, bool) else None


def read_jsonl(path: str | os.PathLike) -> list[dict[str, Any]]:
    """The rows of the complete lines, without one half-written at the end or unreadable; [] if there is no file."""
    return [row for row in map(parse, _lines(path)[0]) if row is not None]


def cut_jsonl(path: str | os.PathLike, step: int) -> list[dict[str, Any]]:
    """Keeps the rows whose "step" is at most `step`, atomically, and returns them.

    If lines cannot be read, the file as it was is kept beside it, and a warning names both.
    """
    path = Path(path)
    if not path.exists():
        return []
    whole, torn = _lines(path)
    bad = [n for n, line in enumerate(whole, 1) if parse(line) is None]
    if torn and not torn.startswith(b"{"):  # no kill leaves this
        bad.append(len(whole) + 1)
    kept = [row for row in read_jsonl(path) if row["step"] <= step]
    fresh = path.with_name(path.name + ".tmp")
    fresh.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
    if bad:
        aside = path.with_name(path.name + ".damaged")
        os.replace(path, aside)
        warnings.warn(
            f"{path} has lines that cannot be read, the first is line {bad[0]}: they are left out, and the file as "
            f"it was is {aside}.",
            stacklevel=2,
        )
    os.replace(fresh, path)
    return kept


def append_jsonl(path: str | os.PathLike, row: dict[str, Any]) -> None:
    """Adds a row in a single write: a kill leaves whole lines. ValueError for a value that is not finite."""
    path, line = Path(path), (json.dumps(row, allow_nan=False) + "\n").encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, line)
    finally:
        os.close(descriptor)


def _lines(path: str | os.PathLike) -> tuple[list[bytes], bytes]:
    """The complete lines, and what a kill left of the last one."""
    path = Path(path)
    *whole, torn = path.read_bytes().split(b"\n") if path.exists() else [b""]
    return whole, torn
