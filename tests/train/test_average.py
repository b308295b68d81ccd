"""Averages of the parameters against their closed forms, from the first step on, and the warning of a short run."""

import itertools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from rows import slow_but

from jaxdiff.train.average import warn_if_short
from jaxdiff.train.state import init_state
from jaxdiff.train.step import make_step

WARMUPS = ("corrected", "ramp", "constant")
START, VELOCITY = np.array([3.0, 4.0]), 0.1 * np.array([1.0, -2.0])


def linear(params, model_state, batch, key):
    """Its gradient is (1, -2) everywhere: SGD moves on a straight line."""
    return jnp.vdot(params, jnp.array([1.0, -2.0], params.dtype)), ({}, model_state)


def averaged(steps, warmup, decay, key, start=None):
    tx = optax.sgd(0.1)
    step = jax.jit(make_step(linear, tx, (decay,), ema_warmup=warmup))
    state = init_state(jnp.array(START), tx, (decay,))
    if start is not None:
        state = state._replace(ema={str(decay): jnp.full(2, start)})
    for _ in range(steps):
        state, _ = step(state, {}, key)
    return state


def weights(warmup, d, n):
    """The weights of p_0 .. p_n, written out."""
    if warmup == "ramp":
        rates = [min(d, (1 + i) / (10 + i)) for i in range(1, n + 1)]
        return [np.prod(rates)] + [(1 - rates[i]) * np.prod(rates[i + 1 :]) for i in range(n)]
    plain = [(1 - d) * d ** (n - i) for i in range(1, n + 1)]
    if warmup == "constant":
        return [d**n, *plain]
    return [0.0, *(w / (1 - d**n) for w in plain)]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("warmup", "decay"),
    slow_but(
        itertools.product(WARMUPS, (0.0, 0.5, 0.9, 0.9999)),
        ("corrected", 0.0),
        *itertools.product(WARMUPS, (0.9, 0.9999)),
    ),
)
def test_an_average_is_the_weighted_sum_of_all_parameters(key, warmup, decay):
    for n in (1, 2, 7, 40):
        state = averaged(n, warmup, decay, key)
        line = [START - i * VELOCITY for i in range(n + 1)]
        weight = weights(warmup, decay, n)
        assert abs(sum(weight) - 1) < 1e-12
        expected = sum(w * p for w, p in zip(weight, line, strict=True))
        np.testing.assert_allclose(state.ema[str(decay)], expected, rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_what_stood_in_the_average_at_first_leaves_no_trace(key):
    one, other = (averaged(6, "corrected", 0.9, key, start).ema["0.9"] for start in (0.0, 1e3))
    np.testing.assert_allclose(one, other, rtol=1e-11)


def test_the_correction_is_exact_for_a_long_average_in_float32(key):
    """1 - d^n from d^n in float32 would be wrong in the third digit."""
    for n in (1, 3, 30):
        ema = averaged(n, "corrected", 0.99999, key).ema["0.99999"]
        expected = sum(w * (START - i * VELOCITY) for i, w in enumerate(weights("corrected", 0.99999, n)))
        np.testing.assert_allclose(ema, expected, rtol=2e-6)


def test_an_average_of_bfloat16_params_moves(key):
    tx, n = optax.sgd(0.0), 100_000
    state = init_state(jnp.zeros(2, jnp.bfloat16), tx, (0.9999,))
    state = state._replace(params=jnp.ones(2, jnp.bfloat16), step=jnp.array(n - 1, jnp.int32))
    state, _ = make_step(linear, tx, (0.9999,))(state, {}, key)
    np.testing.assert_allclose(state.ema["0.9999"], 1e-4 / (1 - 0.9999**n), rtol=1e-5)


def test_a_run_shorter_than_the_horizon_is_told():
    with pytest.warns(UserWarning, match=r"0\.9999 looks back over 10000 steps, and the run has 300"):
        warn_if_short({"0.9999": None, "0.9": None}, 300)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_if_short({"0.9": None, "0.0": None}, 10)
        warn_if_short({}, 1)
    with pytest.warns(UserWarning, match=r"0\.9 looks back over 10 steps, and the run has 9"):
        warn_if_short({"0.9": None}, 9)
