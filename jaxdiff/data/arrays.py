"""Arrays in files: one .npz or a folder of .npy, with all records, or with the splits in the names or in files of their own.

    my.npz: image, label, caption                      all are train
    my.npz: train_image, train_label, test_image, ...  by key; so too a folder with train_image.npy, ...
    my/train.npz, my/test.npz: image, label            by file; so too folders my/train with image.npy, ...

The files of a folder of .npy are mapped into memory, an .npz is read into it. Nothing is pickled: captions are arrays of str.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from jaxdiff import checks
from jaxdiff.data.records import Dataset, check_floats, check_names, check_texts, from_arrays
from jaxdiff.data.splits import FOLDERS, by_name, check_split, with_test, with_validation
from jaxdiff.data.store import at_path

Columns = Mapping[str, Callable[[], np.ndarray]]  # name -> what loads the array


def arrays(
    path: str | Path,
    split: str,
    image: str = "image",
    label: str = "label",
    features: Sequence[str] = (),
    label_names: Sequence[str] = (),
    test: float | int = 0,
    test_seed: int = 0,
    validation: float | int = 0,
    validation_seed: int = 0,
) -> Dataset:
    """The arrays in `path`: images [N, H, W, C] or [N, H, W], uint8 or floating point in [0, 1], and integer labels [N].

    `image`, `label` and `features` are the names of arrays; those of `features`, [N, ...], ride along. Without
    `label_names` the classes are "0", "1", ... up to the largest label of all splits. Records without splits are train, of
    which `test` takes a share or a number; `validation` is that of `data.splits`. ValueError for arrays of another kind.
    """
    checks.instance("arrays", (str, Path), "'~/my.npz'", path=path)
    checks.instance("arrays", str, "'image'", image=image, label=label)
    check_texts("arrays", features=features, label_names=label_names)
    check_names("arrays", features)
    root = at_path(path)
    found = splits_in(root, image)
    wanted = (image, label, *features)
    for columns in found.values():
        _check_there(f"arrays: {str(root)!r}", columns, wanted)
    largest = max(_largest(columns[label]()) for columns in found.values())
    names = tuple(label_names) or tuple(str(n) for n in range(largest + 1))

    def opened(split: str) -> Dataset:
        check_split("arrays", split, found)
        return _dataset(root.stem, split or "all", found[split], wanted, names)

    opened, own = with_test("arrays", opened, found, test, test_seed)
    return with_validation("arrays", opened, own, split, validation, validation_seed)


def splits_in(root: Path, image: str) -> dict[str, Columns]:
    """{split: columns} of an .npz or a folder, with the one split "" if they have none."""
    if not root.exists():
        raise FileNotFoundError(f"arrays: {str(root)!r} does not exist; give an .npz, or a folder of .npy.")
    if root.is_dir():
        own = by_name("arrays", [p for p in sorted(root.iterdir()) if p.is_dir() or p.suffix == ".npz"])
        if own:
            return {split: _columns(p) for split, p in own.items()}
    columns = _columns(root)
    if image in columns:
        return {"": columns}
    by_split: dict[str, dict] = {}
    for name, load in columns.items():
        prefix, _, rest = name.partition("_")
        if prefix in FOLDERS:
            by_split.setdefault(FOLDERS[prefix], {})[rest] = load
    return by_split or {"": columns}


def _columns(path: Path) -> Columns:
    """The arrays of an .npz, or of the .npy in a folder, each to be loaded; ValueError for a file that is neither."""
    if path.is_dir():
        return {f.stem: partial(_load, f) for f in sorted(path.glob("*.npy"))}
    archive = _load(path)
    if isinstance(archive, np.ndarray):
        raise ValueError(
            f"arrays: {str(path)!r} is one array; give an .npz with images and labels, or a folder of .npy."
        )
    with archive:
        return {name: partial(_load, path, name) for name in archive.files}


def _load(path: Path, name: str | None = None) -> Any:
    """A file, or the array `name` in it; ValueError that names what cannot be read."""
    try:
        loaded = np.load(path, mmap_mode="r")
        if name is None:
            return loaded
        with loaded:
            return loaded[name]
    except (MemoryError, PermissionError):
        raise
    except Exception as error:  # of numpy, of zip, of the file system
        where = f"{str(path)!r}" + (f" ({name!r})" if name else "")
        remedy = "Write it again with numpy.save or numpy.savez."
        if "allow_pickle" in str(error):
            remedy = "Python objects are not read: use arrays of numbers, and for texts np.array(texts, dtype=str)."
        raise ValueError(f"arrays cannot read {where}: {error}. {remedy}") from error


def _check_there(where: str, columns: Columns, names: Sequence[str]) -> None:
    for name in names:
        if name not in columns:
            raise ValueError(
                f"{where} has no array {name!r}{checks.nearest(name, columns)} Its arrays: {', '.join(columns) or 'none'}. "
                "Say which are meant with image=, label= and features=."
            )


def _largest(labels: np.ndarray) -> int:
    return int(labels.max()) if labels.size and labels.dtype.kind in "iu" else 0


def _dataset(
    name: str, split: str, columns: Columns, wanted: Sequence[str], names: tuple[str, ...]
) -> Dataset:
    images, labels, *others = (columns[w]() for w in wanted)
    who = f"arrays: {name} ({split})"
    images = images[..., None] if images.ndim == 3 else images
    if (
        images.ndim != 4
        or not all(images.shape[1:])
        or not (images.dtype == np.uint8 or images.dtype.kind == "f")
    ):
        raise ValueError(
            f"{who}: images are [N, H, W, C] or [N, H, W], uint8 or floating point in [0, 1]; got {images.dtype} "
            f"{list(images.shape)}."
        )
    if images.dtype.kind == "f":
        check_floats(who, images)
    checks.labels(who, labels, len(images), len(names))
    for feature, values in zip(wanted[2:], others, strict=True):
        if values.shape[:1] != (len(images),):
            raise ValueError(
                f"{who}: {feature!r} has one value for each of {len(images)} images; got {list(values.shape)}."
            )
    read = from_arrays(images, labels, dict(zip(wanted[2:], others, strict=True)))
    white = 255 if images.dtype == np.uint8 else None
    return Dataset(name, split, images.shape[1:], names, len(images), read, white)
