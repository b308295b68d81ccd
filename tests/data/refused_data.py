"""Bad input of data sets, streams and augmentation."""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np

from jaxdiff.build import build
from jaxdiff.data import augment, check_images, dataset
from jaxdiff.data.dataset import Dataset, arrays, digits, folder, from_arrays, huggingface, tfds
from jaxdiff.data.stream import epoch, stream

sys.path.insert(0, str(Path(__file__).parent))
from own_data import CLASSES, write_folder

KEY = jax.random.key(0)
PIXELS, LABELS = np.zeros((9, 2, 2, 1), np.uint8), np.arange(9) % 3
TEST = digits("test")
IMAGE = np.zeros((4, 6, 3), np.float32)


def made(**changes):
    fields = {
        "name": "mine",
        "split": "all",
        "image_shape": (2, 2, 1),
        "label_names": ("a", "b", "c"),
        "size": 9,
    }
    return Dataset(**{"read": from_arrays(PIXELS, LABELS), **fields, **changes})


def read(pixels=PIXELS, labels=LABELS, **changes):
    """One fetch of everything, from what `read` gives."""
    return lambda: made(read=lambda indices: (pixels, labels), **changes).fetch(np.arange(9))


def streamed(**changes):
    return lambda: stream(**{"dataset": TEST, "batch_size": 4, "seed": 0, **changes})


def passed(ids, batch_size=4, data=TEST):
    return lambda: epoch(data, batch_size, ids)


FOLDER = Path(tempfile.mkdtemp())
(FOLDER / "file").write_text("no folder")
REAL = Path(os.environ.get("TFDS_DATA_DIR", "nowhere"))
COLUMNS = {"image": PIXELS, "label": LABELS}
SPLIT_COLUMNS = {"train_image": PIXELS, "train_label": LABELS, "test_image": PIXELS, "test_label": LABELS}


def own(other="train", split="train", EMPTY_CLASS=0, EMPTY_IMAGE=0, **arguments):
    """A folder with images in `test`, and in `other` or without splits if that is empty."""

    def call():
        root = Path(tempfile.mkdtemp())
        for name in (other, "test", "train") if other else ("",):
            write_folder(root, {name: range(6)})
        if EMPTY_CLASS:
            (root / "train" / "empty").mkdir()
        if EMPTY_IMAGE:
            (root / "train" / CLASSES[1] / "001.png").write_bytes(b"")
        return folder(root, split, **arguments)

    return call


def twice(source):
    """A folder with two for validation."""

    def call():
        root = Path(tempfile.mkdtemp())
        for name in ("train", "val", "validation"):
            (root / name).mkdir()
        return source(root, "train")

    return call


def saved(split="train", features=(), label_names=(), test=0, **columns):
    """An .npz of these columns."""

    def call():
        path = Path(tempfile.mkdtemp()) / "own.npz"
        np.savez(path, **columns)
        return arrays(path, split, features=features, label_names=label_names, test=test)

    return call


def half_saved():
    path = Path(tempfile.mkdtemp()) / "own.npz"
    np.savez(path, **COLUMNS)
    path.write_bytes(path.read_bytes()[:200])
    return path


def riding(**others):
    """One fetch of everything, with other features."""
    return lambda: made(read=lambda indices: (PIXELS, LABELS, others)).fetch(np.arange(9))


def prepared(change=None):
    """CIFAR-10 with half of its first test file, or what `change` makes of the copy; for machines that have it."""

    def call():
        root = Path(tempfile.mkdtemp())
        there = root / "cifar10" / "3.0.2"
        shutil.copytree(REAL / "cifar10" / "3.0.2", there, ignore=shutil.ignore_patterns("*train*record*"))
        for path in [there, *there.iterdir()]:
            path.chmod(0o755)
        change(there)
        return tfds("cifar10", "test", str(root), cache=False).fetch(np.array([0, 9000]))

    return call


