"""The pictures of a cell's first examples, kept beside its ledger so that figures need no second attack.

They lie in a folder, a file for each batch: what is there is never written again.
"""

import io
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxdiff.evaluate.atomic import write_bytes

Pictures = dict[int, dict[str, np.ndarray]]  # example id -> name ("adversarial", "purified", ...) -> array


def images_path(ledger: str | Path) -> Path:
    """The folder of the pictures of a ledger: `<ledger>.pictures`."""
    return Path(ledger).with_suffix(".pictures")


def write_images(folder: str | Path, fingerprint: str, pictures: Pictures) -> None:
    """Writes the pictures of a batch atomically as one npz (zip checksums guard every array), named after the first of them."""
    ids = list(pictures)
    columns = {f"image_{name}": array for name, array in stack(pictures, ids).items()}
    buffer = io.BytesIO()
    np.savez(buffer, id=np.asarray(ids, np.int64), fingerprint=np.asarray(fingerprint), **columns)
    write_bytes(Path(folder) / f"{ids[0]}.npz", buffer.getvalue())


def read_images(folder: str | Path, fingerprint: str) -> Pictures:
    """All pictures in a folder, without those (and with a warning) whose file is damaged or of another fingerprint."""
    pictures: Pictures = {}
    for path in sorted(Path(folder).glob("*.npz")):
        try:
            pictures |= _load(path, fingerprint)
        except Exception as error:  # whatever the damage is, the cure is the same: they are made again
            logging.getLogger(__name__).warning("%s is made again: %s", path, error)
    return pictures


def stack(pictures: Pictures, ids: Sequence[int]) -> dict[str, np.ndarray]:
    """The pictures of `ids` by name, as arrays [len(ids), ...] in the order of `ids`; empty for no ids."""
    names = pictures[ids[0]] if ids else ()
    return {name: np.stack([pictures[i][name] for i in ids]) for name in names}


def take(outputs: Mapping[str, Any], positions: Mapping[int, int]) -> Pictures:
    """The pictures of the examples `positions` {id: position in the batch}: every output with more than one
    axis.
    """
    arrays = {name: np.asarray(v) for name, v in outputs.items() if v.ndim > 1}
    return {i: {name: array[j] for name, array in arrays.items()} for i, j in positions.items()}


def _load(path: str | Path, fingerprint: str) -> Pictures:
    with np.load(path, allow_pickle=False) as file:
        if str(file["fingerprint"]) != fingerprint:
            raise ValueError("its pictures belong to another configuration")
        ids = [int(i) for i in file["id"]]
        columns = {n.removeprefix("image_"): file[n] for n in file.files if n.startswith("image_")}
    return {i: {name: array[j] for name, array in columns.items()} for j, i in enumerate(ids)}
