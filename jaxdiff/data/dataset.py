"""Image data sets: records by index, images as float32 in [0, 1].

The names in `__all__` are those a config may use: `build(jaxdiff.data.dataset, config.data, split="train")`.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from jaxdiff import checks
from jaxdiff.data.prepared import read_prepared

__all__ = ["digits", "tfds"]

Read = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]  # indices -> (uint8 [B, H, W, C], integers [B])

DIGITS_TEST = 360  # one fifth of the 1,797


@dataclass(frozen=True)
class Dataset:
    """One split of an image classification set; `read(indices)` gives pixels in 0..`white`, and labels.

    ValueError for a field of the wrong type or range.
    """

    name: str
    split: str
    image_shape: tuple[int, int, int]
    label_names: tuple[str, ...]
    size: int
    read: Read
    white: int = 255

    def __post_init__(self):
        checks.instance("Dataset", str, "'mine'", name=self.name, split=self.split)
        checks.instance("Dataset", (tuple, list), "(32, 32, 3)", image_shape=self.image_shape)
        checks.instance("Dataset", (tuple, list), "('cat', 'dog')", label_names=self.label_names)
        if len(self.image_shape) != 3 or not self.label_names:
            raise ValueError(
                f"Dataset needs image_shape as (height, width, channels) and a name for every label; "
                f"got {self.image_shape} and {self.label_names}."
            )
        checks.count("Dataset", **{f"image_shape[{i}]": side for i, side in enumerate(self.image_shape)})
        checks.count("Dataset", 0, size=self.size)
        checks.count("Dataset", white=self.white)
        checks.function("Dataset", read=self.read)

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.label_names)

    def __len__(self) -> int:
        return self.size

    def fetch(self, indices: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]:
        """Records `indices` [B], B >= 0: image float32 [B, H, W, C] in [0, 1], label int32 [B], id int32 [B].

        The id is the index. ValueError if an index is not in 0..len-1, or a record not what this class says it is.
        """
        indices = self.indices(indices)
        pixels, labels = self.read(indices)
        self._check_pixels(pixels, len(indices))
        labels = np.asarray(checks.labels(self._who, labels, len(indices), self.num_classes), np.int32)
        image = np.divide(pixels, np.float32(self.white), dtype=np.float32)
        return {"image": image, "label": labels, "id": indices.astype(np.int32)}

    def indices(self, indices: Any) -> np.ndarray:
        """`indices` as int64 [B]; ValueError unless they are whole numbers in 0..len-1."""
        given = np.asarray(indices)
        if given.ndim != 1 or (given.size and given.dtype.kind not in "iu"):
            mask = " For a mask use np.flatnonzero." if given.dtype == bool else ""
            raise ValueError(f"{self._who}: records are a row of whole numbers; got {indices!r}.{mask}")
        outside = given[(given < 0) | (given >= self.size)]
        if outside.size:
            raise ValueError(f"{self._who} has records 0..{self.size - 1}; got {outside[0]}.")
        return given.astype(np.int64)

    @property
    def _who(self) -> str:
        return f"{self.name} ({self.split})"

    def _check_pixels(self, pixels: Any, batch: int) -> None:
        shape, dtype = np.shape(pixels), np.asarray(pixels).dtype
        if shape != (batch, *self.image_shape) or dtype.kind not in "iu":
            raise ValueError(
                f"{self._who}: pixels are whole numbers {[batch, *self.image_shape]} in 0..{self.white}; got {dtype} "
                f"{list(shape)}. For images in [0, 1] use (255 * x).round().astype('uint8')."
            )
        low, high = np.min(pixels, initial=0), np.max(pixels, initial=0)
        if low < 0 or high > self.white:
            raise ValueError(f"{self._who}: pixels lie in 0..{self.white}; got {low if low < 0 else high}.")


def digits(split: str) -> Dataset:
    """The 1,797 handwritten digits of scikit-learn: real scans of 8x8 pixels, grey levels 0..16, no download.

    The order is `RandomState(0).permutation(1797)`; "test" is its first 360 records, "train" the other 1,437.
    Raises ValueError for another split.
    """
    from sklearn.datasets import load_digits

    if not isinstance(split, str) or split not in ("train", "test"):
        raise ValueError(f"digits has no split {split!r}; its splits: test, train.")
    raw = load_digits()
    order = np.random.RandomState(0).permutation(len(raw.target))  # its streams are frozen: so is the split
    chosen = order[:DIGITS_TEST] if split == "test" else order[DIGITS_TEST:]
    images, labels = raw.images[chosen].astype(np.uint8)[..., None], raw.target[chosen]
    names = tuple(str(n) for n in raw.target_names)
    return Dataset("digits", split, (8, 8, 1), names, len(chosen), from_arrays(images, labels), white=16)


def tfds(dataset: str, split: str, data_dir: str | Path | None = None, cache: bool = True) -> Dataset:
    """Split `split` of the TFDS image classification set `dataset`, prepared as array_record in `data_dir`.

    `data_dir` defaults to the environment variable TFDS_DATA_DIR, then to TFDS's own default. Nothing is
    downloaded and TensorFlow is not needed. With `cache` the split is decoded once, at the first fetch, into
    one uint8 array; without, records are decoded at each fetch (for sets larger than memory). Raises
    FileNotFoundError with the command that prepares the set if it is missing, ValueError for an unknown split
    or a set without fixed-size uint8 images and classes.
    """
    checks.instance("tfds", str, "'cifar10'", dataset=dataset)
    checks.instance("tfds", str, "'train[:80%]'", split=split)
    checks.instance("tfds", (str, Path, type(None)), "'~/tensorflow_datasets'", data_dir=data_dir)
    checks.instance("tfds", bool, "True", cache=cache)
    image_shape, label_names, size, read = read_prepared(dataset, split, data_dir)
    read = cached(read, size, dataset) if cache else read
    return Dataset(dataset, split, image_shape, label_names, size, read)


def from_arrays(images: np.ndarray, labels: np.ndarray) -> Read:
    """Reads records from arrays in memory, uint8 [N, H, W, C] and integers [N]; ValueError if they are not as many."""
    images, labels = np.asarray(images), np.asarray(labels)
    if np.shape(images)[:1] != np.shape(labels) or images.ndim != 4:
        raise ValueError(
            f"from_arrays takes images [N, H, W, C] and labels [N]; got {list(images.shape)} and {list(labels.shape)}."
        )
    return partial(_rows, images, labels)


def _rows(images: np.ndarray, labels: np.ndarray, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return images[indices], labels[indices]


def cached(read: Read, size: int, name: str) -> Read:
    """`read` that reads all records at the first call, with a bar if that is long, and then from memory."""
    lock, memory = threading.Lock(), []

    def from_memory(indices):
        with lock:  # the threads of a stream all ask first
            if not memory:
                memory.append(from_arrays(*_read_all(read, size, name)))
        return memory[0](indices)

    return from_memory


def _read_all(read: Read, size: int, name: str, chunk: int = 500) -> tuple[np.ndarray, np.ndarray]:
    """All records by chunks, into arrays made once: the decoded split is never in memory twice."""
    from tqdm import tqdm

    image, label = read(np.arange(min(size, 1)))
    images = np.empty((size, *image.shape[1:]), image.dtype)
    labels = np.empty(size, label.dtype)
    starts = range(0, size, chunk)
    for start in tqdm(starts, desc=f"decoding {name}", unit="image", unit_scale=chunk, delay=2.0):
        part = np.arange(start, min(start + chunk, size))
        images[part], labels[part] = read(part)
    return images, labels
