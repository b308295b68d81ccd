"""A folder is its images, by class and name; any size is fitted by a rule that is exact where it can be, and never aliases."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxdiff.build import build
from jaxdiff.data import dataset, pictures
from jaxdiff.data.dataset import folder
from jaxdiff.data.stream import stream

sys.path.insert(0, str(Path(__file__).parent))
from own_data import CLASSES, LABELS, PIXELS, SPLITS, write_folder


def picture(array):
    return Image.fromarray(np.asarray(array, np.uint8))


def in_order(ids):
    """Records by class, then by name."""
    return sorted(ids, key=lambda i: (LABELS[i], i))


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("split", ["train", "test"])
def test_lossless_images_come_as_they_are_by_class_and_name(tmp_path, split, cache):
    write_folder(tmp_path)
    found = build(dataset, {"name": "folder", "path": str(tmp_path), "cache": cache}, split=split)
    records, ids = found.fetch(np.arange(len(found))), in_order(SPLITS[split])
    np.testing.assert_array_equal(np.round(records["image"] * 255), PIXELS[ids])
    np.testing.assert_array_equal(records["label"], LABELS[ids])
    assert found.label_names == CLASSES and found.image_shape == (6, 5, 3)


def test_every_split_counts_the_classes_of_all(tmp_path):
    write_folder(tmp_path, {"train": [1, 2, 4], "val": [0, 2]})  # no ant in train, no bee in val
    assert folder(tmp_path, "train").label_names == folder(tmp_path, "validation").label_names == CLASSES
    assert folder(tmp_path, "train").fetch([0, 1, 2])["label"].tolist() == [1, 1, 2]
    assert folder(tmp_path, "validation").fetch([0, 1])["label"].tolist() == [0, 2]


def test_what_is_no_image_is_passed_over_and_deeper_folders_are_not(tmp_path):
    write_folder(tmp_path, {"": range(9)})
    (tmp_path / "ant" / "notes.txt").write_text("ants")
    (tmp_path / "ant" / ".hidden.png").write_text("")
    (tmp_path / ".git").mkdir()
    (tmp_path / "ant" / "more").mkdir()
    (tmp_path / "ant" / "006.png").rename(tmp_path / "ant" / "more" / "006.PNG")
    found = folder(tmp_path, "train")
    assert len(found) == 9 and found.label_names == CLASSES
    assert np.count_nonzero(found.fetch(np.arange(9))["label"] == 0) == 3


@pytest.mark.parametrize("suffix, worst", [("bmp", 0), ("webp", 255), ("jpg", 255), ("gif", 255)])
def test_other_formats_are_read(tmp_path, suffix, worst):
    write_folder(tmp_path, {"": range(3)}, suffix)
    images = np.round(folder(tmp_path, "train").fetch([0, 1, 2])["image"] * 255)
    assert abs(images - PIXELS[:3]).max() <= worst and images.std() > 20


def test_a_crop_is_the_middle_and_a_stretch_is_everything():
    wide = np.zeros((4, 12, 3), np.uint8)
    wide[:, 4:8] = 200  # the middle third alone is bright
    wide[0, 4:8] = 90
    np.testing.assert_array_equal(pictures.pixels(picture(wide), (4, 4), "crop", 3), wide[:, 4:8])
    tall = pictures.pixels(picture(wide.transpose(1, 0, 2)), (4, 4), "crop", 3)
    np.testing.assert_array_equal(tall, wide[:, 4:8].transpose(1, 0, 2))
    stretched = pictures.pixels(picture(wide), (4, 4), "stretch", 3)
    assert (stretched[:, [0, 3]] < 40).all() and (stretched[1:, 1:3] > 120).all()


@pytest.mark.parametrize("rule", ["crop", "stretch", "exact"])
def test_a_picture_of_the_size_is_left_alone(rule):
    np.testing.assert_array_equal(pictures.pixels(picture(PIXELS[0]), (6, 5), rule, 3), PIXELS[0])


@pytest.mark.parametrize("rule", ["crop", "stretch"])
@pytest.mark.parametrize("height, width", [(64, 64), (65, 97), (3, 2)])
def test_a_plain_picture_stays_plain_in_any_size(rule, height, width):
    plain = np.full((height, width, 3), (9, 200, 31), np.uint8)
    assert (pictures.pixels(picture(plain), (8, 8), rule, 3) == (9, 200, 31)).all()


@pytest.mark.parametrize("rule", ["crop", "stretch"])
def test_what_is_too_fine_becomes_grey_and_does_not_alias(rule):
    board = 255 * (np.indices((64, 64)).sum(0) % 2)
    small = pictures.pixels(picture(board), (8, 8), rule, 1)
    assert abs(small.astype(float) - 127.5).max() < 8  # without a filter it would be black and white


def test_turning_a_picture_turns_what_is_made_of_it():
    image = np.random.default_rng(0).integers(0, 256, (23, 31, 3))
    for rule in ("crop", "stretch"):
        there = pictures.pixels(picture(image), (8, 6), rule, 3)
        back = pictures.pixels(picture(image[::-1, ::-1]), (8, 6), rule, 3)[::-1, ::-1]
        assert abs(there.astype(int) - back).max() <= 1


def test_channels_are_asked_for(tmp_path):
    write_folder(tmp_path, {"": range(6)})
    grey = folder(tmp_path, "train", channels=1)
    assert grey.image_shape == (6, 5, 1)
    weights = np.array([299, 587, 114]) / 1000  # ITU-R 601-2
    luma = PIXELS[in_order(range(6))] @ weights
    assert abs(grey.fetch(np.arange(6))["image"][..., 0] * 255 - luma).max() <= 1
    np.testing.assert_array_equal(
        pictures.pixels(picture(PIXELS[0, ..., 0]), (6, 5), "exact", 3), np.repeat(PIXELS[0, ..., :1], 3, -1)
    )


def test_a_camera_held_upright_gives_an_upright_picture(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    (tmp_path / "ant").mkdir()
    picture(PIXELS[0]).save(tmp_path / "ant" / "a.png", exif=exif)
    image = folder(tmp_path, "train").fetch([0])["image"][0]
    np.testing.assert_array_equal(np.round(image * 255), np.rot90(PIXELS[0], -1))


def damaged(path, data):
    path.write_bytes(data(path.read_bytes()))


@pytest.mark.parametrize(
    "data, message",
    [
        (lambda b: b"", "002.png' is empty"),
        (lambda b: b[: len(b) // 2], "002.png' cannot be used"),
        (lambda b: b"no image at all", "002.png' cannot be used"),
    ],
)
def test_a_broken_file_is_named(tmp_path, data, message):
    write_folder(tmp_path, {"": range(9)})
    damaged(tmp_path / "cow" / "002.png", data)
    with pytest.raises(ValueError, match=message):
        folder(tmp_path, "train").fetch([0])


def test_another_size_is_named_unless_there_is_a_rule(tmp_path):
    write_folder(tmp_path, {"": range(9)})
    picture(np.zeros((7, 5, 3))).save(tmp_path / "cow" / "008.png")
    with pytest.raises(ValueError, match=r"cow/008.png' cannot be used: it is 7 x 5, not 6 x 5.*crop"):
        folder(tmp_path, "train").fetch([0])
    assert folder(tmp_path, "train", size=(4, 4)).fetch([8])["image"].shape == (1, 4, 4, 3)


def test_more_than_eight_bits_are_not_thrown_away_in_silence(tmp_path):
    (tmp_path / "ant").mkdir()
    Image.fromarray(np.full((4, 4), 40_000, np.uint16)).save(tmp_path / "ant" / "a.png")
    with pytest.raises(ValueError, match=r"a\.png.*more than 8 bits"):
        folder(tmp_path, "train").fetch([0])


RIDERS = {
    "caption": [f"número {i}\u2028" for i in range(9)],
    "boxes": [[[0, 1, 2, i]] * (i % 3) for i in range(9)],
    "weight": [0.5 * i for i in range(9)],
}


def told(root, ids=range(9)):
    lines = [
        {"file_name": f"{CLASSES[LABELS[i]]}/{i:03}.png"} | {k: v[i] for k, v in RIDERS.items()} for i in ids
    ]
    (root / "metadata.jsonl").write_text("\n".join(json.dumps(x, ensure_ascii=False) for x in lines) + "\n")


@pytest.mark.parametrize("cache", [True, False])
def test_captions_and_boxes_ride_along_with_their_image(tmp_path, cache):
    told(write_folder(tmp_path, {"": range(9)}), reversed(range(9)))
    found = folder(tmp_path, "train", features=tuple(RIDERS), cache=cache, validation=3)
    for batch in (found.fetch([5, 0, 3]), next(stream(found, 6, 0))):
        for row, image in enumerate(np.round(batch["image"] * 255)):
            (i,) = np.flatnonzero((PIXELS[:9] == image).all((1, 2, 3)))
            assert {k: batch[k][row] for k in RIDERS} == {k: v[i] for k, v in RIDERS.items()}
        assert batch["weight"].dtype == np.float64


def test_a_missing_caption_is_named(tmp_path):
    write_folder(tmp_path, {"": range(9)})
    with pytest.raises(FileNotFoundError, match=r"metadata\.jsonl"):
        folder(tmp_path, "train", features=("caption",))
    told(tmp_path, range(8))
    with pytest.raises(ValueError, match=r"'caption' for 1 images, such as .*008\.png"):
        folder(tmp_path, "train", features=("caption",))
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "ant/000.png"}\n{"file"\n')
    with pytest.raises(ValueError, match=r'Line 2 of .* is no JSON object with a "file_name"'):
        folder(tmp_path, "train", features=("caption",))


def test_a_changed_caption_is_read_again(tmp_path):
    told(write_folder(tmp_path, {"": range(9)}))
    get = lambda: folder(tmp_path, "train", features=("caption",)).fetch([0])["caption"][0]
    assert get() == RIDERS["caption"][0]
    text = (tmp_path / "metadata.jsonl").read_text()
    (tmp_path / "metadata.jsonl").write_text(text.replace("número 0", "other"))
    assert get() == "other\u2028"


def test_a_changed_image_is_decoded_again_and_an_old_one_is_not(tmp_path):
    root, cache = write_folder(tmp_path / "own", {"": range(9)}), tmp_path / "cache"
    before = folder(root, "train", cache=str(cache)).fetch([0])["image"]
    picture(255 - PIXELS[0]).save(root / "ant" / "000.png")
    os.utime(root / "ant" / "000.png", ns=(1, 1))
    after = folder(root, "train", cache=str(cache)).fetch([0])["image"]
    np.testing.assert_allclose(after, 1 - before, atol=1e-6)
    assert len(list(cache.iterdir())) == 2
    folder(root, "train", cache=str(cache)).fetch([0])
    assert len(list(cache.iterdir())) == 2
