"""Data sets prepared by TFDS on disk, read without TensorFlow; for a missing one the command to get it."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxdiff import checks
from jaxdiff.checks import nearest
from jaxdiff.data.splits import check_split
from jaxdiff.data.store import file_facts


class Prepared(NamedTuple):
    """A set on disk: its name, the folder of the data sets, and what TFDS knows of it."""

    dataset: str
    directory: str
    builder: Any

    @property
    def splits(self) -> list[str]:
        """The splits that it has."""
        return sorted(self.builder.info.splits)


def open_prepared(dataset: str, data_dir: str | Path | None) -> Prepared:
    """A set in `data_dir`, of which nothing is read yet; FileNotFoundError if it is not there as array_record."""
    if str(data_dir) == "":
        raise ValueError("data_dir is empty; give the folder of the data sets, or None for TFDS_DATA_DIR.")
    directory = os.path.expanduser(data_dir or default_data_dir())
    return Prepared(dataset, directory, _open(dataset, directory))


def read_prepared(
    prepared: Prepared, split: str, others: Sequence[str] = ()
) -> tuple[tuple, tuple, int, Callable, list]:
    """(image shape, label names, number of records, read, identity) of one split, whose features `others` ride along.

    `read` is that of `Dataset`; the identity is plain values that change with the files. Raises ValueError for an unknown
    split, or features that are not one fixed-size uint8 image and one class label.
    """
    dataset, directory, builder = prepared
    features = builder.info.features
    image, label = _image_and_label(dataset, builder.info)
    for name in others:
        checks.known(dataset, features, feature=name)
    damaged = (
        f"The data set {dataset!r} in {str(builder.data_dir)!r} is damaged. Delete that folder and prepare it again: "
        f"{prepare_command(dataset, directory)}"
    )
    source, files = _source(prepared, split, damaged)
    shape, names = features[image].shape, tuple(features[label].names)
    read = _reader(source, image, label, shape, {name: features[name] for name in others}, damaged)
    identity = [builder.info.full_name, split, list(others), file_facts(files, Path(builder.data_dir))]
    return tuple(shape), names, len(source), read, ["tfds", *identity]


def default_data_dir() -> str:
    """The environment variable TFDS_DATA_DIR, or TFDS's own default."""
    import tensorflow_datasets

    return os.environ.get("TFDS_DATA_DIR") or tensorflow_datasets.core.constants.DATA_DIR


def prepare_command(dataset: str, directory: str) -> str:
    """The shell command by which TFDS downloads `dataset` and prepares it so that it can be read here."""
    arguments = f"{dataset!r}, data_dir={directory!r}, file_format='array_record'"
    code = f"import tensorflow_datasets as tfds; tfds.builder({arguments}).download_and_prepare()"
    return f'python -c "{code}"'


def prepared_sets(directory: str) -> list[str]:
    """Names (with the config, if any, and the version) of the sets that TFDS has prepared in `directory`."""
    root = Path(directory)
    found = (f.parent for depth in ("*/*", "*/*/*") for f in root.glob(f"{depth}/features.json"))
    return sorted(f"{'/'.join(p.relative_to(root).parts[:-1])}:{p.name}" for p in found)


def _open(dataset: str, directory: str) -> Any:
    """The builder of a set on disk, from its files alone: a missing set never reaches for the network."""
    from tensorflow_datasets.core import DatasetNotFoundError
    from tensorflow_datasets.core.read_only_builder import builder_from_files

    try:
        builder = builder_from_files(dataset, data_dir=directory)
    except DatasetNotFoundError as error:
        raise FileNotFoundError(_missing(dataset, directory)) from error
    except Exception as error:  # of JSON, of protobuf, of the file system
        raise ValueError(
            f"The name {dataset!r} is none of TFDS, or what describes it in {directory!r} is damaged "
            f"({type(error).__name__}: {error})."
        ) from error
    formats = sorted(f.value for f in builder.info.available_file_formats())
    if "array_record" not in formats:
        raise FileNotFoundError(_other_format(dataset, directory, str(builder.data_dir), formats))
    return builder


