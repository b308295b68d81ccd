"""Files that are there whole or not at all: a temporary file in the same folder, fsync, os.replace."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_bytes(path: str | Path, data: bytes) -> Path:
    """Writes `data` to `path` atomically and durably, creating its folder; returns the path."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    with named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(path.parent)
    return path


def write_text(path: str | Path, text: str) -> Path:
    """Writes `text` as UTF-8 to `path` atomically and durably, creating its folder; returns the path."""
    return write_bytes(path, text.encode())


def append_bytes(path: str | Path, data: bytes) -> None:
    """Appends `data` to an existing file in one write, and returns only when it is on disk.

    A kill may tear the end of it: the reader must be able to tell.
    """
    with named(path), open(path, "r+b") as file:
        file.seek(0, os.SEEK_END)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def named(path: str | Path) -> Iterator[None]:
    """An error of the system that names no file (a full disk knows none), or a temporary one, names `path`."""
    try:
        yield
    except OSError as error:
        if error.errno is None or not str(error.filename or ".tmp").endswith(".tmp"):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error  # of the same kind, by its number


def _sync_folder(folder: Path) -> None:
    if not hasattr(os, "O_DIRECTORY"):  # a rename needs no sync of the folder on Windows
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
