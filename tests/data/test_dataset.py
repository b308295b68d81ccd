"""Digits are scikit-learn's pixels; TFDS records are those of TFDS itself; errors say what to do."""

import json
import pickle
import shlex
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest

import jaxdiff.data.dataset as datasets
from jaxdiff.build import build, public_names
from jaxdiff.data.dataset import Dataset, digits, from_arrays, tfds
from jaxdiff.data.store import cached

SHAPES = {"cifar10": (32, 32, 3), "fashion_mnist": (28, 28, 1)}
TRAIN = {"cifar10": 50_000, "fashion_mnist": 60_000}


def everything(dataset):
    return dataset.fetch(np.arange(len(dataset)))


def test_digits_are_the_pixels_of_scikit_learn_in_the_order_of_its_own_split():
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    train, test, y_train, y_test = train_test_split(images, labels, test_size=360, random_state=0)
    for split, pixels, y in [("train", train, y_train), ("test", test, y_test)]:
        records = everything(digits(split))
        np.testing.assert_array_equal(records["image"].reshape(-1, 64) * 16, pixels)
        np.testing.assert_array_equal(records["label"], y)


def test_digits_splits_are_disjoint_and_complete():
    from sklearn.datasets import load_digits

    rows = [everything(digits(s))["image"].reshape(-1, 64) for s in ("train", "test")]
    assert [len(r) for r in rows] == [1437, 360]
    together = sorted(map(bytes, np.concatenate(rows)))  # distinct images: equal multisets mean a partition
    assert together == sorted(map(bytes, (load_digits().data / 16).astype(np.float32)))
    assert len(set(together)) == 1797


def test_digits_are_float32_and_use_the_whole_range():
    records = everything(digits("train"))
    assert (records["image"].min(), records["image"].max()) == (0.0, 1.0)
    assert {k: v.dtype.name for k, v in records.items()} == {
        "image": "float32",
        "label": "int32",
        "id": "int32",
    }


def test_fetch_is_one_record_at_a_time_in_any_order():
    dataset, wanted = digits("test"), np.array([7, 3, 3, 359, 0])
    batch = dataset.fetch(wanted)
    np.testing.assert_array_equal(batch["id"], wanted)
    for row, index in enumerate(wanted):
        one = dataset.fetch(np.array([index]))
        for name in batch:
            np.testing.assert_array_equal(batch[name][row], one[name][0])


@pytest.mark.parametrize("index", [-1, 360])
def test_an_index_outside_is_an_error_and_never_wraps(index):
    with pytest.raises(ValueError, match=rf"0\.\.359; got {index}"):
        digits("test").fetch(np.array([0, index]))


def test_a_config_names_a_dataset():
    built = build(datasets, {"name": "digits"}, split="test")
    np.testing.assert_array_equal(everything(built)["image"], everything(digits("test"))["image"])
    assert public_names(datasets) == ["arrays", "digits", "folder", "huggingface", "tfds"]


def test_unknown_split_of_digits_lists_the_splits():
    with pytest.raises(ValueError, match=r"'validation'; its splits: test, train"):
        digits("validation")


@pytest.mark.parametrize("name", ["cifar10", "fashion_mnist"])
def test_tfds_records_equal_those_of_tfds_itself(tfds_dir, name):
    import tensorflow_datasets

    for split, size in [("train", TRAIN[name]), ("test", 10_000)]:
        dataset = tfds(name, split, tfds_dir, cache=False)
        source = tensorflow_datasets.data_source(name, split=split, data_dir=tfds_dir, download=False)
        assert (len(dataset), dataset.image_shape, dataset.num_classes) == (size, SHAPES[name], 10)
        wanted = np.array([0, 1, 1999, 2000, 9_999, size - 1, 17])  # both sides of a border of shards
        batch = dataset.fetch(wanted)
        for row, index in enumerate(wanted):
            np.testing.assert_array_equal(np.round(batch["image"][row] * 255), source[int(index)]["image"])
            assert batch["label"][row] == source[int(index)]["label"]
        assert batch["image"].max() <= 1.0


