"""Rows of the package `datasets` become records; the package itself is a stand-in, and nothing is downloaded."""

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxdiff.build import build
from jaxdiff.data import dataset
from jaxdiff.data.dataset import huggingface

sys.path.insert(0, str(Path(__file__).parent))
from own_data import CAPTIONS, CLASSES, LABELS, PIXELS, SPLITS, Table, fake_datasets

ANIMALS = "someone/animals"


@pytest.fixture
def hub(monkeypatch):
    module = fake_datasets()
    monkeypatch.setitem(sys.modules, "datasets", module)
    return module


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("split", ["train", "test"])
def test_records_are_the_rows(hub, tmp_path, split, cache):
    spec = {
        "name": "huggingface",
        "dataset": ANIMALS,
        "features": ["caption"],
        "cache": cache and str(tmp_path),
    }
    found, ids = build(dataset, spec, split=split), list(SPLITS[split])
    records = found.fetch(np.arange(len(found)))
    np.testing.assert_array_equal(np.round(records["image"] * 255), PIXELS[ids])
    np.testing.assert_array_equal(records["label"], LABELS[ids])
    assert records["caption"].tolist() == [CAPTIONS[i] for i in ids]
    assert found.label_names == CLASSES


def test_arguments_reach_the_package(hub, monkeypatch):
    seen = []
    monkeypatch.setattr(hub, "load_dataset", lambda *a, **k: seen.append((a, k)) or Table("train", [0]))
    huggingface(ANIMALS, "train[:1%]", subset="small", revision="v2")
    huggingface(ANIMALS, "train")
    first = ((ANIMALS,), {"name": "small", "revision": "v2", "split": "train[:1%]"})
    assert seen == [first, ((ANIMALS,), {"split": "train"})]


def png(array):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "png")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "as_stored",
    [
        lambda x: Image.fromarray(x),
        lambda x: {"bytes": png(x), "path": None},
        lambda x: x,
        lambda x: x.tolist(),
    ],
    ids=["picture", "bytes", "array", "lists"],
)
def test_an_image_may_be_stored_in_many_ways(hub, monkeypatch, as_stored):
    table = Table("train", range(5))
    for i, row in enumerate(table):
        row["image"] = as_stored(PIXELS[i])
    monkeypatch.setattr(hub, "load_dataset", lambda *a, **k: table)
    images = huggingface(ANIMALS, "train", cache=False).fetch(np.arange(5))["image"]
    np.testing.assert_array_equal(np.round(images * 255), PIXELS[:5])


@pytest.mark.parametrize("cache", [True, False])
def test_boxes_masks_and_texts_come_back_as_they_were(hub, tmp_path, monkeypatch, cache):
    table = Table("train", range(5))
    riders = {
        "boxes": [[[0.5, 1.0, 2.0, 3.0]] * i for i in range(5)],
        "texts": [["one", "två"], [], None, ["x"], [""]],
        "mask": [Image.fromarray(PIXELS[i, : i + 1, :, 0]) for i in range(5)],
        "weight": [0.25 * i for i in range(5)],
        "object": [{"kind": "a", "score": 0.1}] * 5,
    }
    for name, values in riders.items():
        table.column_names.append(name)
        for row, value in zip(table, values, strict=True):
            row[name] = value
    monkeypatch.setattr(hub, "load_dataset", lambda *a, **k: table)
    found = huggingface(ANIMALS, "train", features=tuple(riders), cache=cache and str(tmp_path))
    wanted = [4, 0, 2, 2]
    batch = found.fetch(wanted)
    for name in ("boxes", "texts", "object"):
        assert batch[name].tolist() == [riders[name][i] for i in wanted]
    np.testing.assert_array_equal(batch["weight"], [1.0, 0.0, 0.5, 0.5])
    for mask, i in zip(batch["mask"], wanted, strict=True):
        assert mask.dtype == np.uint8
        np.testing.assert_array_equal(mask, PIXELS[i, : i + 1, :, 0])


def test_a_cache_is_of_one_version_of_the_rows(hub, tmp_path, monkeypatch):
    table = Table("train", range(5))
    monkeypatch.setattr(hub, "load_dataset", lambda *a, **k: table)
    get = lambda: huggingface(ANIMALS, "train", cache=str(tmp_path)).fetch([0])["image"]
    before = get()
    table[0]["image"] = Image.fromarray(255 - PIXELS[0])
    table._fingerprint = "another"
    np.testing.assert_allclose(get(), 1 - before, atol=1e-6)


def test_without_the_package_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ValueError, match="pip install datasets"):
        huggingface(ANIMALS, "train")


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"dataset": "nobody/nothing"}, "cannot load 'nobody/nothing'.*Couldn't find"),
        ({"split": "val"}, "split 'val': Unknown split.*train"),
        ({"image": "img"}, "unknown column 'img', did you mean 'image'"),
        ({"label": "caption"}, "does not name its classes: give label_names"),
        ({"features": ("captions",)}, "did you mean 'caption'"),
        ({"features": ("label",)}, "other than id, image, label, valid"),
    ],
)
def test_what_is_not_there_is_said(hub, arguments, message):
    with pytest.raises(ValueError, match=message):
        huggingface(**{"dataset": ANIMALS, "split": "train"} | arguments)


def test_a_row_without_its_image_is_named(hub, monkeypatch):
    table = Table("train", range(5))
    table[3]["image"] = None
    monkeypatch.setattr(hub, "load_dataset", lambda *a, **k: table)
    with pytest.raises(ValueError, match="image of record 3 cannot be used"):
        huggingface(ANIMALS, "train").fetch([0])
    table[0]["image"] = {"bytes": b"no image", "path": None}
    with pytest.raises(ValueError, match="image of record 0 cannot be used"):
        huggingface(ANIMALS, "train")
