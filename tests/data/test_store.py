"""What is decoded once is read from disk, whole or not at all, and never believed when it is damaged."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rows import slow_but

from jaxdiff.data.store import cache_folder, cached, stored

SIZE = 700  # two parts
IMAGES = np.random.RandomState(0).randint(0, 256, (SIZE, 3, 2, 1)).astype(np.uint8)
BOXES = [np.arange(4 * (i % 3), dtype=np.float32).reshape(-1, 4) for i in range(SIZE)]
OTHERS = {
    "caption": [f"a\nnúmero {i} \x00" for i in range(SIZE)],
    "boxes/all": BOXES,
    "objects": [{"box": BOXES[i], "name": None, "parts": [i, "x"]} for i in range(SIZE)],
    "depth": np.random.RandomState(1).standard_normal((SIZE, 2, 2)),
}


class Source:
    """Records that count how often they are read."""

    def __init__(self):
        self.seen = []

    def __call__(self, indices):
        self.seen += indices.tolist()
        others = {k: v[indices] if k == "depth" else [v[i] for i in indices] for k, v in OTHERS.items()}
        return IMAGES[indices], indices % 7, others


def assert_right(read, wanted=(699, 0, 3, 3, 500)):
    wanted = np.array(wanted)
    images, labels, others = read(wanted)
    np.testing.assert_array_equal(images, IMAGES[wanted])
    np.testing.assert_array_equal(labels, wanted % 7)
    assert list(others["caption"]) == [OTHERS["caption"][i] for i in wanted]
    np.testing.assert_array_equal(others["depth"], OTHERS["depth"][wanted])
    for boxes, objects, i in zip(others["boxes/all"], others["objects"], wanted, strict=True):
        assert boxes.dtype == np.float32 and objects["parts"] == [i, "x"] and objects["name"] is None
        np.testing.assert_array_equal(boxes, BOXES[i])
        np.testing.assert_array_equal(objects["box"], BOXES[i])


def the_set(cache):
    (found,) = Path(cache).iterdir()
    return found


@pytest.fixture
def made(tmp_path):
    """A function that opens the set, and the folder it is cached in."""

    def read(source=None, identity=("v1",)):
        return stored(source or Source(), SIZE, "own/set-train", list(identity), str(tmp_path / "cache"))

    assert_right(read())
    return read, tmp_path / "cache"


def test_every_record_is_read_once_for_all_time_and_only_when_asked(tmp_path):
    first, second = Source(), Source()
    read = stored(first, SIZE, "set", 1, str(tmp_path))
    assert first.seen == [] and not list(tmp_path.iterdir())
    assert_right(read)
    assert_right(read, [7])
    assert sorted(first.seen[1:]) == list(range(SIZE))  # the first read asks for the shape of a record
    assert_right(stored(second, SIZE, "set", 1, str(tmp_path)))
    assert second.seen == []


def test_without_a_cache_and_in_memory_records_are_the_same(tmp_path):
    assert_right(cached(Source(), SIZE, "set"))
    assert_right(stored(Source(), SIZE, "set", 1, False))


def test_what_it_is_made_from_is_its_key(made):
    read, cache = made
    source = Source()
    assert_right(read(source, identity=("v2",)))
    assert len(source.seen) > SIZE and len(list(cache.iterdir())) == 2


def test_pixels_are_mapped_and_not_read(made):
    images = made[0]()
    assert_right(images)
    whole = images(np.arange(0))[0]
    assert whole.shape == (0, 3, 2, 1)
    assert (the_set(made[1]) / "image.npy").stat().st_size > IMAGES.nbytes
    np.testing.assert_array_equal(np.load(the_set(made[1]) / "image.npy"), IMAGES)


FILES = ["image.npy", "label.npy", "depth.npy", "caption.jsonl", "caption.ends", "sha256.json"]


def flip(data):
    return data[:-3] + bytes([data[-3] ^ 4]) + data[-2:]


DAMAGES = {"flip": flip, "half": lambda b: b[: len(b) // 2], "empty": lambda b: b"", "gone": None}
QUICK = [("image.npy", "flip"), ("caption.jsonl", "flip"), ("label.npy", "gone"), ("sha256.json", "half")]


@pytest.mark.parametrize("name, damage", slow_but(itertools.product(FILES, DAMAGES), *QUICK))
def test_a_damaged_set_is_named_and_made_again(made, name, damage):
    read, cache = made
    path, damage = the_set(cache) / name, DAMAGES[damage]
    path.unlink() if damage is None else path.write_bytes(damage(path.read_bytes()))
    source = Source()
    with pytest.warns(UserWarning, match="is damaged and is made again") as told:
        assert_right(read(source))
    assert str(the_set(cache)) in str(told[0].message) and len(source.seen) > SIZE
    source = Source()
    assert_right(read(source))
    assert source.seen == []


def test_a_set_that_was_broken_off_leaves_nothing(tmp_path):
    class Stop(Exception):
        pass

    def broken(indices):
        if len(indices) and indices[-1] == SIZE - 1:
            raise Stop
        return Source()(indices)

    with pytest.raises(Stop):
        stored(broken, SIZE, "set", 1, str(tmp_path))(np.array([0]))
    assert list(tmp_path.iterdir()) == []
    assert_right(stored(Source(), SIZE, "set", 1, str(tmp_path)))


def test_one_that_is_damaged_by_another_stays_readable(made):
    """The other process finds it damaged and makes it again while we read."""
    read, cache = made
    ours = read()
    assert_right(ours)
    (the_set(cache) / "label.npy").unlink()
    with pytest.warns(UserWarning, match="damaged"):
        assert_right(read())
    assert_right(ours)


def test_one_who_comes_second_keeps_what_is_there(tmp_path):
    """While we decode, another process puts its set in place."""
    other = stored(Source(), SIZE, "set", 1, str(tmp_path))

    def slow(indices):
        assert_right(other)
        return Source()(indices)

    assert_right(stored(slow, SIZE, "set", 1, str(tmp_path)))
    assert len(list(tmp_path.iterdir())) == 1
    assert_right(stored(Source(), SIZE, "set", 1, str(tmp_path)))


def test_processes_that_make_it_at_once_are_all_right(tmp_path):
    code = (
        "import sys, time, numpy as np; from jaxdiff.data.store import stored\n"
        "def read(i): time.sleep(0.2); return np.full((len(i), 2, 2, 1), 7, np.uint8), i % 5\n"
        "x, y, _ = stored(read, 600, 'set', 1, sys.argv[1])(np.array([599, 3]))\n"
        "assert (x == 7).all() and y.tolist() == [4, 3]; print('right')"
    )
    root = Path(__file__).parents[2]
    command = [sys.executable, "-W", "error", "-c", code, str(tmp_path)]
    runs = [
        subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for run in runs:
        out, errors = run.communicate(timeout=120)
        assert out == "right\n", errors
    names = [f.name for f in the_set(tmp_path).iterdir()]
    assert sorted(names) == ["image.npy", "label.npy", "sha256.json"]


def test_where_nothing_can_be_written_it_is_kept_in_memory(tmp_path, monkeypatch):
    def full(path, *arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("jaxdiff.data.store.Writer", full)
    read = stored(Source(), SIZE, "set", 1, str(tmp_path))
    with pytest.warns(UserWarning, match="No space left on device.*another folder"):
        assert_right(read)
    assert list(tmp_path.iterdir()) == []
    assert_right(read)


def test_the_sums_are_those_of_the_files(made):
    import hashlib

    folder = the_set(made[1])
    sums = json.loads((folder / "sha256.json").read_text())
    assert set(sums) == {f.name for f in folder.iterdir()} - {"sha256.json"}
    for name, digest in sums.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest


def test_the_environment_says_where_the_cache_is(monkeypatch):
    monkeypatch.setenv("JAXDIFF_CACHE_DIR", "~/here")
    assert cache_folder() == Path.home() / "here"
    monkeypatch.delenv("JAXDIFF_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", "/there")
    assert cache_folder() == Path("/there/jaxdiff")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path(os.path.expanduser("~/.cache/jaxdiff"))


def test_a_feature_of_many_shapes_is_given_as_a_list(tmp_path):
    def read(indices):
        return IMAGES[indices], indices, {"box": np.zeros((len(indices), 1 + int(indices[-1] > 600)))}

    with pytest.raises(ValueError, match=r"differ in 'box'.*as a list"):
        stored(read, SIZE, "set", 1, str(tmp_path))(np.array([0]))
    assert list(tmp_path.iterdir()) == []


def test_what_json_has_no_word_for_is_refused(tmp_path):
    read = lambda indices: (IMAGES[indices], indices, {"x": [object()] * len(indices)})
    with pytest.raises(ValueError, match=r"feature 'x' cannot be kept on disk.*cache=False"):
        stored(read, SIZE, "set", 1, str(tmp_path))(np.array([0]))
