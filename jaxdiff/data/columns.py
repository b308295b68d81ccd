"""Columns of records in files: numbers as .npy, and everything else (texts, boxes, masks of any size) as lines of JSON.

    label.npy                       numbers [N, ...], as numpy writes them
    caption.jsonl, caption.ends     value i as line i, and where the lines end, int64 [N]

Both are written in one pass, by parts, and mapped into memory when they are read, so that neither need fit into it. An array
inside a value is written as the base64 of its .npy, so that it comes back with its type; a tuple comes back as a list.
"""

import base64
import io
import json
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import numpy as np

from jaxdiff.data.records import column, parts_of, row

ARRAY = "\0npy"  # the key of an array in JSON


def columns_of(read: tuple) -> dict[str, np.ndarray]:
    """{"image": pixels, "label": labels, feature: values, ...} of what a `Read` gave: arrays of numbers, or of objects."""
    pixels, labels, others = parts_of(read)
    columns = {name: column(values) for name, values in others.items()}
    columns = {name: v if v.dtype.kind in "biufc" else row(list(v)) for name, v in columns.items()}
    return {"image": np.asarray(pixels), "label": np.asarray(labels)} | columns


class Writer:
    """A column of `size` values like `first` [1, ...], to be added part by part; ValueError for one that is not alike."""

    def __init__(self, folder: Path, name: str, first: np.ndarray, size: int) -> None:
        self.name, self.first, self.ends = name, first, []
        self.path = folder / (quote(name, safe="") + (".jsonl" if first.dtype == object else ".npy"))
        self.file = open(self.path, "xb")  # noqa: SIM115 - closed by `close`
        if first.dtype != object:
            header = {"descr": np.lib.format.dtype_to_descr(first.dtype), "fortran_order": False}
            np.lib.format.write_array_header_1_0(self.file, header | {"shape": (size, *first.shape[1:])})

    def add(self, values: np.ndarray) -> None:
        """Writes the next values."""
        if (values.dtype, values.shape[1:]) != (self.first.dtype, self.first.shape[1:]):
            raise ValueError(
                f"The records differ in {self.name!r}: {self.first.dtype}{list(self.first.shape[1:])} and "
                f"{values.dtype}{list(values.shape[1:])}. Give values of many shapes as a list."
            )
        if values.dtype != object:
            self.file.write(values.tobytes())
            return
        for value in values:
            self.file.write(_encode(self.name, value))
            self.ends.append(self.file.tell())

    def close(self) -> None:
        """Writes what is left."""
        self.file.close()
        if self.first.dtype == object:
            with open(self.path.with_suffix(".ends"), "xb") as file:
                np.save(file, np.array(self.ends, np.int64))


def read_columns(files: Iterable[Path]) -> dict[str, Any]:
    """{name: values} of the columns in files, mapped into memory; `values[indices]` reads some."""
    opened = {".npy": partial(np.load, mmap_mode="r"), ".jsonl": Objects}
    return {unquote(f.stem): opened[f.suffix](f) for f in files if f.suffix in opened}


class Objects:
    """Values of a .jsonl, by index."""

    def __init__(self, path: Path) -> None:
        self.ends = np.load(path.with_suffix(".ends"))
        self.starts = np.concatenate([[0], self.ends[:-1]])
        self.text = np.memmap(path, np.uint8, "r")

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        lines = (self.text[self.starts[i] : self.ends[i]].tobytes() for i in indices)
        return row([json.loads(line, object_hook=_restored) for line in lines])


def _encode(name: str, value: Any) -> bytes:
    try:
        return json.dumps(value, default=_plain, ensure_ascii=False).encode() + b"\n"
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"The feature {name!r} cannot be kept on disk: {error}. Leave it out, or read without a cache (cache=False)."
        ) from error


def _plain(value: Any) -> dict[str, str]:
    """An array as JSON can hold it."""
    if not isinstance(value, np.ndarray | np.generic):
        raise TypeError(f"{type(value).__name__} is neither text, number, list, dict nor array")
    buffer = io.BytesIO()
    np.save(buffer, value, allow_pickle=False)
    return {ARRAY: base64.b64encode(buffer.getvalue()).decode()}


def _restored(value: dict[str, Any]) -> Any:
    return np.load(io.BytesIO(base64.b64decode(value[ARRAY]))) if value.keys() == {ARRAY} else value