def halve(there):
    first = min(there.glob("*test*record*"))
    first.write_bytes(first.read_bytes()[: first.stat().st_size // 2])


def lose(there):
    min(there.glob("*test*record*")).unlink()


NUMBERS = {"nothing": None, "a word": "4", "a float": 4.0, "a truth": True, "an array": np.array([4])}

ROWS = {
    # a data set
    "no name": (lambda: made(name=None), "name", "None"),
    "a shape without channels": (lambda: made(image_shape=(2, 2)), "(height, width, channels)", "(2, 2)"),
    "a shape of floats": (lambda: made(image_shape=(2.0, 2, 1)), "image_shape[0]", "2.0"),
    "a shape of nothing": (lambda: made(image_shape=(0, 2, 1)), "image_shape[0]", ">= 1"),
    "no shape": (lambda: made(image_shape=None), "image_shape", "(32, 32, 3)"),
    "no classes": (lambda: made(label_names=()), "a name for every label"),
    "classes as a number": (lambda: made(label_names=10), "label_names", "10"),
    "a negative size": (lambda: made(size=-1), "size", "-1"),
    "a float size": (lambda: made(size=9.0), "size", "9.0"),
    "no white": (lambda: made(white=0), "white", ">= 1"),
    "no reader": (lambda: made(read=(PIXELS, LABELS)), "read", "function"),
    "images in [0, 1]": (read(PIXELS.astype(np.float32)), "whole numbers", "float32", "astype('uint8')"),
    "images of another shape": (read(PIXELS[:, 0]), "[9, 2, 2, 1]", "[9, 2, 1]"),
    "too few images": (read(PIXELS[:8]), "[9, 2, 2, 1]", "[8, 2, 2, 1]"),
    "whiter than white": (read(PIXELS + np.uint8(17), white=16), "0..16", "got 17"),
    "darker than black": (read(PIXELS.astype(int) - 1), "0..255", "got -1"),
    "labels from 1": (read(labels=LABELS + 1), "between 0 and 2", "y - 1"),
    "negative labels": (read(labels=LABELS - 1), "between 0 and 2", "got -1"),
    "label 255": (read(labels=LABELS + 255), "between 0 and 2", "got 257"),
    "one-hot labels": (read(labels=np.eye(9, 3, dtype=int)), "(9, 3)", "argmax"),
    "a column of labels": (read(labels=LABELS[:, None]), "(9, 1)", "y[:, 0]"),
    "float labels": (read(labels=LABELS.astype(float)), "integers", "float"),
    "labels as words": (read(labels=["cat"] * 9), "labels", "cat"),
    "too few labels": (read(labels=LABELS[:8]), "(9,)", "(8,)"),
    "unequal arrays": (lambda: from_arrays(PIXELS, LABELS[:8]), "[9, 2, 2, 1]", "[8]"),
    "grey arrays": (lambda: from_arrays(PIXELS[..., 0], LABELS), "[N, H, W, C]", "[9, 2, 2]"),
    "a record before the first": (lambda: TEST.fetch(np.array([0, -1])), "0..359", "got -1"),
    "a record after the last": (lambda: TEST.fetch([360]), "0..359", "got 360"),
    "half a record": (lambda: TEST.fetch([1.5]), "whole numbers", "1.5"),
    "a mask of records": (lambda: TEST.fetch(np.ones(360, bool)), "whole numbers", "np.flatnonzero"),
    "a table of records": (lambda: TEST.fetch(np.zeros((2, 2), int)), "row of whole numbers"),
    "one record": (lambda: TEST.fetch(3), "row of whole numbers", "3"),
    "records as words": (lambda: TEST.fetch(["3"]), "whole numbers", "'3'"),
    # the sets by name
    "digits: no split": (lambda: digits(None), "no split None", "test, train"),
    "digits: a number": (lambda: digits(1), "no split 1", "test, train"),
    "digits: a list": (lambda: digits(["train"]), "no split ['train']"),
    "tfds: no name": (lambda: tfds(None, "test"), "dataset", "'cifar10'", "None"),
    "tfds: a list": (lambda: tfds(["cifar10"], "test"), "dataset", "list"),
    "tfds: an empty name": (lambda: tfds("", "test"), "none of TFDS"),
    "tfds: no split": (lambda: tfds("cifar10", None), "split", "train[:80%]", "None"),
    "tfds: a number as split": (lambda: tfds("cifar10", 0), "split", "got 0"),
    "tfds: a number as folder": (lambda: tfds("cifar10", "test", 3), "data_dir", "3"),
    "tfds: an empty folder name": (lambda: tfds("cifar10", "test", ""), "data_dir is empty"),
    "tfds: no such folder": (lambda: tfds("cifar10", "test", "~/no/such"), str(Path.home()), "not a directory"),
    "tfds: a file as folder": (lambda: tfds("cifar10", "test", FOLDER / "file"), "file", "not a directory"),
    "tfds: a number as cache": (lambda: tfds("cifar10", "test", cache=1), "cache", "1"),
    "tfds: an empty cache": (lambda: tfds("cifar10", "test", cache=""), "cache is empty"),
    "tfds: a file as cache": (lambda: tfds("cifar10", "test", cache=FOLDER / "file"), "cache folder", "is a file"),
    "tfds: a word as features": (lambda: tfds("cifar10", "test", features="id"), "features", "sequence", "'id'"),
    "tfds: a feature with our name": (lambda: tfds("cifar10", "test", features=["id"]), "rides along", "'id'"),
    "config: an unknown set": (lambda: build(dataset, {"name": "mnist"}), "'mnist'", "digits"),
    # parts of train
    **{
        f"validation {n}": (lambda v=v: digits("train", validation=v), "validation", told)
        for n, v, told in (
            ("as a word", "0.1", "[0, 1)"),
            ("of everything", 1.0, "[0, 1)"),
            ("negative", -0.1, "[0, 1)"),
            ("of -1", -1, ">= 0"),
            ("as a truth", True, "True"),
            ("nan", float("nan"), "nan"),
        )
    },
    "validation of too many": (lambda: digits("validation", validation=1437), "1437 of 1437", "leave at least one"),
    "validation of too few": (lambda: digits("train", validation=1e-9), "takes 0", "at least one"),
    "validation without a seed": (lambda: digits("train", 0.1, None), "seed", "None"),
    "validation with a negative seed": (lambda: digits("train", 0.1, -1), "seed", "-1"),
    "validation that is not there": (lambda: digits("validation"), "splits: test, train", "validation=0.1"),
    # folders of images
    "folder: no path": (lambda: folder(None, "train"), "path", "None"),
    "folder: an empty path": (lambda: folder("", "train"), "'~/pictures'", "''"),
    "folder: not there": (lambda: folder("~/no/such", "train"), str(Path.home()), "no folder", "<class>"),
    "folder: a file": (lambda: folder(FOLDER / "file", "train"), "no folder"),
    "folder: without images": (lambda: folder(FOLDER, "train"), "no image", "<class>"),
    "folder: a class without images": (own(EMPTY_CLASS=1), "'empty'", "no image"),
    "folder: an empty image": (own(EMPTY_IMAGE=1), "001.png", "empty"),
    "folder: no such split": (own("train", "val"), "no split 'val'", "test, train"),
    "folder: no split": (own("train", None), "no split None"),
    "folder: without a validation split": (own("train", "validation"), "validation=0.1"),
    "folder: a test part of splits": (own(test=0.1), "already", "test=0.1"),
    "folder: without a test split": (own("", "test"), "no split 'test'", "test=0.1"),
    "folder: an unknown rule": (own(resize="crops"), "did you mean 'crop'", "stretch"),
    "folder: one side": (own(size=32), "(height, width)", "32"),
    "folder: three sides": (own(size=(3, 32, 32)), "(height, width)"),
    "folder: half a pixel": (own(size=(32.0, 32)), "height", "32.0"),
    "folder: no pixel": (own(size=(0, 32)), "height", ">= 1"),
    "folder: two channels": (own(channels=2), "1 (grey)", "2"),
    "folder: a truth as channels": (own(channels=True), "channels", "True"),
    "folder: a number as cache": (own(cache=0), "cache", "0"),
    "folder: a word as features": (own(features="caption"), "features", "sequence"),
    "folder: features not told": (own(features=["caption"]), "metadata.jsonl", "missing"),
    "folder: a feature with our name": (own(features=["label"]), "rides along", "'label'"),
    "folder: two validation splits": (own("val", validation=3), "own", "validation=3"),
    "folder: a split twice": (twice(folder), "val'", "both the split 'validation'"),
    # arrays
    "arrays: a split twice": (twice(arrays), "val'", "both the split 'validation'"),
    "arrays: no path": (lambda: arrays(3, "train"), "path", "3"),
    "arrays: a zero in the path": (lambda: arrays("a\0b", "train"), "A path", "x00"),
    "arrays: not there": (lambda: arrays("~/no/such.npz", "train"), str(Path.home()), ".npz"),
    "arrays: no archive": (lambda: arrays(FOLDER / "file", "train"), "cannot read", "file"),
    "arrays: an empty folder": (lambda: arrays(tempfile.mkdtemp(), "train"), "no array 'image'", "none"),
    "arrays: other names": (saved(images=PIXELS, label=LABELS), "no array 'image'", "did you mean 'images'", "image="),
    "arrays: no such feature": (saved(features=["text"], **COLUMNS), "no array 'text'", "image, label"),
    "arrays: a word as features": (saved(features="text", **COLUMNS), "features", "sequence"),
    "arrays: channels first": (saved(image=PIXELS.astype(int), label=LABELS), "uint8", "int64"),
    "arrays: flat images": (saved(image=PIXELS.reshape(9, 4), label=LABELS), "[N, H, W]", "[9, 4]"),
    "arrays: whiter than white": (saved(image=PIXELS + 1.5, label=LABELS), "max 1.5", "[0, 1]"),
    "arrays: no numbers": (saved(image=PIXELS * np.nan, label=LABELS), "nan", "finite"),
    "arrays: float labels": (saved(image=PIXELS, label=LABELS / 2), "labels are integers"),
    "arrays: a column of labels": (saved(image=PIXELS, label=LABELS[:, None]), "y[:, 0]"),
    "arrays: too few labels": (saved(image=PIXELS, label=LABELS[:8]), "(9,)", "(8,)"),
    "arrays: too few names": (saved(label_names=["a", "b"], **COLUMNS), "between 0 and 1", "got 2"),
    "arrays: too few captions": (saved(features=["x"], x=np.arange(8), **COLUMNS), "'x'", "9 images", "[8]"),
    "arrays: no such split": (saved(split="validation", **COLUMNS), "no split 'validation'", "validation=0.1"),
    "arrays: a test part of splits": (saved(test=2, **SPLIT_COLUMNS), "already", "test=2"),
    "arrays: half a file": (lambda: arrays(half_saved(), "train"), "cannot read", "numpy.savez"),
    # rows of the hub
    "huggingface: no name": (lambda: huggingface(None, "train"), "dataset", "None"),
    "huggingface: no split": (lambda: huggingface("mnist", None), "split", "None"),
    "huggingface: a number as subset": (lambda: huggingface("mnist", "train", 3), "subset", "3"),
    "huggingface: an unknown rule": (lambda: huggingface("mnist", "train", resize="pad"), "unknown resize 'pad'"),
    # what rides along
    "features with our names": (riding(label=np.arange(9)), "other than", "'label'"),
    "features without names": (lambda: made(read=lambda i: (PIXELS, LABELS, {3: i})).fetch(np.arange(9)), "got 3"),
    "too few features": (riding(box=np.zeros((8, 4))), "'box'", "9 records"),
    "one text for all": (riding(caption="ninechars"), "'caption'", "9 records"),
    "one number for all": (riding(depth=3), "'depth'", "got 3"),
    "more in from_arrays": (lambda: from_arrays(PIXELS, LABELS, {"x": [1]}), "9 images", "'x' has 1"),
    "floats above white": (read(PIXELS + np.float32(2), white=None), "max 2", "[0, 1]"),
    "bytes for floats": (read(white=None), "floating point", "uint8", "255"),
    # streams
    **{f"batch_size {n}": (streamed(batch_size=v), "batch_size", "whole number") for n, v in NUMBERS.items()},
    **{f"seed {n}": (streamed(seed=v), "seed", "whole number") for n, v in NUMBERS.items()},
    **{f"start {n}": (streamed(start=v), "start", "whole number") for n, v in NUMBERS.items()},
    **{f"threads {n}": (streamed(threads=v), "threads", "whole number") for n, v in NUMBERS.items()},
    **{f"prefetch {n}": (streamed(prefetch=v), "prefetch", "whole number") for n, v in NUMBERS.items()},
    **{f"epoch of {n}": (passed(None, v), "batch_size", "whole number") for n, v in NUMBERS.items()},
    **{f"shard {n}": (streamed(shard=v), "shard is (index, count)") for n, v in NUMBERS.items()},
    "batch_size zero": (streamed(batch_size=0), "batch_size", "got 0"),
    "batch_size negative": (streamed(batch_size=-4), "batch_size", "got -4"),
    "batch_size huge": (streamed(batch_size=2**40), "batch_size", "between 1 and"),
    "seed negative": (streamed(seed=-1), "seed", ">= 0", "-1"),
    "start negative": (streamed(start=-1), "start", "between 0 and", "-1"),
    "start huge": (streamed(start=2**62), "start", "between 0 and"),
    "start infinite": (streamed(start=float("inf")), "start", "inf"),
    "threads negative": (streamed(threads=-1), "threads", "-1"),
    "shard of floats": (streamed(shard=(0.0, 2)), "index of shard", "0.0"),
    "shard of three": (streamed(shard=(0, 1, 2)), "shard is (index, count)"),
    "shard outside": (streamed(shard=(2, 2)), "0 <= index < count", "(2, 2)"),
    "shard of none": (streamed(shard=(0, 0)), "0 <= index < count", "(0, 0)"),
    "shards that do not divide": (streamed(shard=(0, 3)), "4 is not divisible by 3"),
    "no data": (streamed(dataset=None), "dataset", "Dataset", "None"),
    "the name of data": (streamed(dataset="digits"), "dataset", "'digits'"),
    "arrays for data": (streamed(dataset={"image": PIXELS}), "dataset", "digits('train')"),
    "an empty set": (streamed(dataset=made(size=0)), "empty"),
    "an epoch of an empty set": (passed(None, data=made(size=0)), "empty"),
    "an epoch of arrays": (passed(None, data=PIXELS), "dataset", "uint8"),
    "ids outside": (passed([0, 360]), "0..359", "got 360"),
    "negative ids": (passed([-1]), "0..359", "got -1"),
    "ids as floats": (passed([0.0, 1.0]), "whole numbers"),
    "ids as a mask": (passed(np.arange(360) < 5), "np.flatnonzero"),
    "ids as words": (passed(["1"]), "whole numbers"),
    "one id": (passed(3), "row of whole numbers"),
    "ids in a table": (passed([[1, 2]]), "row of whole numbers"),
    # augmentation
    "flip: more than certain": (lambda: augment.flip(1.5), "probability", "[0, 1]", "1.5"),
    "flip: nan": (lambda: augment.flip(float("nan")), "probability", "nan"),
    "flip: nothing": (lambda: augment.flip(None), "probability", "None"),
    "flip: a word": (lambda: augment.flip("half"), "probability", "'half'"),
    "flip: always": (lambda: augment.flip(True), "probability", "True"),
    "shift: backwards": (lambda: augment.shift(-1), "pixels", ">= 0", "-1"),
    "shift: half a pixel": (lambda: augment.shift(0.5), "pixels", "0.5"),
    "shift: infinity": (lambda: augment.shift(float("inf")), "pixels", "inf"),
    "shift: nothing": (lambda: augment.shift(None), "pixels", "None"),
    "shift: a word": (lambda: augment.shift("2"), "pixels", "'2'"),
    "shift: another padding": (lambda: augment.shift(1, "zeros"), "padding", "did you mean 'zero'"),
    "shift: no padding": (lambda: augment.shift(1, None), "padding", "None", "['edge', 'zero']"),
    "shift: out of the image": (lambda: augment.shift(5)(IMAGE, KEY), "5 pixels", "(4, 6, 3)"),
    "noise: negative": (lambda: augment.noise(-0.1), "std", "[0, inf)", "-0.1"),
    "noise: infinite": (lambda: augment.noise(float("inf")), "std", "inf"),
    "noise: nan": (lambda: augment.noise(float("nan")), "std", "nan"),
    "noise: nothing": (lambda: augment.noise(None), "std", "None"),
    "noise: per channel": (lambda: augment.noise(np.ones(3)), "std", "float64[3]"),
    "compose: names": (lambda: augment.compose("flip"), "augments[0]", "'flip'"),
    "compose: a list": (lambda: augment.compose([augment.flip()]), "augments[0]", "function"),
    **{
        f"{n}: {what}": (lambda f=f, x=x: f(x, KEY), *words)
        for n, f in {"flip": augment.flip(), "shift": augment.shift(1), "noise": augment.noise(0.1)}.items()
        for what, x, words in (
            ("a batch", IMAGE[None], ("(1, 4, 6, 3)", "jax.vmap")),
            ("a flat vector", IMAGE.ravel(), ("(72,)", "[H, W, C]")),
            ("bytes", IMAGE.astype(np.uint8), ("uint8", "/ 255")),
            ("no image", None, ("Images", "None")),
        )
    },
    "config: an unknown augmentation": (lambda: build(augment, {"name": "fliip"}), "did you mean 'flip'"),
    "config: a probability of words": (lambda: build(augment, {"name": "flip", "probability": "1"}), "probability"),
    "check: bytes": (lambda: check_images(PIXELS), "uint8", "/ 255"),
    "check: channels of words": (lambda: check_images(IMAGE[None], "3"), "channels", "'3'"),
    "check: nothing": (lambda: check_images(None), "None"),
}  # fmt: skip

if (REAL / "cifar10").is_dir():
    ROWS |= {
        "tfds: an unknown split": (lambda: tfds("cifar10", "val"), "no split 'val'", "test, train"),
        "tfds: half a slice": (lambda: tfds("cifar10", "train["), "'train['", "'train[:80%]'"),
        "tfds: a backward slice": (lambda: tfds("cifar10", "train[5:2]"), "'train[5:2]'"),
        "tfds: too much": (lambda: tfds("cifar10", "train[:900%]"), "'train[:900%]'"),
        "tfds: upper case": (lambda: tfds("CIFAR10", "test"), "did you mean 'cifar10'"),
        "tfds: a torn file": (prepared(halve), "cifar10", "damaged", "download_and_prepare"),
        "tfds: a lost file": (prepared(lose), "cifar10", "1 files are missing", "download_and_prepare"),
        "tfds: a torn description": (
            prepared(lambda there: (there / "dataset_info.json").write_text("{")),
            "cifar10",
            "damaged",
        ),
    }
