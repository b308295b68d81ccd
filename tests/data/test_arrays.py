"""Arrays come as they are, whatever the layout of their files; what else is in them rides along."""

import sys
from pathlib import Path

import numpy as np
import pytest

from jaxdiff.build import build
from jaxdiff.data import dataset
from jaxdiff.data.dataset import arrays
from jaxdiff.data.stream import epoch, stream

sys.path.insert(0, str(Path(__file__).parent))
from own_data import CAPTIONS, CLASSES, LABELS, PIXELS, SPLITS, write_npz

COLUMNS = {"image": PIXELS, "label": LABELS, "caption": np.array(CAPTIONS)}


def by_key(root):
    return write_npz(root)


def by_file(root):
    for split, ids in SPLITS.items():
        np.savez_compressed(root / f"{split}.npz", **{k: v[list(ids)] for k, v in COLUMNS.items()})
    return root


def by_folder(root):
    for split, ids in SPLITS.items():
        (root / split).mkdir()
        for k, v in COLUMNS.items():
            np.save(root / split / k, v[list(ids)])
    return root


def by_key_of_files(root):
    for split, ids in SPLITS.items():
        for k, v in COLUMNS.items():
            np.save(root / f"{split}_{k}", v[list(ids)])
    return root


LAYOUTS = [by_key, by_file, by_folder, by_key_of_files]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("split", ["train", "test"])
def test_every_layout_holds_the_same_records(tmp_path, layout, split):
    spec = {"name": "arrays", "path": str(layout(tmp_path)), "features": ["caption"], "label_names": CLASSES}
    found, ids = build(dataset, spec, split=split), list(SPLITS[split])
    records = found.fetch(np.arange(len(found)))
    np.testing.assert_array_equal(np.round(records["image"] * 255), PIXELS[ids])
    np.testing.assert_array_equal(records["label"], LABELS[ids])
    assert records["caption"].tolist() == [CAPTIONS[i] for i in ids]
    assert found.label_names == CLASSES and found.split == split


def test_without_splits_all_are_train_and_a_share_is_test(tmp_path):
    np.savez(tmp_path / "a.npz", image=PIXELS, label=LABELS)
    assert len(arrays(tmp_path / "a.npz", "train")) == 60
    splits = [arrays(tmp_path / "a.npz", s, test=0.25, validation=5) for s in ("train", "validation", "test")]
    assert [len(s) for s in splits] == [40, 5, 15]
    pixels = [s.fetch(np.arange(len(s)))["image"] for s in splits]
    assert sorted(map(bytes, np.concatenate(pixels))) == sorted(
        map(bytes, np.float32(PIXELS) / np.float32(255))
    )
    with pytest.raises(ValueError, match=r"no split 'test'; its splits: train\. .*test=0\.1"):
        arrays(tmp_path / "a.npz", "test")


def test_floats_keep_their_values_and_grey_images_get_a_channel(tmp_path):
    images = np.linspace(0, 1, 60 * 16).reshape(60, 4, 4)
    np.savez(tmp_path / "a.npz", image=images, label=LABELS)
    found = arrays(tmp_path / "a.npz", "train")
    assert found.image_shape == (4, 4, 1)
    np.testing.assert_array_equal(found.fetch(np.arange(60))["image"][..., 0], images.astype(np.float32))


def test_classes_are_counted_over_all_splits(tmp_path):
    np.savez(
        tmp_path / "a.npz",
        train_images=PIXELS[:3],
        train_labels=[0, 1, 0],
        val_images=PIXELS[3:5],
        val_labels=[4, 2],
    )
    for split in ("train", "validation"):
        found = arrays(tmp_path / "a.npz", split, image="images", label="labels")
        assert found.label_names == ("0", "1", "2", "3", "4")


def test_files_of_a_folder_are_mapped_and_not_read(tmp_path):
    found = arrays(by_folder(tmp_path), "train")
    pixels = found.read.args[0]
    while pixels.base is not None and not isinstance(pixels, np.memmap):
        pixels = pixels.base
    assert isinstance(pixels, np.memmap)


RIDERS = {
    "caption": np.array(CAPTIONS),
    "box": np.arange(240, dtype=np.float32).reshape(60, 4),
    "mask": PIXELS[..., 0] > 127,
}


@pytest.fixture
def riding(tmp_path):
    np.savez(tmp_path / "a.npz", image=PIXELS, label=LABELS, **RIDERS)
    return arrays(tmp_path / "a.npz", "train", features=tuple(RIDERS), validation=20)


def test_features_ride_along_through_parts_and_streams(riding):
    from jaxdiff.data.splits import parts

    ids = parts(60, 20)[0]
    for batches in ([next(stream(riding, 16, 0, threads=2)) for _ in range(1)], epoch(riding, 16)):
        for batch in batches:
            for name, values in RIDERS.items():
                assert batch[name].dtype == values.dtype
                np.testing.assert_array_equal(batch[name], values[ids[batch["id"]]])


def test_python_objects_are_not_read(tmp_path):
    texts = np.array(CAPTIONS, object)
    np.savez(tmp_path / "a.npz", image=PIXELS, label=LABELS, caption=texts)
    with pytest.raises(ValueError, match=r"'caption'.*np\.array\(texts, dtype=str\)"):
        arrays(tmp_path / "a.npz", "train", features=("caption",))
    assert len(arrays(tmp_path / "a.npz", "train")) == 60
