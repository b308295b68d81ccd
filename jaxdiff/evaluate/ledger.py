"""The ledger of one cell (a defense under an attack): one row on disk for each attacked example.

A file of JSON lines. The first is a header with the fingerprint of everything the cell depends on; each other
line is a row with a checksum that covers the row and the fingerprint, so a row proves by itself that it is
whole and belongs here.

The header also tells the machine that the rows were made on; where a ledger goes on on another one, a line between the rows
tells that. It is a note: rows of another machine are as good as ours, but for their last bits.
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

from jaxdiff import checks
from jaxdiff.evaluate.atomic import append_bytes, write_bytes
from jaxdiff.evaluate.machine import this_machine

LOG = logging.getLogger(__name__)
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
UNKNOWN = "a machine that was not noted"
Row = dict[str, Any]
PLAIN = bool | int | float | str | np.bool_ | np.integer | np.floating


class Problem(NamedTuple):
    """A line (counted from 1) that was dropped on loading, and why."""

    line: int
    reason: str


def ledger_path(folder: str | Path, defense: str, attack: str) -> Path:
    """`<folder>/<defense>--<attack>.jsonl`; ValueError for names that are no part of a file name or hold
    `--`.
    """
    for name in (defense, attack):
        if not isinstance(name, str) or not re.fullmatch(r"[\w.+]+(-[\w.+]+)*", name):
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
    makers: dict[int, str] = field(default_factory=dict)  # id -> the machine its row was made on
    began: str = UNKNOWN  # the machine in the header
    last: str = UNKNOWN  # the one that the next row would be taken to be of

    @classmethod
    def open(cls, path: str | Path, fingerprint: str) -> "Ledger":
        """Loads the ledger at `path` or starts one; damaged lines are reported, dropped and gone from the
        file.

        Rows of another kind of machine are kept, with a warning. Raises ValueError, and leaves the file alone, if it belongs to
        another fingerprint or is no ledger.
        """
        path = _checked_path(path, fingerprint)
        if not path.exists():
            machine = this_machine()
            write_bytes(path, _header(fingerprint, machine))
            return cls(path, fingerprint, began=machine, last=machine)
        ledger = cls._read(path, fingerprint)
        for problem in ledger.problems:
            LOG.warning("%s line %d dropped: %s", path, problem.line, problem.reason)
        if ledger.problems:
            write_bytes(path, _header(fingerprint, ledger.began) + ledger._encoded_whole())
        others = {machine: n for machine, n in ledger.machines().items() if machine != this_machine()}
        if others:
            LOG.warning("%s: %s; this is %s: the last bits may differ.", path, _told(others), this_machine())
        return ledger

    @classmethod
    def _read(cls, path: Path, fingerprint: str) -> "Ledger":
        lines = path.read_bytes().splitlines(keepends=True) or [b""]
        began, problems = _check_header(path, lines[0], fingerprint)
        ledger = cls(path, fingerprint, {}, list(problems), {}, began, began)
        ledger._take(lines[1:])
        if problems and lines[0] and not ledger.rows:
            raise ValueError(
                f"{path} is not a readable ledger: neither its header nor any row can be verified. "
                "Nothing was changed; move the file away to start this cell afresh."
            )
        return ledger

    def _take(self, lines: Sequence[bytes]) -> None:
        """The rows of the lines after the header; what cannot be read is a problem."""
        disputed = set()
        for number, line in enumerate(lines, start=2):
            try:
                row = _decode_line(line, self.fingerprint)
            except ValueError as error:
                self.problems.append(Problem(number, str(error)))
                self.last = UNKNOWN  # it may have told another machine
                continue
            if "id" not in row:
                self.last = row["machine"]
            elif row["id"] in self.rows:
                self.problems.append(Problem(number, f"a second row for example {row['id']}"))
                disputed |= {row["id"]} if _differ(row, self.rows[row["id"]]) else set()
            else:
                self.rows[row["id"]], self.makers[row["id"]] = row, self.last
        for example in disputed:  # two outcomes: neither can be trusted, so the example is attacked again
            del self.rows[example], self.makers[example]

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Adds rows, on disk when this returns; ValueError for a missing field or an id that is there
        already.
        """
        _check_rows(rows, self.rows)
        if not rows:
            return
        data, machine = self._encoded(rows), this_machine()
        append_bytes(self.path, _marker(machine, self.last, self.fingerprint) + data)
        # What memory holds is what a reader of the file would get.
        decoded = [_decode(line, self.fingerprint) for line in data.splitlines(keepends=True)]
        self.rows.update((row["id"], row) for row in decoded)
        self.makers.update((row["id"], machine) for row in decoded)
        self.last = machine

    def machines(self) -> dict[str, int]:
        """How many rows each machine has made, in their order."""
        return dict(Counter(self.makers.values()))

    def select(self, ids: Iterable[int]) -> list[Row]:
        """The rows of `ids` in their order; KeyError for an id that has none yet."""
        return [self.rows[int(i)] for i in ids]

    def _encoded(self, rows: Iterable[Mapping[str, Any]]) -> bytes:
        return b"".join(_encode(row, self.fingerprint) for row in rows)

    def _encoded_whole(self) -> bytes:
        """All rows, and the machines between them."""
        parts, last = [], self.began
        for example, row in self.rows.items():
            machine = self.makers[example]
            parts += [_marker(machine, last, self.fingerprint), _encode(row, self.fingerprint)]
            last = machine
        self.last = last
        return b"".join(parts)


