"""Decoded once: the records of a split as arrays on disk, with their SHA-256, mapped into memory.

A set lies in `<cache>/<name>-<key>`, where the key is a digest of what it is made from: names, sizes and times of the files,
and the arguments. It is made in a folder beside it and renamed when it is whole, so that a set is there whole or not at
all, and of two processes that make it at once each reads its own, and one of the two stays. When it is opened everything is
compared with `sha256.json`: a damaged set, such as one that a power cut left, is named in a warning and made again.

`cache` is True for the folder of the user ($JAXDIFF_CACHE_DIR, $XDG_CACHE_HOME/jaxdiff or ~/.cache/jaxdiff), another folder,
or False: records are then decoded at each fetch. Where nothing can be written, a warning says so and the set is kept in memory.
"""

import hashlib
import json
import os
import re
import shutil
import threading
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np

from jaxdiff import checks
from jaxdiff.data.columns import Writer, columns_of, read_columns
from jaxdiff.data.records import Read, from_arrays

VERSION = 1  # of the files, and of how records are decoded: sets of another are made anew
SUMS = "sha256.json"
PART = 2**26  # bytes of pixels that are read at a time, at most

Cache = bool | str | Path


def stored(read: Read, size: int, name: str, identity: Any, cache: Cache) -> Read:
    """`read` that decodes all `size` records at its first call, unless they are in the cache, and then reads from there.

    `identity` is plain values that change whenever a record does.
    """
    if cache is False or not size:
        return read
    key = hashlib.sha256(json.dumps([VERSION, identity]).encode()).hexdigest()[:16]
    folder = cache_folder(cache) / f"{re.sub('[^A-Za-z0-9_.]+', '-', name).lstrip('.')}-{key}"
    return _once(lambda: _opened_or_made(read, size, name, folder))


def cached(read: Read, size: int, name: str) -> Read:
    """`read` that reads all records at the first call, with a bar if that is long, and then from memory."""
    return _once(lambda: _in_memory(read, size, name)) if size else read


def cache_folder(cache: Cache = True) -> Path:
    """Where decoded sets lie."""
    if cache is not True:
        return at_path(cache)
    if own := os.environ.get("JAXDIFF_CACHE_DIR"):
        return at_path(own)
    return at_path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "jaxdiff"


def check_cache(who: str, cache: Cache) -> None:
    """ValueError unless it is a truth, or the path of a folder that is there or can be made."""
    checks.instance(who, (bool, str, Path), "True, False or '~/.cache/jaxdiff'", cache=cache)
    if cache == "":
        raise ValueError(
            f"{who}: cache is empty; give a folder, or True for that of the user, or False for none."
        )
    if cache is False:
        return
    folder = cache_folder(cache)
    there = next(p for p in (folder, *folder.parents) if p.exists())
    if not there.is_dir():
        raise ValueError(f"{who} needs the cache folder {str(folder)!r}, but {str(there)!r} is a file.")


def at_path(path: str | os.PathLike) -> Path:
    """`path` in full, with "~" expanded; ValueError if it is empty or none that a system knows."""
    if not str(path) or "\0" in str(path):
        raise ValueError(f"A path is a text such as '~/pictures'; got {str(path)!r}.")
    return Path(os.path.abspath(os.path.expanduser(path)))


def file_facts(files: Iterable[Path], root: Path) -> list[list]:
    """Name, size and time of change of every file, which identify what is in it."""
    facts = ((f.relative_to(root).as_posix(), f.stat()) for f in files)
    return [[name, stat.st_size, stat.st_mtime_ns] for name, stat in facts]


def _once(make: Callable[[], Read]) -> Read:
    """A `Read` that is made at its first call, by the first of the threads of a stream, which all ask at once."""
    lock, made = threading.Lock(), []

    def read(indices: np.ndarray) -> tuple:
        with lock:
            if not made:
                made.append(make())
        return made[0](indices)

    return read


def _opened_or_made(read: Read, size: int, name: str, folder: Path) -> Read:
    if folder.exists():
        try:
            return _opened(folder, size)
        except MemoryError:
            raise
        except Exception as error:
            warnings.warn(
                f"The decoded set in {str(folder)!r} is damaged and is made again: {error}", stacklevel=5
            )
            shutil.rmtree(folder, ignore_errors=True)
    try:
        return _made(read, size, name, folder)
    except OSError as error:
        warnings.warn(
            f"{name} cannot be kept in the cache {str(folder.parent)!r} and is decoded into memory ({error}); "
            "give another folder as `cache`, or make room.",
            stacklevel=5,
        )
        return _in_memory(read, size, name)


def _made(read: Read, size: int, name: str, folder: Path) -> Read:
    """Writes a set beside its place and opens it there, so that it stays readable whatever others do; then moves it."""
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        temporary.mkdir(parents=True)
        _write(temporary, read, size, name)
        records = _opened(temporary, size)
        try:
            os.rename(temporary, folder)
        except OSError:  # another process was first
            if not folder.is_dir():
                raise
        return records
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write(folder: Path, read: Read, size: int, name: str) -> None:
    with ExitStack() as stack:
        writers: dict[str, Writer] = {}
        for _, columns in _parts(read, size, name):
            if not writers:
                for column, values in columns.items():
                    writers[column] = stack.enter_context(closing(Writer(folder, column, values[:1], size)))
            for column, writer in writers.items():
                writer.add(columns[column])
    sums = {f.name: _sha256(f) for f in sorted(folder.iterdir())}
    (folder / SUMS).write_text(json.dumps(sums, indent=1))


def _opened(folder: Path, size: int) -> Read:
    """The records of a folder; an error if it is not what was written."""
    sums = json.loads((folder / SUMS).read_text())
    for name, digest in sums.items():
        if _sha256(folder / name) != digest:
            raise ValueError(f"{name} is not what was written.")
    columns = read_columns(folder / name for name in sums)
    if wrong := [name for name, values in columns.items() if len(values) != size]:
        raise ValueError(f"{wrong[0]} does not have {size} values.")
    return from_arrays(columns.pop("image"), columns.pop("label"), columns)


def _in_memory(read: Read, size: int, name: str) -> Read:
    """All records by parts, into arrays made once: the decoded split is never in memory twice."""
    whole: dict[str, np.ndarray] = {}
    for indices, columns in _parts(read, size, name):
        if not whole:
            whole = {c: np.empty((size, *v.shape[1:]), v.dtype) for c, v in columns.items()}
        for column, values in columns.items():
            whole[column][indices] = values
    return from_arrays(whole.pop("image"), whole.pop("label"), whole)


def _parts(read: Read, size: int, name: str) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """(indices, columns) of all records in order, with a bar if that is long."""
    from tqdm import tqdm

    one = columns_of(read(np.arange(min(size, 1))))["image"]
    step = int(np.clip(PART // max(one.nbytes, 1), 1, 500))
    for start in tqdm(
        range(0, size, step), desc=f"decoding {name}", unit="image", unit_scale=step, delay=2.0
    ):
        indices = np.arange(start, min(start + step, size))
        yield indices, columns_of(read(indices))


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
