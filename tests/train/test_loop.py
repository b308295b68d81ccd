"""The loop: where it starts and ends, what hooks see, and the stop at the first step that is not finite."""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from rows import slow_but

from jaxdiff.train.checkpoint import Checkpoints
from jaxdiff.train.hooks import checkpointing, every
from jaxdiff.train.loop import fit
from jaxdiff.train.state import init_state
from jaxdiff.train.step import make_step

TX = optax.sgd(0.1)


class Stream:
    """Batches numbered from 1; a position that JSON can hold."""

    def __init__(self):
        self.position = 0

    def __iter__(self):
        return self

    def __next__(self):
        self.position += 1
        return {"n": jnp.array(float(self.position))}

    def get_state(self):
        return {"position": self.position}


def fails_at(step, where="loss"):
    """A loss that is not finite at one step: itself, or only its gradient (a square root at 0)."""

    def loss(params, model_state, batch, key):
        bad = batch["n"] == step
        value = params.sum() * (jnp.where(bad, jnp.nan, 1.0) if where == "loss" else 1.0)
        root = jnp.sqrt(jnp.where(bad, 0.0 * params.sum(), 1.0 + params.sum() ** 2))
        return value + (root if where == "gradient" else 0.0), ({}, model_state)

    return jax.jit(make_step(loss, TX), donate_argnums=0)


def fresh(step=0):
    return init_state(jnp.ones(2), TX)._replace(step=jnp.array(step, jnp.int32))


@pytest.mark.parametrize("start", [0, 3])
def test_the_loop_runs_from_the_step_of_the_state_to_the_last(key, start):
    seen = []
    state = fit(fails_at(-1), fresh(start), Stream(), 7, [lambda n, s, m: seen.append((n, int(s.step)))], key)
    assert seen == [(n, n) for n in range(start + 1, 8)]
    assert state.step == 7
    np.testing.assert_allclose(state.params, 1 - 0.1 * (7 - start), rtol=1e-5)


def test_a_finished_run_does_nothing(key):
    state = fresh(7)
    assert fit(fails_at(-1), state, iter([]), 7, [], key) is state


def test_every_runs_at_multiples_and_at_the_end(key):
    seen = []
    fit(fails_at(-1), fresh(), Stream(), 8, [every(3, lambda n, s, m: seen.append(n), last=8)], key)
    assert seen == [3, 6, 8]
    with pytest.raises(ValueError, match="got 0"):
        every(0, print)


@pytest.mark.parametrize("where", ["loss", "gradient"])
@pytest.mark.parametrize("lag", slow_but([0, 4, 100], 0, 100))
def test_the_first_bad_step_and_the_last_good_checkpoint_are_named(key, tmp_path, where, lag):
    with Checkpoints(tmp_path, keep=9) as checkpoints:
        hooks = [checkpointing(checkpoints, stream := Stream(), 3, 20)]
        with pytest.raises(FloatingPointError, match=r"step 7: .*good checkpoint: step 6") as error:
            fit(fails_at(7, where), fresh(), stream, 20, hooks, key, lag)
        text = str(error.value)
        assert str(tmp_path) in text and "grad_norm is nan" in text
        assert ("loss is nan" in text) == (where == "loss")
        state, data = checkpoints.restore(fresh())
    assert sorted(int(p.name) for p in tmp_path.iterdir()) == [3, 6]
    assert np.isfinite(state.params).all() and state.step == 6 and data == {"position": 6}


def test_checkpoints_are_saved_every_n_steps_and_at_the_end(key, tmp_path):
    with Checkpoints(tmp_path, keep=9) as checkpoints:
        hooks = [checkpointing(checkpoints, stream := Stream(), 3, 7)]
        fit(fails_at(-1), fresh(), stream, 7, hooks, key)
        assert checkpoints.restore(fresh())[1] == {"position": 7}
    assert sorted(int(p.name) for p in tmp_path.iterdir()) == [3, 6, 7]


@pytest.mark.parametrize("bad", [6, 5])
def test_a_bad_state_is_never_saved(key, tmp_path, bad):
    with Checkpoints(tmp_path) as checkpoints:
        hooks = [checkpointing(checkpoints, stream := Stream(), 6, 6)]
        with pytest.raises(FloatingPointError, match=rf"step {bad}: .*none yet"):
            fit(fails_at(bad, "gradient"), fresh(), stream, 6, hooks, key, lag=50)
    assert not list(tmp_path.iterdir())


def test_a_bad_last_step_is_noticed_without_hooks(key):
    with pytest.raises(FloatingPointError, match=r"step 5: .*no checkpoint was written"):
        fit(fails_at(5), fresh(), Stream(), 5, [], key, lag=50)


def test_the_loop_stops_within_the_lag(key):
    stream = Stream()
    with pytest.raises(FloatingPointError):
        fit(fails_at(5), fresh(), stream, 1000, [], key, lag=3)
    assert stream.position == 8


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_run_waits_for_its_checkpoint_and_closes_its_hooks(key, tmp_path, error):
    closed = []

    class Interrupt:
        def __call__(self, n, state, metrics):
            if n == 4:
                raise error("stop")

        def close(self):
            closed.append(True)

    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(error):
        fit(fails_at(-1), fresh(), s := Stream(), 9, [checkpointing(checkpoints, s, 4, 9), Interrupt()], key)
    assert [p.name for p in tmp_path.iterdir()] == ["4"] and closed == [
        True
    ]  # complete before any other call
    checkpoints.close()


def test_batches_that_end_early_are_an_error(key):
    batches = itertools.islice(Stream(), 3)
    with pytest.raises(ValueError, match=re.escape("ended before step 4 of 9")):
        fit(fails_at(-1), fresh(), batches, 9, [], key)
