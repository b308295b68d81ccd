"""Work side by side: each after what it needs, no more at a time than said; the first error stops the rest and is raised."""

import importlib
import threading
import time

import pytest
from study.trained import classifier, config, score

from jaxdiff.study import run
from jaxdiff.study.side_by_side import Stopped, side_by_side

NEEDS = {"a": (), "b": ("a",), "c": (), "d": ("b", "c"), "e": ()}


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_each_runs_once_after_what_it_needs(workers):
    done, busy, most, lock = [], [], [], threading.Lock()

    def work(name, place, stop_if_asked):
        with lock:
            assert set(NEEDS[name]) <= set(done)
            busy.append(place)
            assert len(set(busy)) == len(busy) and place < workers
            most.append(len(busy))
        time.sleep(0.02)
        with lock:
            busy.remove(place)
            done.append(name)

    side_by_side(NEEDS, work, workers)
    assert sorted(done) == sorted(NEEDS) and (workers > 1 or done == list(NEEDS))
    assert max(most) == min(workers, 3)


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_stops_the_rest_and_nothing_is_left_over(workers):
    stopped, begun = [], []

    def work(name, place, stop_if_asked):
        begun.append(name)
        if name == "c":
            raise RuntimeError("of c")
        for _ in range(100 if workers > 1 else 1):
            try:
                stop_if_asked()
            except Stopped:
                stopped.append(name)
                raise
            time.sleep(0.01)

    with pytest.raises(RuntimeError, match="of c"):
        side_by_side({"a": (), "c": (), "d": ("a",)}, work, workers)
    assert "d" not in begun and stopped == (["a"] if workers > 1 else [])
    begun.clear()
    side_by_side(
        {"x": ()}, lambda name, place, stop: stop() or begun.append(name), workers
    )  # a failure of before
    assert begun == ["x"]


@pytest.mark.slow
def test_stages_beside_each_other_are_what_they_are_alone(tmp_path, monkeypatch):
    import jax
    import numpy as np

    study_config = config(a=classifier(), score=score(), validation=0)
    alone = run(study_config, tmp_path / "alone")
    module = importlib.import_module("jaxdiff.study.study")  # the package has a function of that name
    monkeypatch.setattr(module, "side_by_side", lambda needs, work, workers: side_by_side(needs, work, 2))
    beside = run(study_config, tmp_path / "beside")
    for name, product in alone.items():
        for x, y in zip(jax.tree.leaves(product.arrays), jax.tree.leaves(beside[name].arrays), strict=True):
            np.testing.assert_array_equal(x, y)
