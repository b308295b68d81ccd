"""Train, validation and test: the validation part is taken from train by a rule with a seed.

Of the n records of train, those at the first k places of `RandomState(seed).permutation(n)` are the validation part and the
others are left in train; both keep the order that they have in train. So the two are disjoint, together they are train, and
with the same seed a larger part holds every smaller one. In a part as in every split the id of a record is its index;
`parts(n, validation, seed)` says which records of train these are.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from numbers import Integral
from pathlib import Path

import numpy as np

from jaxdiff import checks
from jaxdiff.data.records import Dataset, Read

Open = Callable[[str], Dataset]  # the name of a split -> its records
# on disk -> in words
FOLDERS = {"test": "test", "train": "train", "val": "validation", "validation": "validation"}
Part = float | int  # a share of the records, or their number; 0 for none


def parts(size: int, held_out: Part, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(indices that are left, indices that are held out) of `size` records, each in ascending order.

    ValueError if `held_out` is no share or number that takes at least one record and leaves one.
    """
    check_part("parts", seed, held_out=held_out)
    k = int(held_out) if isinstance(held_out, Integral) else round(float(held_out) * size)
    if not 0 < k < size:
        raise ValueError(
            f"A part of {held_out} of {size} records takes {k}: it must take at least one and leave at least one."
        )
    order = np.random.RandomState(int(seed)).permutation(size)  # its streams are frozen: so are the parts
    return np.sort(order[k:]), np.sort(order[:k])


def by_name(who: str, places: Iterable[Path]) -> dict[str, Path]:
    """{split: place} of the files or folders that are named after a split; ValueError if two are of one split."""
    found: dict[str, Path] = {}
    for place in places:
        if (split := FOLDERS.get(place.name.removesuffix(".npz"))) in found:
            raise ValueError(
                f"{who}: {str(place)!r} and {str(found[split])!r} are both the split {split!r}: delete one."
            )
        if split:
            found[split] = place
    return found


def check_part(who: str, seed: int, **held_out: Part) -> None:
    """ValueError unless it is a whole number of records >= 0 or a share in [0, 1), and the seed one that NumPy takes."""
    for name, value in held_out.items():
        if isinstance(value, Integral) and not isinstance(value, bool):
            checks.count(who, 0, **{name: value})
        else:
            checks.number(who, "[0, 1)", **{name: value})
    checks.count(who, 0, 2**32 - 1, seed=seed)


def subset(dataset: Dataset, indices: np.ndarray, split: str) -> Dataset:
    """The records `indices` of a data set, as the split `split`."""
    read = partial(_picked, dataset.read, dataset.indices(indices))
    return replace(dataset, split=split, size=len(indices), read=read)


def with_validation(
    who: str, opened: Open, own: Iterable[str], split: str, validation: Part, seed: int
) -> Dataset:
    """`opened(split)`; with `validation` the split "validation" is that part of train, and "train" is the rest.

    `own` are the splits that there are. ValueError for a `validation` of the wrong range, or beside a split of that name.
    """
    check_part(who, seed, validation=validation)
    if not validation:
        return opened(split)
    if "validation" in own:
        raise ValueError(f"{who} has a validation split of its own: leave out validation={validation}.")
    if isinstance(split, str) and split.startswith("train["):
        raise ValueError(f"{who}: validation={validation} is taken from the whole train, not from {split!r}.")
    if split not in ("train", "validation"):
        return opened(split)
    return _part(opened("train"), split == "validation", split, validation, seed)


def with_test(
    who: str, opened: Open, own: Iterable[str], test: Part, seed: int
) -> tuple[Open, tuple[str, ...]]:
    """(what opens a split, the splits there are) for records that may come without splits, as the one split "".

    These are train, or with `test` that part of them is test and the rest train. ValueError for `test` where there are splits.
    """
    check_part(who, seed, test=test)
    own = tuple(own)
    if "" in own:
        return partial(_train_or_test, who, opened(""), test, seed), ("test", "train") if test else ("train",)
    if test:
        raise ValueError(f"{who}: there are splits already, {', '.join(own)}: leave out test={test}.")
    return opened, own


def _train_or_test(who: str, everything: Dataset, test: Part, seed: int, split: str) -> Dataset:
    check_split(who, split, ("test", "train") if test else ("train",), ("test", "validation"))
    return _part(everything, split == "test", split, test, seed) if test else replace(everything, split=split)


def check_split(who: str, split: str, own: Iterable[str], taken: Iterable[str] = ("validation",)) -> None:
    """ValueError, which lists them, unless a split is one of its `own`; those that could be `taken` from train are said."""
    own = sorted(own)
    if isinstance(split, str) and split in own:
        return
    remedy = (
        f" To take a part of train for it, give {split}=0.1." if split in taken and "train" in own else ""
    )
    raise ValueError(f"{who} has no split {split!r}; its splits: {', '.join(own)}.{remedy}")


def _part(dataset: Dataset, held_out: bool, split: str, share: Part, seed: int) -> Dataset:
    return subset(dataset, parts(len(dataset), share, seed)[held_out], split)


def _picked(read: Read, picked: np.ndarray, indices: np.ndarray) -> tuple:
    return read(picked[indices])
