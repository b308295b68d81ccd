"""The data sets that a config may name: `build(jaxdiff.data.dataset, config.data, split="train")`.

Every one has the splits that it comes with, and takes a part "validation" of its train if asked to (see `splits`).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxdiff import checks
from jaxdiff.data.arrays import arrays
from jaxdiff.data.folder import folder
from jaxdiff.data.huggingface import huggingface
from jaxdiff.data.prepared import open_prepared, read_prepared
from jaxdiff.data.records import Dataset, check_names, check_texts, from_arrays
from jaxdiff.data.splits import check_split, with_validation
from jaxdiff.data.store import check_cache, stored

__all__ = ["arrays", "digits", "folder", "huggingface", "tfds"]

DIGITS_TEST = 360  # one fifth of the 1,797


def digits(split: str, validation: float | int = 0, validation_seed: int = 0) -> Dataset:
    """The 1,797 handwritten digits of scikit-learn: real scans of 8x8 pixels, grey levels 0..16, no download.

    The order is `RandomState(0).permutation(1797)`; "test" is its first 360 records, "train" the other 1,437, of which
    `validation` takes a part (see `splits`). Raises ValueError for another split.
    """
    return with_validation("digits", _digits, ("test", "train"), split, validation, validation_seed)


def _digits(split: str) -> Dataset:
    from sklearn.datasets import load_digits

    check_split("digits", split, ("test", "train"))
    raw = load_digits()
    order = np.random.RandomState(0).permutation(len(raw.target))  # its streams are frozen: so is the split
    chosen = order[:DIGITS_TEST] if split == "test" else order[DIGITS_TEST:]
    images, labels = raw.images[chosen].astype(np.uint8)[..., None], raw.target[chosen]
    names = tuple(str(n) for n in raw.target_names)
    return Dataset("digits", split, (8, 8, 1), names, len(chosen), from_arrays(images, labels), white=16)


def tfds(
    dataset: str,
    split: str,
    data_dir: str | Path | None = None,
    cache: bool | str | Path = True,
    features: Sequence[str] = (),
    validation: float | int = 0,
    validation_seed: int = 0,
) -> Dataset:
    """Split `split` of the TFDS image classification set `dataset`, prepared as array_record in `data_dir`.

    `data_dir` defaults to the environment variable TFDS_DATA_DIR, then to TFDS's own default. Nothing is
    downloaded and TensorFlow is not needed. With `cache` the split is decoded once, at the first fetch, into
    the folder of `data.store`; without, records are decoded at each fetch. `features` are names of others that
    ride along, `validation` is that of `data.splits`. Raises FileNotFoundError with the command that prepares the
    set if it is missing, ValueError for an unknown split or a set without fixed-size uint8 images and classes.
    """
    checks.instance("tfds", str, "'cifar10'", dataset=dataset)
    checks.instance("tfds", str, "'train[:80%]'", split=split)
    checks.instance("tfds", (str, Path, type(None)), "'~/tensorflow_datasets'", data_dir=data_dir)
    check_cache("tfds", cache)
    check_texts("tfds", features=features)
    check_names("tfds", features)
    prepared = open_prepared(dataset, data_dir)

    def opened(split: str) -> Dataset:
        image_shape, label_names, size, read, identity = read_prepared(prepared, split, features)
        read = stored(read, size, f"{dataset}-{split}", identity, cache)
        return Dataset(dataset, split, image_shape, label_names, size, read)

    return with_validation(dataset, opened, prepared.splits, split, validation, validation_seed)
