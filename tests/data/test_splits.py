"""Train, validation and test of every source are a partition, by a rule that a seed decides."""

import sys
from pathlib import Path

import numpy as np
import pytest

from jaxdiff.data.splits import parts
from jaxdiff.data.stream import epoch, stream

sys.path.insert(0, str(Path(__file__).parent))
import own_data


@pytest.fixture(params=own_data.KINDS)
def source(request, tmp_path, monkeypatch):
    return own_data.opened(request.param, tmp_path, monkeypatch)


def rows(dataset):
    """What tells each record from all others, in order."""
    records = dataset.fetch(np.arange(len(dataset)))
    return [(y, x.tobytes()) for y, x in zip(records["label"], records["image"], strict=True)]


@pytest.mark.parametrize("validation", [1, 7, 0.3])
def test_train_and_validation_are_a_partition_of_train_in_its_order(source, validation):
    whole = rows(source("train"))
    train, held_out = (rows(source(s, validation=validation)) for s in ("train", "validation"))
    assert len(set(whole)) == len(whole)
    assert len(held_out) == (validation if isinstance(validation, int) else round(0.3 * len(whole)))
    assert not set(train) & set(held_out)
    assert sorted(train + held_out, key=whole.index) == whole
    for part in (train, held_out):
        assert part == sorted(part, key=whole.index)


def test_the_rule_says_which_records_of_train_they_are(source):
    whole = rows(source("train"))
    for split, ids in zip(("train", "validation"), parts(len(whole), 0.2, 5), strict=True):
        assert rows(source(split, validation=0.2, validation_seed=5)) == [whole[i] for i in ids]


def test_test_is_apart_and_no_validation_part_touches_it(source):
    test = rows(source("test"))
    assert not set(test) & set(rows(source("train")))
    assert rows(source("test", validation=0.4, validation_seed=3)) == test


def test_a_part_has_ids_of_its_own_and_is_streamed_like_any_split(source):
    part = source("validation", validation=6)
    assert part.split == "validation" and len(part) == 6
    assert part.fetch([5, 0])["id"].tolist() == [5, 0]
    assert sorted(next(stream(part, 6, 0))["id"]) == list(range(6))
    assert [b["id"].tolist() for b in epoch(part, 4)] == [[0, 1, 2, 3], [4, 5, 5, 5]]
    with pytest.raises(ValueError, match=r"0\.\.5; got 6"):
        part.fetch([6])


def test_there_is_no_validation_unless_it_is_asked_for(source):
    with pytest.raises(ValueError, match=r"split 'validation'"):
        source("validation")


def test_seeds_differ_and_the_larger_part_holds_the_smaller():
    small, large = parts(100, 10)[1], parts(100, 0.3)[1]
    assert set(small) < set(large)
    assert (parts(100, 10, 1)[1] != small).any()
    np.testing.assert_array_equal(parts(100, 10)[1], small)


def test_every_record_is_as_likely_to_be_held_out():
    held_out = np.concatenate([parts(20, 5, seed)[1] for seed in range(400)])
    assert abs(np.bincount(held_out, minlength=20) - 100).max() < 5.5 * np.sqrt(400 * 0.25 * 0.75)


@pytest.mark.parametrize("validation", [0.01, 0.99, 40, 41])
def test_a_part_that_is_nothing_or_all_is_refused(validation):
    with pytest.raises(ValueError, match="must take at least one and leave at least one"):
        parts(40, validation)


def test_a_share_of_tfds_is_of_its_train(tfds_dir):
    from jaxdiff.data.dataset import tfds

    whole = tfds("cifar10", "train", tfds_dir, cache=False)
    left, held_out = parts(50_000, 5_000, 2)
    for split, ids in (("train", left), ("validation", held_out)):
        part = tfds("cifar10", split, tfds_dir, cache=False, validation=5_000, validation_seed=2)
        assert len(part) == len(ids)
        np.testing.assert_array_equal(part.fetch([0, 999])["image"], whole.fetch(ids[[0, 999]])["image"])
    with pytest.raises(ValueError, match="taken from the whole train"):
        tfds("cifar10", "train[:80%]", tfds_dir, validation=0.1)
    assert len(tfds("cifar10", "test[:100]", tfds_dir, validation=0.1)) == 100