def _missing(dataset: str, directory: str) -> str:
    there = prepared_sets(directory)
    state = f"holds {', '.join(there)}" if there else "holds no prepared data set"
    if not Path(directory).is_dir():
        state = "is not a directory"
    hint = nearest(dataset, sorted({name.split(":")[0] for name in there}))
    return (
        f"No prepared TFDS data set {dataset!r} in {directory!r}, which {state}{hint or '.'} "
        "Pass data_dir, set TFDS_DATA_DIR, or prepare it once (this needs TensorFlow and the internet): "
        f"{prepare_command(dataset, directory)}"
    )


def _other_format(dataset: str, directory: str, found: str, formats: list[str]) -> str:
    elsewhere = prepare_command(dataset, str(Path(directory) / "array_record"))
    convert = f"tfds convert_format --dataset_version_dir={found!r} --out_file_format=array_record"
    return (
        f"{dataset!r} lies in {found!r} as {' and '.join(formats) or 'no known format'}; to be read without "
        f"TensorFlow it must be array_record. Convert it once (this needs TensorFlow): {convert} , "
        f"or prepare it in a directory of its own and pass that as data_dir: {elsewhere}"
    )


def _source(prepared: Prepared, split: str, damaged: str) -> tuple[Any, list[Path]]:
    """The random-access records of a split, or of a TFDS slice of one such as 'train[:80%]', and the files of the split."""
    dataset, _, builder = prepared
    plain = split.split("[")[0]
    check_split(dataset, split if plain not in prepared.splits else plain, prepared.splits)
    files = [Path(f) for f in builder.info.splits[plain].filepaths]
    if lost := [f for f in files if not f.exists()]:
        raise FileNotFoundError(f"{damaged} {len(lost)} files are missing, such as {lost[0]}.")
    try:
        source = builder.as_data_source(split=split, file_format="array_record")
        len(source)  # negative for a slice that ends before it begins
    except (ValueError, AssertionError) as error:
        raise ValueError(
            f"{dataset} cannot be read as split {split!r} (a slice is 'train[:80%]'): {error}."
        ) from error
    return source, files


def _image_and_label(dataset: str, info: Any) -> tuple[str, str]:
    """The keys of image and class: the supervised pair if it is such, else the only feature of each kind."""
    from tensorflow_datasets.core.features import ClassLabel, Image

    features, pair = info.features, info.supervised_keys or ()
    images = [k for k in features if isinstance(features[k], Image)]
    labels = [k for k in features if isinstance(features[k], ClassLabel)]
    if len(pair) == 2 and pair[0] in images and pair[1] in labels:
        images, labels = pair[:1], pair[1:]
    if len(images) != 1 or len(labels) != 1:
        raise ValueError(f"{dataset} does not have one image and one class label, but {dict(features)}.")
    _check_image(dataset, features[images[0]])
    return images[0], labels[0]


def _check_image(dataset: str, feature: Any) -> None:
    shape, dtype = feature.shape, np.dtype(feature.np_dtype)  # `feature.dtype` would import TensorFlow
    if None in shape or dtype != np.uint8:
        raise ValueError(
            f"{dataset} has images of shape {shape} and type {dtype}; needed: uint8 of one fixed size. "
            "Use a set that TFDS has resized, such as 'imagenet_resized/32x32'."
        )


def _reader(
    source: Any, image: str, label: str, shape: tuple[int, ...], others: Mapping[str, Any], damaged: str
) -> Callable:
    """indices -> (uint8 [B, H, W, C], int64 [B], {feature: B values}), decoded at each call."""

    def read(indices):
        try:
            records = source.__getitems__(indices.tolist())
        except (RuntimeError, OSError) as error:  # of array_record, and of the images in it
            raise ValueError(f"{damaged} ({error})") from error
        pixels = np.array([r[image] for r in records], np.uint8).reshape(len(records), *shape)
        columns = {name: _column(kind, [r[name] for r in records]) for name, kind in others.items()}
        return pixels, np.array([r[label] for r in records], np.int64), columns

    return read


def _column(feature: Any, values: list) -> np.ndarray | list:
    """Numbers of one fixed shape as an array, texts as str, all else as it is."""
    if isinstance(shape := feature.shape, tuple) and None not in shape:
        dtype = np.dtype(feature.np_dtype)
        if dtype.kind in "biuf":
            return np.array(values, dtype).reshape(len(values), *shape)
    return [v.decode() if isinstance(v, bytes) else v for v in values]
