"""Bad input of data sets, streams and augmentation."""

import os
import shutil
import tempfile
from pathlib import Path

import jax
import numpy as np

from jaxdiff.build import build
from jaxdiff.data import augment, check_images, dataset
from jaxdiff.data.dataset import Dataset, digits, from_arrays, tfds
from jaxdiff.data.stream import epoch, stream

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
    "tfds: a word as cache": (lambda: tfds("cifar10", "test", cache="no"), "cache", "'no'"),
    "config: an unknown set": (lambda: build(dataset, {"name": "mnist"}), "'mnist'", "['digits', 'tfds']"),
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
