"""Small sets of every kind of source, all of the same records: image i is of class i % 3, and like no other."""

import sys
import types
from functools import partial

import numpy as np
from PIL import Image

from jaxdiff.data import dataset

CLASSES = ("ant", "bee", "cow")
PIXELS = np.random.RandomState(0).randint(0, 256, (60, 6, 5, 3)).astype(np.uint8)
LABELS = np.arange(60) % 3
CAPTIONS = [f"{CLASSES[y]} número {i}" for i, y in enumerate(LABELS)]
SPLITS = {"train": range(0, 45), "test": range(45, 60)}


def write_folder(root, splits=SPLITS, suffix="png"):
    """<root>/<split>/<class>/<i>.png, or without the split if its name is empty."""
    for split, records in splits.items():
        for i in records:
            place = root / split / CLASSES[LABELS[i]]
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(PIXELS[i]).save(place / f"{i:03}.{suffix}")
    return root


def write_npz(root, splits=SPLITS):
    """train_image, train_label, train_caption, ... in one file."""
    columns = {"image": PIXELS, "label": LABELS, "caption": np.array(CAPTIONS)}
    keys = {f"{s}_{name}": v[list(ids)] for s, ids in splits.items() for name, v in columns.items()}
    np.savez(root / "own.npz", **keys)
    return root / "own.npz"


class Table(list):
    """The rows of a split, as the package `datasets` has them."""

    def __init__(self, split, records):
        super().__init__(
            {"image": Image.fromarray(PIXELS[i]), "label": int(LABELS[i]), "caption": CAPTIONS[i]}
            for i in records
        )
        self.column_names = ["image", "label", "caption"]
        self.features = {"image": None, "label": types.SimpleNamespace(names=list(CLASSES)), "caption": None}
        self._fingerprint = f"of-{split}"


def fake_datasets():
    """A module `datasets` with one set on its hub, "someone/animals"."""

    def load_dataset(path, name=None, *, split, revision=None):
        if path != "someone/animals":
            raise FileNotFoundError(f"Couldn't find any data at {path}")
        if split not in SPLITS:
            raise ValueError(f"Unknown split {split!r}. Should be one of {list(SPLITS)}.")
        return Table(split, SPLITS[split])

    module = types.ModuleType("datasets")
    module.load_dataset = load_dataset
    return module


def opened(kind, root, monkeypatch):
    """(split, **arguments) -> the records of a source of that kind, in a folder of its own."""
    if kind == "digits":
        return dataset.digits
    if kind == "huggingface":
        monkeypatch.setitem(sys.modules, "datasets", fake_datasets())
        return partial(dataset.huggingface, "someone/animals", cache=str(root))
    if kind == "arrays":
        return partial(dataset.arrays, write_npz(root))
    if kind == "arrays without splits":
        return partial(dataset.arrays, write_npz(root, {"train": range(60)}), test=15)
    if kind == "folder":
        return partial(dataset.folder, write_folder(root / "own"), cache=str(root))
    return partial(dataset.folder, write_folder(root / "own", {"": range(60)}), test=0.25, cache=str(root))


KINDS = ("digits", "huggingface", "arrays", "folder", "folder without splits")