def test_label_names_are_in_the_order_of_the_labels(tfds_dir):
    names = tfds("cifar10", "test", tfds_dir).label_names
    assert (names[0], names[6], names[9]) == ("airplane", "frog", "truck")


def test_the_cached_split_equals_the_lazy_one(tfds_dir):
    split = "test[:1300]"  # three chunks, the last one short
    lazy, memory = tfds("cifar10", split, tfds_dir, cache=False), tfds("cifar10", split, tfds_dir)
    wanted = np.random.default_rng(0).permutation(1300)
    a, b = lazy.fetch(wanted), memory.fetch(wanted)
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


def test_cached_reads_every_record_once_and_only_when_asked():
    seen, images = [], np.arange(1200 * 4, dtype=np.uint8).reshape(1200, 2, 2, 1)
    read = from_arrays(images, np.arange(1200))
    memory = cached(lambda i: seen.extend(i) or read(i), 1200, "counted")
    assert seen == []
    for wanted in (np.array([1199, 0]), np.array([500, 499])):
        np.testing.assert_array_equal(memory(wanted)[0], images[wanted])
        np.testing.assert_array_equal(memory(wanted)[1], wanted)
    assert sorted(seen[1:]) == list(range(1200))  # the first read asks for the shape of a record


def test_the_environment_says_where_the_data_is(tfds_dir, monkeypatch, tmp_path):
    monkeypatch.setenv("TFDS_DATA_DIR", tfds_dir)
    assert len(tfds("cifar10", "test")) == 10_000
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        tfds("cifar10", "test")


def test_unknown_split_of_tfds_lists_the_splits(tfds_dir):
    with pytest.raises(ValueError, match=r"cifar10 has no split 'validation'; its splits: test, train"):
        tfds("cifar10", "validation", tfds_dir)


def command_in(message):
    """The code of the `python -c` command in a message, as a shell would pass it on."""
    words = shlex.split(message[message.index("python -c") :])
    return words[2]


def test_a_missing_set_says_what_is_there_and_how_to_get_it(tfds_dir):
    with pytest.raises(FileNotFoundError) as error:
        tfds("cifar100", "train", tfds_dir)
    message = str(error.value)
    assert "'cifar100'" in message and "did you mean 'cifar10'" in message
    assert "cifar10:3.0.2" in message and "fashion_mnist:3.0.1" in message
    code = command_in(message)
    compile(code, "command", "exec")
    assert f"tfds.builder('cifar100', data_dir={tfds_dir!r}, file_format='array_record')" in code


@pytest.mark.parametrize(
    "there, state", [(True, "holds no prepared data set"), (False, "is not a directory")]
)
def test_an_empty_or_absent_data_dir_is_named(tmp_path, there, state):
    data_dir = str(tmp_path if there else tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=state) as error:
        tfds("mnist", "train", data_dir)
    assert data_dir in command_in(str(error.value))


@pytest.fixture
def edited(tfds_dir, tmp_path):
    """A function that copies the metadata of CIFAR-10 and edits one of its files."""

    def edit(file, change):
        target = tmp_path / "cifar10" / "3.0.2"
        ignore = shutil.ignore_patterns("*.array_record-*")
        shutil.copytree(Path(tfds_dir) / "cifar10" / "3.0.2", target, ignore=ignore)
        path = target / file
        path.chmod(path.stat().st_mode | stat.S_IWUSR)
        text = path.read_text()
        path.write_text(change(text))
        assert path.read_text() != text
        return str(tmp_path)

    return edit


def test_a_set_in_another_format_says_how_to_convert_it(edited):
    data_dir = edited("dataset_info.json", lambda s: s.replace('"array_record"', '"tfrecord"'))
    with pytest.raises(FileNotFoundError, match="as tfrecord") as error:
        tfds("cifar10", "train", data_dir)
    message = str(error.value)
    convert = (
        f"tfds convert_format --dataset_version_dir='{data_dir}/cifar10/3.0.2' --out_file_format=array_record"
    )
    assert convert in message
    assert "file_format='array_record'" in command_in(message)


