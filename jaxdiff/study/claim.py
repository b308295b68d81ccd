"""The folder of a stage: one process at a time works in it, and a run that made nothing leaves nothing.

A stage lives in <workdir>/<stage>-<digest>. Its record, stage.json, says what it is; a lock says who works there. The system
lets go of the lock when a process ends, however it ends, so that a killed run blocks nobody.
"""

import contextlib
import fcntl
import json
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxdiff.evaluate.atomic import write_text
from jaxdiff.evaluate.fingerprints import plain

RECORD, LOCK = "stage.json", ".lock"


class Busy(ValueError):
    """Another process works in the folder."""


@contextlib.contextmanager
def claimed(folder: str | os.PathLike, record: Mapping[str, Any]) -> Iterator[Path]:
    """The folder, made if it is not there, with the record of its stage, and nobody else at work in it until the end.

    If what is done inside fails before it has made anything, the folder is as it was. `Busy`, with the process that works
    there, if there is one.
    """
    folder = Path(folder)
    before = set(_contents(folder))
    with _locked(folder):
        fresh = not (folder / RECORD).exists()
        if fresh:
            write_text(folder / RECORD, json.dumps(plain(record), indent=2) + "\n")
        try:
            yield folder
        except BaseException:
            if fresh and set(_contents(folder)) <= before | {RECORD}:
                (folder / RECORD).unlink(missing_ok=True)
                if not before:
                    shutil.rmtree(folder, ignore_errors=True)  # the lock alone is in it
            raise


def record_of(folder: str | os.PathLike) -> dict[str, Any] | None:
    """What stage a folder is of; None if it is of none, or a kill left its record half written."""
    try:
        return json.loads((Path(folder) / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = _lock(folder)
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _lock(folder: Path) -> int:
    """An open file with the lock of the folder; `Busy` if another has it."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            who = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "another process"
            os.close(descriptor)
            raise Busy(f"{who} works in {folder}. Wait for it, or choose another --workdir.") from None
        try:
            if os.path.samestat(os.fstat(descriptor), os.stat(folder / LOCK)):
                return descriptor
        except FileNotFoundError:
            pass
        os.close(descriptor)  # the folder was taken away by a run that had made nothing


def _contents(folder: Path) -> list[str]:
    """All that a stage has made."""
    return [path.name for path in folder.iterdir() if path.name != LOCK] if folder.is_dir() else []
