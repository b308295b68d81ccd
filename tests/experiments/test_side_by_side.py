"""Two stages at the same time: both results, and the error that was the cause."""

import time

import jax
import pytest
import training


@pytest.fixture(autouse=True)
def two_cores(monkeypatch):
    monkeypatch.setattr(jax, "devices", lambda: [0, 1])


def fail(error):
    raise error


def until_stopped():
    for step in range(1000):
        training._stop_if_asked(step, None, {})
        time.sleep(0.01)


def test_both_results_at_the_same_time():
    seen = []
    slow = lambda name: (seen.append(name), time.sleep(0.2), seen.append(name), name)[-1]
    assert training.side_by_side(lambda: slow("a"), lambda: slow("b")) == ("a", "b")
    assert set(seen[:2]) == {"a", "b"}


@pytest.mark.parametrize("error", [ValueError("cause"), KeyboardInterrupt()])
def test_an_error_of_either_stops_the_other_and_is_the_one_raised(error):
    for stages in ((lambda: fail(error), until_stopped), (until_stopped, lambda: fail(error))):
        with pytest.raises(type(error)):
            training.side_by_side(*stages)
    assert training.side_by_side(lambda: 1, lambda: 2) == (1, 2)  # and the next pair runs
