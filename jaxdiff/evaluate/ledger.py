"""The ledger of one cell (a defense under an attack): one row on disk for each attacked example.

A file of JSON lines. The first is a header with the fingerprint of everything the cell depends on; each other
line is a row with a checksum that covers the row and the fingerprint, so a row proves by itself that it is
whole and belongs here.
"""

import json
import logging
import math
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxdiff.evaluate.atomic import append_bytes, write_bytes

VERSION = 1
FIELDS = (
    "id",
    "label",
    "before",
    "after",
    "correct_before",
    "correct_after",
    "finite",
    "norm",
    "linf",
    "loss",
    "seconds",
)
Row = dict[str, Any]


class Problem(NamedTuple):
    """A line (counted from 1) that was dropped on loading, and why."""

    line: int
    reason: str


def ledger_path(folder: str | Path, defense: str, attack: str) -> Path:
    """`<folder>/<defense>--<attack>.jsonl`; ValueError for names that are no part of a file name or hold
    `--`.
    """
    for name in (defense, attack):
        if not re.fullmatch(r"[\w.+]+(-[\w.+]+)*", name):
            raise ValueError(
                f"Names of defenses and attacks are words joined by single dashes; got {name!r}."
            )
    return Path(folder) / f"{defense}--{attack}.jsonl"


@dataclass
class Ledger:
    """The rows of one cell by example id, on disk and in memory; make it with `Ledger.open`."""

    path: Path
    fingerprint: str
    rows: dict[int, Row] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    @classmethod
    def open(cls, path: str | Path, fingerprint: str) -> "Ledger":
        """Loads the ledger at `path` or starts one; damaged lines are reported, dropped and gone from the
        file.

        Raises ValueError, and leaves the file alone, if it belongs to another fingerprint or is no ledger.
        """
        path = Path(path)
        if not path.exists():
            write_bytes(path, _header(fingerprint))
            return cls(path, fingerprint)
        rows, problems = _load(path, fingerprint)
        ledger = cls(path, fingerprint, rows, problems)
        for problem in problems:
            logging.getLogger(__name__).warning("%s line %d dropped: %s", path, problem.line, problem.reason)
        if problems:
            write_bytes(path, _header(fingerprint) + ledger._encoded(rows.values()))
        return ledger

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Adds rows, on disk when this returns; ValueError for a missing field or an id that is there
        already.
        """
        _check_rows(rows, self.rows)
        if not rows:
            return
        data = self._encoded(rows)
        append_bytes(self.path, data)
        # What memory holds is what a reader of the file would get.
        decoded = [_decode(line, self.fingerprint) for line in data.splitlines(keepends=True)]
        self.rows.update((row["id"], row) for row in decoded)

    def missing(self, ids: Iterable[int]) -> list[int]:
        """The ids without a row, in their order."""
        return [int(i) for i in ids if int(i) not in self.rows]

    def select(self, ids: Iterable[int]) -> list[Row]:
        """The rows of `ids` in their order; KeyError for an id that has none yet."""
        return [self.rows[int(i)] for i in ids]

    def _encoded(self, rows: Iterable[Mapping[str, Any]]) -> bytes:
        return b"".join(_encode(row, self.fingerprint) for row in rows)


def _check_rows(rows: Sequence[Mapping[str, Any]], known: Mapping[int, Row]) -> None:
    for row in rows:
        absent = [name for name in FIELDS if name not in row]
        if absent:
            raise ValueError(f"A ledger row needs the fields {FIELDS}; {absent} are missing in {dict(row)}.")
    ids = [row["id"] for row in rows]
    twice = sorted(i for i, count in Counter(ids).items() if count > 1 or i in known)
    if twice:
        raise ValueError(f"A ledger holds one row per example; got a second one for {twice[:8]}.")


def _plain(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and not math.isfinite(value) else value  # JSON knows no NaN


def _encode(row: Mapping[str, Any], fingerprint: str) -> bytes:
    row = {name: _plain(value) for name, value in row.items()}
    body = json.dumps(row, separators=(",", ":"), allow_nan=False).encode()
    checksum = zlib.crc32(body, zlib.crc32(fingerprint.encode()))
    return json.dumps(row | {"crc": f"{checksum:08x}"}, separators=(",", ":")).encode() + b"\n"


def _decode(line: bytes, fingerprint: str) -> Row:
    try:
        row = json.loads(line)
    except ValueError:
        raise ValueError("not JSON") from None
    if not isinstance(row, dict) or row.pop("crc", None) is None or _encode(row, fingerprint) != line:
        raise ValueError("wrong checksum")
    return row


def _header(fingerprint: str) -> bytes:
    return _encode({"ledger": VERSION, "fingerprint": fingerprint}, fingerprint)


def _load(path: Path, fingerprint: str) -> tuple[dict[int, Row], list[Problem]]:
    lines = path.read_bytes().splitlines(keepends=True) or [b""]
    problems = _check_header(path, lines[0], fingerprint)
    rows, found = _read_rows(lines[1:], fingerprint)
    if problems and lines[0] and not rows:
        raise ValueError(
            f"{path} is not a readable ledger: neither its header nor any row can be verified. "
            "Nothing was changed; move the file away to start this cell afresh."
        )
    return rows, problems + found


def _check_header(path: Path, line: bytes, fingerprint: str) -> list[Problem]:
    """Another configuration's header is an error; a damaged one is a problem (rows verify themselves)."""
    if line == _header(fingerprint):
        return []
    try:
        theirs = json.loads(line)
        _decode(line, theirs["fingerprint"])
    except (ValueError, TypeError, KeyError, AttributeError):
        return [Problem(1, "unreadable header")]
    raise ValueError(
        f"The ledger {path} belongs to another configuration, version or classifier: its fingerprint is "
        f"{theirs['fingerprint']!r} (format {theirs.get('ledger')}), this run's is {fingerprint!r} (format {VERSION}). "
        "Nothing was changed. Restore what wrote it, evaluate into a new folder, or move the file away "
        "to attack afresh."
    )


def _read_rows(lines: Sequence[bytes], fingerprint: str) -> tuple[dict[int, Row], list[Problem]]:
    rows: dict[int, Row] = {}
    problems, disputed = [], set()
    for number, line in enumerate(lines, start=2):
        try:
            row = _decode_row(line, fingerprint)
            if row["id"] in rows:
                disputed |= {row["id"]} if _differ(row, rows[row["id"]]) else set()
                raise ValueError(f"a second row for example {row['id']}")
            rows[row["id"]] = row
        except ValueError as error:
            problems.append(Problem(number, str(error)))
    # Two outcomes for one example: neither can be trusted, so the example is attacked again.
    return {i: row for i, row in rows.items() if i not in disputed}, problems


def _decode_row(line: bytes, fingerprint: str) -> Row:
    if not line.endswith(b"\n"):
        raise ValueError("torn: the line has no end")
    row = _decode(line, fingerprint)
    if "id" not in row:
        raise ValueError("no row: it has no id")
    return row


def _differ(a: Row, b: Row) -> bool:
    return a | {"seconds": 0} != b | {"seconds": 0}