def machines_of(path: str | Path) -> dict[str, int]:
    """How many rows of the ledger at `path` each machine has made, whatever its fingerprint; ValueError if it is no ledger."""
    path = _checked_path(path, "")
    try:
        header = json.loads(path.read_bytes().split(b"\n", 1)[0])
        fingerprint = header["fingerprint"]
    except (ValueError, TypeError, KeyError):
        raise ValueError(f"{path} is not a readable ledger.") from None
    return Ledger._read(path, fingerprint).machines()


def _checked_path(path: str | Path, fingerprint: str) -> Path:
    if not isinstance(path, str | Path) or not isinstance(fingerprint, str):
        raise ValueError(
            f"A ledger has a path and a fingerprint, a string; got {path!r} and {fingerprint!r}."
        )
    if Path(path).is_dir():
        raise ValueError(f"A ledger is a file; {path} is a folder.")
    return Path(path)


def _told(machines: Mapping[str, int]) -> str:
    return ", ".join(f"{n} rows were made on {machine}" for machine, n in machines.items())


def _check_rows(rows: Sequence[Mapping[str, Any]], known: Mapping[int, Row]) -> None:
    for row in rows:
        checks.instance("Ledger.append", Mapping, "the rows of `run_cell`", row=row)
        absent = [name for name in FIELDS if name not in row]
        if absent:
            raise ValueError(f"A ledger row needs the fields {FIELDS}; {absent} are missing in {dict(row)}.")
        checks.count("A ledger row", least=0, id=row["id"])
        strange = {k: v for k, v in row.items() if not isinstance(v, PLAIN | None)}
        if strange:
            raise ValueError(f"A ledger row holds numbers, words and yes or no; got {strange}.")
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


def _header(fingerprint: str, machine: str) -> bytes:
    noted = {} if machine == UNKNOWN else {"machine": machine}  # ledgers of before have none
    return _encode({"ledger": VERSION, "fingerprint": fingerprint} | noted, fingerprint)


def _marker(machine: str, last: str, fingerprint: str) -> bytes:
    """The line that tells that what follows was made on another machine; nothing on the same one."""
    return b"" if machine == last else _encode({"machine": machine}, fingerprint)


def _check_header(path: Path, line: bytes, fingerprint: str) -> tuple[str, list[Problem]]:
    """The machine of a header. Another configuration's is an error; a damaged one is a problem (rows verify themselves)."""
    try:
        theirs = json.loads(line)
        _decode(line, theirs["fingerprint"])
    except (ValueError, TypeError, KeyError, AttributeError):
        return UNKNOWN, [Problem(1, "unreadable header")]
    if (theirs["fingerprint"], theirs.get("ledger")) == (fingerprint, VERSION):
        return theirs.get("machine", UNKNOWN), []
    raise ValueError(
        f"The ledger {path} belongs to another configuration, version or classifier: its fingerprint is "
        f"{theirs['fingerprint']!r} (format {theirs.get('ledger')}), this run's is {fingerprint!r} (format {VERSION}). "
        "Nothing was changed. Restore what wrote it, evaluate into a new folder, or move the file away "
        "to attack afresh."
    )


def _decode_line(line: bytes, fingerprint: str) -> Row:
    if not line.endswith(b"\n"):
        raise ValueError("torn: the line has no end")
    row = _decode(line, fingerprint)
    if "id" not in row and "machine" not in row:
        raise ValueError("no row: it has no id")
    return row


def _differ(a: Row, b: Row) -> bool:
    return a | {"seconds": 0} != b | {"seconds": 0}
