"""The stream is a function of (seed, step); permutations, shards and restarts follow from that."""

import itertools
import json

import numpy as np
import pytest
from scipy import stats

from jaxdiff.data.dataset import Dataset, digits, from_arrays
from jaxdiff.data.stream import epoch, order, stream


def counted(size):
    """A data set whose pixel and label say which record it is."""
    images = (np.arange(size) % 251).astype(np.uint8).reshape(size, 1, 1, 1)
    names = tuple(map(str, range(max(size, 1))))
    return Dataset("counted", "all", (1, 1, 1), names, size, from_arrays(images, np.arange(size)))


def take(iterator, n):
    return list(itertools.islice(iterator, n))


def ids(batches):
    return np.concatenate([b["id"] for b in batches])


def assert_same(some, others):
    assert len(some) == len(others)
    for a, b in zip(some, others, strict=True):
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])


@pytest.mark.parametrize("size, batch_size", [(10, 5), (10, 4), (7, 20), (1, 3), (97, 1)])
def test_every_epoch_is_a_permutation_across_batch_borders(size, batch_size):
    seen = ids(take(stream(counted(size), batch_size, 0), -(-4 * size // batch_size)))
    for e in range(4):
        np.testing.assert_array_equal(np.sort(seen[e * size : (e + 1) * size]), np.arange(size))


def test_records_come_whole():
    batch = next(stream(counted(50), 20, 0))
    np.testing.assert_array_equal(batch["label"], batch["id"])
    np.testing.assert_allclose(batch["image"].ravel() * 255, batch["id"], rtol=1e-6)


def test_epochs_and_seeds_differ_and_the_same_seed_does_not():
    def seen(seed):
        return ids(take(stream(counted(100), 50, seed), 4))

    first = seen(0)
    assert (first[:100] != first[100:]).any()
    assert (first != seen(1)).any()
    assert (seen(0)[100:] != seen(1)[:100]).any()  # seed + 1 is not the next epoch
    np.testing.assert_array_equal(first, seen(0))


def test_all_permutations_are_equally_likely():
    """Chi-square over the 24 permutations of four records; p < 1e-6 would be no accident."""
    indices = order(4, 4, 0, (0, 1))
    found = [tuple(indices(step)) for step in range(4800)]
    counts = [found.count(p) for p in itertools.permutations(range(4))]
    assert sum(counts) == 4800
    assert stats.chisquare(counts).pvalue > 1e-6


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_batch_size_does_not_change_the_order(batch_size):
    longest = ids(take(stream(counted(33), 100, 3), 1))
    some = ids(take(stream(counted(33), batch_size, 3), -(-100 // batch_size)))[:100]
    np.testing.assert_array_equal(some, longest)


@pytest.mark.parametrize("options", [{"threads": 0}, {"threads": 3, "prefetch": 5}, {"prefetch": 0}])
def test_threads_change_nothing(options):
    assert_same(take(stream(counted(33), 8, 0), 20), take(stream(counted(33), 8, 0, **options), 20))


@pytest.mark.parametrize("stop", [0, 1, 5, 13])
def test_a_killed_stream_continues_exactly(stop):
    whole = take(stream(digits("test"), 50, 0), 20)
    killed = stream(digits("test"), 50, 0)
    take(killed, stop)
    state = json.loads(json.dumps(killed.get_state()))
    killed.close()
    resumed = stream(digits("test"), 50, 0)
    take(resumed, 3)  # a position it has to give up
    resumed.set_state(state)
    assert_same(take(resumed, 20 - stop), whole[stop:])


def test_start_is_a_step_and_states_count_from_zero():
    whole = take(stream(counted(33), 8, 0), 12)
    late = stream(counted(33), 8, 0, start=5)
    assert_same(take(late, 2), whole[5:7])
    again = stream(counted(33), 8, 0, start=1)
    again.set_state(late.get_state())
    assert_same(take(again, 5), whole[7:])


@pytest.mark.parametrize("hosts", [2, 3, 6])
def test_the_parts_of_the_hosts_are_the_batch_of_one_host(hosts):
    whole = take(stream(counted(33), 12, 0), 9)
    parts = [take(stream(counted(33), 12, 0, shard=(i, hosts)), 9) for i in range(hosts)]
    for step, batch in enumerate(whole):
        assert all(len(p[step]["id"]) == 12 // hosts for p in parts)
        assert_same([{k: np.concatenate([p[step][k] for p in parts]) for k in batch}], [batch])


@pytest.mark.parametrize(
    "size, batch_size, options, message",
    [
        (0, 4, {}, "empty"),
        (9, 0, {}, "batch_size as a whole number between 1 and .*; got 0"),
        (9, 8, {"shard": (0, 3)}, "8 is not divisible by 3 hosts"),
        (9, 8, {"shard": (2, 2)}, r"0 <= index < count; got \(2, 2\)"),
        (9, 8, {"start": -1}, "start as a whole number between 0 and .*; got -1"),
        (9, 8, {"seed": -1}, "seed as a whole number >= 0; got -1"),
    ],
)
def test_bad_arguments_are_refused_at_once(size, batch_size, options, message):
    with pytest.raises(ValueError, match=message):
        stream(counted(size), batch_size, **({"seed": 0} | options))


def test_an_error_in_the_data_reaches_the_reader():
    def broken(indices):
        raise OSError("disk gone")

    dataset = Dataset("broken", "all", (1, 1, 1), ("a",), 9, broken)
    with pytest.raises(OSError, match="disk gone"):
        next(stream(dataset, 4, 0))


@pytest.mark.parametrize("size, batch_size", [(10, 5), (10, 4), (3, 8), (1, 1)])
def test_an_evaluation_covers_each_record_once_in_order(size, batch_size):
    batches = list(epoch(counted(size), batch_size))
    assert {len(b["id"]) for b in batches} == {batch_size}
    valid = np.concatenate([b["valid"] for b in batches])
    np.testing.assert_array_equal(ids(batches)[valid], np.arange(size))
    assert valid.dtype == bool and valid[:size].all() and not valid[size:].any()
    assert (ids(batches)[size:] == size - 1).all()  # what fills up is a real record


def test_an_evaluation_of_some_records_keeps_their_order():
    wanted = [8, 2, 5, 31, 0]
    batches = list(epoch(counted(33), 2, ids=wanted))
    valid = np.concatenate([b["valid"] for b in batches])
    assert ids(batches)[valid].tolist() == wanted
    assert list(epoch(counted(33), 2, ids=[])) == []  # a resumed evaluation with nothing left


@pytest.mark.parametrize(
    "size, batch_size, message", [(0, 4, "empty"), (9, 0, "batch_size as a whole number")]
)
def test_a_bad_evaluation_is_refused_before_its_first_batch(size, batch_size, message):
    with pytest.raises(ValueError, match=message):
        epoch(counted(size), batch_size)
