"""Image classification sets of the Hugging Face hub, or of its folders, by the package `datasets`."""

from collections.abc import Mapping, Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from jaxdiff import checks
from jaxdiff.data import pictures
from jaxdiff.data.records import Dataset, check_names, check_texts, told_apart
from jaxdiff.data.splits import with_validation
from jaxdiff.data.store import cached, check_cache, stored

MISSING = "huggingface needs the package `datasets`, which is not installed: pip install datasets"


def huggingface(
    dataset: str,
    split: str,
    subset: str | None = None,
    revision: str | None = None,
    image: str = "image",
    label: str = "label",
    features: Sequence[str] = (),
    label_names: Sequence[str] = (),
    size: tuple[int, int] | None = None,
    resize: str = "crop",
    channels: int = 3,
    validation: float | int = 0,
    validation_seed: int = 0,
    cache: bool | str | Path = True,
) -> Dataset:
    """Split `split` of `datasets.load_dataset(dataset, subset)`, its images fitted to uint8 [*size, channels].

    `image`, `label` and `features` are the names of columns; those of `features` ride along as they are. Without `size` all
    images must have that of the first; `resize` is a rule of `data.pictures`, `validation` that of `data.splits`, `cache`
    that of `data.store`. Without `label_names` the labels must be a ClassLabel. ValueError for a set, split or column that
    is not there.
    """
    checks.instance("huggingface", str, "'mnist'", dataset=dataset, image=image, label=label)
    checks.instance("huggingface", str, "'train'", split=split)
    checks.instance("huggingface", (str, type(None)), "None", subset=subset, revision=revision)
    check_texts("huggingface", features=features, label_names=label_names)
    check_names("huggingface", features)
    pictures.check_rule("huggingface", size, resize, channels)
    check_cache("huggingface", cache)

    def opened(split: str) -> Dataset:
        table = _load(dataset, split, subset, revision)
        columns = (image, label, *features)
        for column in columns:
            checks.known(f"huggingface: {dataset}", table.column_names, column=column)
        names = tuple(label_names) or _label_names(dataset, table, label)
        fitted = (_size_of(table, image), "exact") if size is None else (tuple(map(int, size)), resize)
        rule = (*fitted, int(channels))
        read, shape = partial(_read, table, columns, rule), (*rule[0], rule[2])
        if cache is not False:
            made = getattr(table, "_fingerprint", None)  # of the package: it changes whenever a record does
            identity = ["huggingface", dataset, subset, revision, split, made, columns, rule]
            keep = partial(stored, identity=identity, cache=cache) if made else cached
            read = keep(read, len(table), f"{dataset}-{split}")
        return Dataset(dataset, split, shape, names, len(table), read)

    return with_validation("huggingface", opened, (), split, validation, validation_seed)


def _load(dataset: str, split: str, subset: str | None, revision: str | None) -> Any:
    """The rows of a split; ValueError if the package or the set is missing."""
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise ValueError(MISSING) from error
    given = {k: v for k, v in {"name": subset, "revision": revision}.items() if v is not None}
    try:
        return load_dataset(dataset, split=split, **given)
    except (ValueError, FileNotFoundError, ConnectionError) as error:
        raise ValueError(f"huggingface cannot load {dataset!r}, split {split!r}: {error}") from error


def _label_names(dataset: str, table: Any, label: str) -> tuple[str, ...]:
    names = getattr(table.features[label], "names", None)
    if not names:
        raise ValueError(
            f"huggingface: the column {label!r} of {dataset} does not name its classes: give label_names, such as "
            "('cat', 'dog')."
        )
    return tuple(names)


def _size_of(table: Any, image: str) -> tuple[int, int]:
    if not len(table):
        raise ValueError(
            "huggingface: the data set is empty; give the size of its images, such as size=(32, 32)."
        )
    with pictures.named("of record 0"):
        return _picture(table[0][image]).size[::-1]


def _read(table: Any, columns: Sequence[str], rule: tuple, indices: np.ndarray) -> tuple:
    (size, _, channels), (image, label, *features) = rule, columns
    records = [table[int(i)] for i in indices]
    images = np.empty((len(records), *size, channels), np.uint8)
    for place, record in enumerate(records):
        with pictures.named(f"of record {indices[place]}"):
            images[place] = pictures.pixels(_picture(record[image]), *rule)
    labels = np.array([record[label] for record in records], np.int64)
    return images, labels, {name: _column([record[name] for record in records]) for name in features}


def _picture(value: Any) -> Any:
    """An image of the package (a picture of Pillow, encoded bytes, or pixels) as a picture."""
    from PIL import Image, ImageOps

    if isinstance(value, Image.Image):
        return ImageOps.exif_transpose(value)
    if isinstance(value, Mapping):
        return pictures.opened(BytesIO(value["bytes"]) if value.get("bytes") else value["path"])
    array = np.asarray(value)
    if array.dtype.kind not in "iu":
        raise TypeError(f"it is no image, bytes or pixels in 0..255 but {type(value).__name__}")
    return Image.fromarray(array.astype(np.uint8).squeeze())


def _column(values: list) -> np.ndarray:
    """Numbers as an array, pictures (masks) as arrays of their own sizes, all else as it is."""
    return told_apart([np.asarray(v) if hasattr(v, "getbands") else v for v in values])
