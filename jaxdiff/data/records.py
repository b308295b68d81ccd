"""One split of an image data set: records by index, images as float32 in [0, 1], and whatever else rides along."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from numbers import Number
from typing import Any

import numpy as np

from jaxdiff import checks

# indices -> (pixels [B, H, W, C], integers [B]), or these and {"caption": B values, ...}
Read = Callable[[np.ndarray], tuple]

RESERVED = ("id", "image", "label", "valid")  # what a batch calls its own


@dataclass(frozen=True)
class Dataset:
    """One split of an image classification set; `read(indices)` gives pixels in 0..`white`, labels, and perhaps other features.

    With `white` None the pixels are floating point numbers in [0, 1]. ValueError for a field of the wrong type or range.
    """

    name: str
    split: str
    image_shape: tuple[int, int, int]
    label_names: tuple[str, ...]
    size: int
    read: Read
    white: int | None = 255

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
        if self.white is not None:
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

        The id is the index. Other features come as they are read: arrays with B rows, or rows of B Python objects. ValueError
        if an index is not in 0..len-1, or a record not what this class says it is.
        """
        indices = self.indices(indices)
        pixels, labels, others = parts_of(self.read(indices))
        image = self._image(pixels, len(indices))
        labels = np.asarray(checks.labels(self._who, labels, len(indices), self.num_classes), np.int32)
        batch = {"image": image, "label": labels, "id": indices.astype(np.int32)}
        return batch | self._others(others, len(indices))

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

    def _image(self, pixels: Any, batch: int) -> np.ndarray:
        wanted, dtype = [batch, *self.image_shape], np.asarray(pixels).dtype
        if self.white is None:
            if list(np.shape(pixels)) != wanted or dtype.kind != "f":
                raise ValueError(
                    f"{self._who}: pixels are floating point numbers {wanted} in [0, 1]; got {dtype} "
                    f"{list(np.shape(pixels))}. For bytes give the white of the data set, 255."
                )
            return check_floats(self._who, np.asarray(pixels, np.float32))
        if list(np.shape(pixels)) != wanted or dtype.kind not in "iu":
            raise ValueError(
                f"{self._who}: pixels are whole numbers {wanted} in 0..{self.white}; got {dtype} "
                f"{list(np.shape(pixels))}. For images in [0, 1] use (255 * x).round().astype('uint8')."
            )
        low, high = np.min(pixels, initial=0), np.max(pixels, initial=0)
        if low < 0 or high > self.white:
            raise ValueError(f"{self._who}: pixels lie in 0..{self.white}; got {low if low < 0 else high}.")
        return np.divide(pixels, np.float32(self.white), dtype=np.float32)

    def _others(self, others: Mapping[str, Any], batch: int) -> dict[str, np.ndarray]:
        check_names(self._who, others)
        for name, values in others.items():
            many = np.shape(values)[:1] if hasattr(values, "__array__") else None
            if isinstance(values, tuple | list):
                many = (len(values),)
            if many != (batch,):
                raise ValueError(
                    f"{self._who}: the feature {name!r} has one value for each of {batch} records; got {values!r:.60}."
                )
        return {name: column(values) for name, values in others.items()}


def parts_of(read: tuple) -> tuple[Any, Any, Mapping[str, Any]]:
    """(pixels, labels, other features) of what a `Read` gave, which may leave out the last."""
    return read if len(read) == 3 else (*read, {})


def check_names(who: str, names: Any) -> None:
    """ValueError for the name of a feature that is no text, or that a batch calls its own."""
    for name in names:
        if not isinstance(name, str) or name in RESERVED:
            raise ValueError(
                f"{who}: a feature that rides along is named by a text other than {', '.join(RESERVED)}; got {name!r}."
            )


def check_texts(who: str, **several: Any) -> None:
    """ValueError unless each is a sequence of texts."""
    for name, values in several.items():
        if not isinstance(values, tuple | list) or not all(isinstance(value, str) for value in values):
            raise ValueError(
                f"{who} needs {name} as a sequence of texts, such as ('cat', 'dog'); got {values!r}."
            )


def check_floats(who: str, pixels: np.ndarray) -> np.ndarray:
    """`pixels` again, floating point numbers; ValueError unless they are finite and lie in [0, 1]."""
    low, high = float(np.min(pixels, initial=0)), float(np.max(pixels, initial=0))
    if not (low >= 0 and high <= 1):  # NaN is neither
        raise ValueError(
            f"{who}: images lie in [0, 1]; got min {low:.6g}, max {high:.6g}. {checks.range_remedy(low, high)}."
        )
    return pixels


def column(values: Any) -> np.ndarray:
    """An array as it is; a sequence as a row [B] of its objects."""
    return np.asarray(values) if hasattr(values, "__array__") else row(values)


def told_apart(values: Sequence) -> np.ndarray:
    """Plain values as a column: numbers as an array of numbers, all else as a row of objects."""
    return np.array(values) if values and all(isinstance(v, Number) for v in values) else row(values)


def row(values: Sequence) -> np.ndarray:
    """Any values as a row [B] of objects, which numpy would else look into."""
    objects = np.empty(len(values), object)
    for i, value in enumerate(values):
        objects[i] = value
    return objects


def from_arrays(images: np.ndarray, labels: np.ndarray, others: Mapping[str, Any] | None = None) -> Read:
    """Reads records from arrays, pixels [N, H, W, C] and integers [N], and perhaps others [N, ...], taken as `values[indices]`.

    ValueError if they are not as many.
    """
    images, labels = np.asarray(images), np.asarray(labels)
    if np.shape(images)[:1] != np.shape(labels) or images.ndim != 4:
        raise ValueError(
            f"from_arrays takes images [N, H, W, C] and labels [N]; got {list(images.shape)} and {list(labels.shape)}."
        )
    others = dict(others or {})
    for name, values in others.items():
        if len(values) != len(images):
            raise ValueError(f"from_arrays has {len(images)} images, but {name!r} has {len(values)} values.")
    return partial(_rows, images, labels, others)


def _rows(images: np.ndarray, labels: np.ndarray, others: Mapping, indices: np.ndarray) -> tuple:
    return images[indices], labels[indices], {name: values[indices] for name, values in others.items()}
