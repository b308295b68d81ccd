"""Batches from a data set: an endless shuffled stream for training, and one ordered pass for evaluation.

The batch of a step is a pure function of (seed, step), so the position of a stream is one number.
"""

import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from jaxdiff import checks
from jaxdiff.data.dataset import Dataset

Batch = dict[str, np.ndarray]
Ids = Sequence[int] | np.ndarray


@runtime_checkable
class Stream(Protocol):
    """An iterator over batches whose position can be stored as plain data and restored."""

    def __iter__(self) -> "Stream": ...

    def __next__(self) -> Batch: ...

    def get_state(self) -> dict[str, Any]:
        """The position, as data that JSON can hold."""

    def set_state(self, state: dict[str, Any]) -> None:
        """Continues from `state`."""


def stream(
    dataset: Dataset,
    batch_size: int,
    seed: int,
    *,
    start: int = 0,
    shard: tuple[int, int] = (0, 1),
    threads: int = 1,
    prefetch: int = 4,
) -> Stream:
    """Endless batches of `dataset`, from step `start`: every epoch is a new permutation of all records.

    `batch_size` counts all hosts; host `shard = (index, count)` gets the index-th of `count` equal parts of
    each batch, so the parts in the order of the hosts are the batch of one host. Batches run across the
    borders of epochs. `prefetch` batches are made ahead in `threads` threads (0 for neither). Raises
    ValueError for an empty data set, a batch size that is not positive or not divisible by the number of
    hosts, or a shard, seed or start out of range.
    """
    import grain

    checks.instance("stream", Dataset, "digits('train')", dataset=dataset)
    indices = order(len(dataset), batch_size, seed, shard)
    endless = sys.maxsize // int(batch_size)  # steps whose positions still fit in 64 bits
    checks.count("stream", 0, endless - 1, start=start)
    checks.count("stream", 0, threads=threads, prefetch=prefetch)
    steps = grain.MapDataset.range(endless)
    batches = steps.map(lambda step: dataset.fetch(indices(int(step))))
    iterator = iter(batches.to_iter_dataset(grain.ReadOptions(threads, prefetch)))
    iterator.set_state({"next_index": int(start)})  # so that steps count from 0 whatever `start` is
    return iterator


def order(size: int, batch_size: int, seed: int, shard: tuple[int, int]) -> Callable[[int], np.ndarray]:
    """step -> record indices [batch_size / count] of this host's part of the batch; errors as in `stream`."""
    _check_sizes(size, batch_size)
    checks.count("stream", 0, seed=seed)
    if not isinstance(shard, tuple | list) or len(shard) != 2:
        raise ValueError(f"shard is (index, count) with 0 <= index < count; got {shard!r}.")
    host, hosts = shard
    checks.count("stream", 0, **{"the index of shard": host, "the count of shard": hosts})
    if not 0 <= host < hosts:
        raise ValueError(f"shard is (index, count) with 0 <= index < count; got {shard}.")
    if batch_size % hosts:
        raise ValueError(f"batch_size {batch_size} is not divisible by {hosts} hosts.")
    part = batch_size // hosts
    permutation = functools.lru_cache(maxsize=2)(functools.partial(_permutation, size, seed))

    def indices(step: int) -> np.ndarray:
        epochs, places = np.divmod(step * batch_size + host * part + np.arange(part), size)
        touched = range(epochs[0], epochs[-1] + 1)
        return np.concatenate([permutation(e)[places[epochs == e]] for e in touched])

    return indices


def _permutation(size: int, seed: int, epoch: int) -> np.ndarray:
    # Not grain's shuffle: it costs 22 us a record, and on small sets it is measurably not uniform.
    # RandomState and not Generator: its streams are frozen, so a run resumes alike under another numpy.
    bits = np.random.MT19937(np.random.SeedSequence((seed, epoch)))
    return np.random.RandomState(bits).permutation(size)


def epoch(dataset: Dataset, batch_size: int, ids: Ids | None = None) -> Iterator[Batch]:
    """Batches of records `ids` (default: all) once and in order, all of `batch_size`, with `valid: bool [B]`.

    The last batch is filled up with its last record, where `valid` is False; no ids give no batches. Raises ValueError for an
    empty data set, a batch size that is not positive, or ids that are no records of it.
    """
    checks.instance("epoch", Dataset, "digits('test')", dataset=dataset)
    _check_sizes(len(dataset), batch_size)
    ids = dataset.indices(range(len(dataset)) if ids is None else ids)
    return (_padded(dataset, ids[i : i + batch_size], batch_size) for i in range(0, len(ids), batch_size))


def _padded(dataset: Dataset, ids: np.ndarray, batch_size: int) -> Batch:
    filled = np.pad(ids, (0, batch_size - len(ids)), mode="edge")
    return dataset.fetch(filled) | {"valid": np.arange(batch_size) < len(ids)}


def _check_sizes(size: int, batch_size: int) -> None:
    checks.count("A batch", 1, 2**31 - 1, batch_size=batch_size)
    if size < 1:
        raise ValueError("The data set is empty; there is no batch to make of it.")
