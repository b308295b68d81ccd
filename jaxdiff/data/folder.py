"""Images in folders by class, of any size: `<path>/<split>/<class>/*.png`, or `<path>/<class>/*.png` without splits.

What rides along stands in `metadata.jsonl` beside the classes, a line of JSON for every image:

    {"file_name": "cat/1.png", "caption": "a cat asleep", "boxes": [[0, 3, 20, 17]]}
"""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from jaxdiff import checks
from jaxdiff.data import pictures
from jaxdiff.data.records import Dataset, check_names, check_texts, told_apart
from jaxdiff.data.splits import by_name, check_split, with_test, with_validation
from jaxdiff.data.store import at_path, check_cache, file_facts, stored

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
METADATA = "metadata.jsonl"
EXPECTED = (
    "Expected: <path>/train/<class>/*.png (and test, validation beside train), or <path>/<class>/*.png."
)


def folder(
    path: str | Path,
    split: str,
    size: tuple[int, int] | None = None,
    resize: str = "crop",
    channels: int = 3,
    features: Sequence[str] = (),
    test: float | int = 0,
    test_seed: int = 0,
    validation: float | int = 0,
    validation_seed: int = 0,
    cache: bool | str | Path = True,
) -> Dataset:
    """The images in `path`, by split and class, as uint8 [*size, channels]; classes and, in each, files in the order of names.

    With `size` (height, width) every image is fitted to it by the rule `resize` of `data.pictures`: "crop", "stretch" or
    "exact"; without, all must have the size of the first. Folders "train", "test" and "validation" (or "val") in `path` are
    its splits; if there are none, all images are train, of which `test` takes a share or a number. Hidden files and those with
    other suffixes than `SUFFIXES` are passed over. `features` are names of `metadata.jsonl`, whose values ride along as they
    are, `validation` is that of `data.splits`, `cache` that of `data.store`. ValueError for a path without images and, by its
    name, for one that cannot be decoded.
    """
    checks.instance("folder", (str, Path), "'~/pictures'", path=path)
    pictures.check_rule("folder", size, resize, channels)
    check_texts("folder", features=features)
    check_names("folder", features)
    check_cache("folder", cache)
    root = at_path(path)
    folders, found = splits_in(root)
    names = tuple(sorted({name for classes in found.values() for name in classes}))
    if size is None:
        first = next(f for classes in found.values() for files in classes.values() for f in files)
        with pictures.named(repr(str(first))):
            size, resize = pictures.opened(first).size[::-1], "exact"
    rule = (tuple(map(int, size)), resize, int(channels))

    def opened(split: str) -> Dataset:
        check_split("folder", split, found)
        files = [f for name in names for f in found[split].get(name, ())]
        labels = np.repeat(np.arange(len(names)), [len(found[split].get(name, ())) for name in names])
        _check_filled(files)
        others = _metadata(folders[split], files, features)
        facts = file_facts([*files, *[folders[split] / METADATA] * bool(features)], folders[split])
        identity = ["folder", str(folders[split]), names, rule, list(features), facts]
        name = f"{root.name}-{split or 'all'}"
        read = stored(partial(_read, files, labels, others, rule), len(files), name, identity, cache)
        return Dataset(root.name, split or "all", (*rule[0], rule[2]), names, len(files), read)

    opened, own = with_test("folder", opened, found, test, test_seed)
    return with_validation("folder", opened, own, split, validation, validation_seed)


def splits_in(root: Path) -> tuple[dict[str, Path], dict[str, dict[str, list[Path]]]]:
    """({split: folder}, {split: {class: files}}), with the one split "" if there are no folders for them.

    ValueError if there is no image, in all or of a class.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"folder: {str(root)!r} is no folder. {EXPECTED}")
    splits = by_name("folder", _folders(root)) or {"": root}
    found = {split: _classes(d) for split, d in splits.items()}
    for split, classes in found.items():
        if not any(classes.values()):
            raise ValueError(
                f"folder: {str(splits[split])!r} holds no image in a folder of its class. {EXPECTED}"
            )
    for name in {name for classes in found.values() for name in classes}:
        if not any(classes.get(name) for classes in found.values()):
            raise ValueError(
                f"folder: the class {name!r} in {str(root)!r} has no image ({', '.join(SUFFIXES)})."
            )
    return splits, found


def _classes(root: Path) -> dict[str, list[Path]]:
    return {d.name: _images(d) for d in _folders(root)}


def _folders(root: Path) -> list[Path]:
    return sorted(d for d in root.iterdir() if d.is_dir() and not d.name.startswith("."))


def _images(root: Path) -> list[Path]:
    """The files of a class, also in folders of its own, in the order of their paths."""
    paths = {f.relative_to(root).as_posix(): f for f in root.rglob("*") if f.suffix.lower() in SUFFIXES}
    return [paths[path] for path in sorted(paths) if not f"/{path}".count("/.")]


def _check_filled(files: Sequence[Path]) -> None:
    for file in files:
        if not file.stat().st_size:
            raise ValueError(f"folder: the image {str(file)!r} is empty. Mend it, or leave it out.")


def _metadata(root: Path, files: Sequence[Path], features: Sequence[str]) -> dict[str, np.ndarray]:
    """{feature: a value for every file} from `metadata.jsonl`; ValueError that names what is missing."""
    if not features:
        return {}
    path = root / METADATA
    if not path.is_file():
        raise FileNotFoundError(
            f"folder: the features {', '.join(features)} are to stand in {str(path)!r}, which is missing."
        )
    told = {}
    for n, line in enumerate(path.read_text("utf-8").split("\n"), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            told[entry["file_name"]] = entry
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f'Line {n} of {str(path)!r} is no JSON object with a "file_name": {line[:60]}'
            ) from error
    columns = {}
    for feature in features:
        values = [told.get(f.relative_to(root).as_posix(), {}).get(feature, told) for f in files]
        if absent := [f for f, value in zip(files, values, strict=True) if value is told]:
            raise ValueError(
                f"{str(path)!r} says no {feature!r} for {len(absent)} images, such as {str(absent[0])!r}."
            )
        columns[feature] = told_apart(values)
    return columns


def _read(
    files: Sequence[Path], labels: np.ndarray, others: Mapping, rule: tuple, indices: np.ndarray
) -> tuple:
    size, _, channels = rule
    images = np.empty((len(indices), *size, channels), np.uint8)
    for place, i in enumerate(indices):
        with pictures.named(repr(str(files[i]))):
            images[place] = pictures.pixels(pictures.opened(files[i]), *rule)
    return images, labels[indices], {name: values[indices] for name, values in others.items()}