def test_images_of_no_fixed_size_are_refused(edited):
    def free_height(text):
        features = json.loads(text)
        features["featuresDict"]["features"]["image"]["image"]["shape"]["dimensions"][0] = "-1"
        return json.dumps(features)

    with pytest.raises(ValueError, match=r"\(None, 32, 3\).*imagenet_resized"):
        tfds("cifar10", "train", edited("features.json", free_height))


def test_a_set_without_labels_is_refused(edited):
    def drop_label(text):
        features = json.loads(text)
        del features["featuresDict"]["features"]["label"]
        return json.dumps(features)

    with pytest.raises(ValueError, match="does not have one image and one class label"):
        tfds("cifar10", "train", edited("features.json", drop_label))


def test_the_white_of_a_dataset_is_one():
    images = np.full((1, 2, 2, 1), 4, np.uint8)
    grey = Dataset("grey", "all", (2, 2, 1), ("a",), 1, from_arrays(images, np.zeros(1, int)), white=4)
    assert (grey.fetch(np.array([0]))["image"] == 1.0).all()


def test_no_records_give_none_and_one_gives_one():
    for wanted in (np.arange(0), [], range(0)):
        batch = digits("test").fetch(wanted)
        assert {k: v.shape for k, v in batch.items()} == {"image": (0, 8, 8, 1), "label": (0,), "id": (0,)}
    assert digits("test").fetch([359])["id"].tolist() == [359]


def test_a_set_in_memory_can_be_pickled():
    again = pickle.loads(pickle.dumps(digits("test")))
    np.testing.assert_array_equal(everything(again)["image"], everything(digits("test"))["image"])


def test_other_features_of_tfds_ride_along():
    """Texts as str, numbers of one shape as an array, what has no fixed shape as it is."""
    from tensorflow_datasets.core import features

    from jaxdiff.data.prepared import _reader

    kinds = {
        "caption": features.Text(),
        "point": features.Tensor(shape=(2,), dtype=np.float32),
        "boxes": features.Sequence(features.Tensor(shape=(4,), dtype=np.float32)),
    }
    records = [
        {
            "x": np.full((2, 2, 1), i),
            "y": i,
            "caption": f"número {i}".encode(),
            "point": np.float32([i, 0]),
            "boxes": np.ones((i, 4), np.float32),
        }
        for i in range(4)
    ]

    class Source:
        def __getitems__(self, indices):
            return [records[i] for i in indices]

    read = _reader(Source(), "x", "y", (2, 2, 1), kinds, "damaged")
    batch = Dataset("set", "all", (2, 2, 1), tuple("abcd"), 4, read).fetch([3, 0, 1])
    assert batch["label"].tolist() == [3, 0, 1]
    assert batch["caption"].tolist() == ["número 3", "número 0", "número 1"]
    np.testing.assert_array_equal(batch["point"], np.float32([[3, 0], [0, 0], [1, 0]]))
    assert [b.shape for b in batch["boxes"]] == [(3, 4), (0, 4), (1, 4)]


def test_an_unknown_feature_of_tfds_is_refused(tfds_dir):
    with pytest.raises(ValueError, match="cifar10: unknown feature 'caption'"):
        tfds("cifar10", "test", tfds_dir, features=("caption",))


def test_a_split_of_tfds_is_decoded_once_for_all_processes(tfds_dir, tmp_path, monkeypatch):
    first = tfds("cifar10", "test[:700]", tfds_dir, cache=str(tmp_path)).fetch([699])
    monkeypatch.setattr("jaxdiff.data.store._made", lambda *a: pytest.fail("decoded again"))
    again = tfds("cifar10", "test[:700]", tfds_dir, cache=str(tmp_path)).fetch([699])
    np.testing.assert_array_equal(first["image"], again["image"])
