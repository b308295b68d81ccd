"""Laws of one step: accumulation, keys folded from the step, one trace."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from rows import slow_but

from jaxdiff.train.optimizer import adam, sgd
from jaxdiff.train.state import init_state
from jaxdiff.train.step import make_step


def noise(key, ids):
    return jax.vmap(lambda i: jax.random.normal(jax.random.fold_in(key, i), (3,)))(ids)


def regression(params, model_state, batch, key):
    """A nonlinear regression with noise on the inputs, one draw per example id."""
    x = batch["x"] + noise(key, batch["id"])
    error = jnp.tanh(x @ params["w"]) + params["b"][None] - batch["y"][:, None]
    return (error**2).mean(), ({"error": error.mean()}, {"seen": model_state["seen"] + x.shape[0]})


def batch_of(n, start=0):
    rng = np.random.default_rng(start)
    return {
        "x": jnp.array(rng.normal(size=(n, 3))),
        "y": jnp.array(rng.normal(size=n)),
        "id": start + jnp.arange(n),
    }


def fresh(tx, decays=()):
    params = {"w": jnp.linspace(-1.0, 1.0, 6).reshape(3, 2), "b": jnp.zeros(2)}
    return init_state(params, tx, decays, {"seen": jnp.zeros((), jnp.int32)})


def linear(params, model_state, batch, key):
    """Its gradient is (1, -2) everywhere: SGD moves on a straight line."""
    return jnp.vdot(params, jnp.array([1.0, -2.0])), ({}, model_state)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("parts", slow_but([2, 3, 6], 3))
def test_accumulation_is_the_gradient_of_the_whole_batch(key, parts):
    tx = optax.sgd(1.0)
    whole, whole_metrics = make_step(regression, tx)(fresh(tx), batch_of(12), key)
    state, metrics = jax.jit(make_step(regression, tx, accumulate=parts))(fresh(tx), batch_of(12), key)
    chex.assert_trees_all_close(state, whole, rtol=1e-12)
    chex.assert_trees_all_close(metrics, whole_metrics, rtol=1e-12)
    assert state.model_state["seen"] == 12


def test_accumulation_has_no_loop_on_cpu_and_one_elsewhere(key, monkeypatch):
    def quiet(params, model_state, batch, key):
        return jnp.tanh(batch["x"] @ params["w"]).mean(), ({}, model_state)

    def program(backend):
        monkeypatch.setattr(jax, "default_backend", lambda: backend)
        tx = optax.sgd(1.0)
        return jax.jit(make_step(quiet, tx, accumulate=3)).lower(fresh(tx), batch_of(12), key).as_text()

    assert "while" not in program("cpu")
    assert "while" in program("gpu")


def test_a_batch_that_does_not_split_is_an_error(key):
    tx = optax.sgd(1.0)
    with pytest.raises(ValueError, match="10 examples does not split into 4"):
        make_step(regression, tx, accumulate=4)(fresh(tx), batch_of(10), key)


def test_the_noise_belongs_to_step_and_example(key):
    def draws(params, model_state, batch, key):
        return params.sum(), ({"noise": noise(key, batch["id"])}, model_state)

    tx = optax.sgd(0.0)
    step, state = make_step(draws, tx), init_state(jnp.zeros(1), tx)
    one, first = step(state, {"id": jnp.arange(6)}, key)
    _, second = step(one, {"id": jnp.arange(6)}, key)
    _, fewer = step(state, {"id": jnp.array([4, 1])}, key)
    np.testing.assert_array_equal(fewer["noise"], first["noise"][jnp.array([4, 1])])
    np.testing.assert_array_equal(second["noise"], noise(jax.random.fold_in(key, 1), jnp.arange(6)))
    assert np.abs(first["noise"] - second["noise"]).min() > 0


def test_metrics_hold_norms_and_the_rate_of_this_update(key):
    tx = sgd(0.5, warmup=4, clip=1.0)
    step, state = make_step(linear, tx), init_state(jnp.array([3.0, 4.0]), tx)
    for k in range(6):
        loss = float(linear(state.params, {}, {}, key)[0])
        state, metrics = step(state, {}, key)
        rate = 0.5 * min(k / 4, 1)
        np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-6)
        np.testing.assert_allclose(metrics["grad_norm"], 5**0.5, rtol=1e-6)
        np.testing.assert_allclose(metrics["learning_rate"], rate, rtol=1e-6)
        np.testing.assert_allclose(metrics["update_norm"], rate, rtol=1e-6)
        assert state.step == k + 1


def test_a_rate_that_nobody_records_is_left_out(key):
    tx = optax.adam(1e-3)
    _, metrics = make_step(linear, tx)(init_state(jnp.ones(2), tx), {}, key)
    assert "learning_rate" not in metrics


def test_a_step_is_traced_once(key):
    tx = adam(1e-3, warmup=2, clip=1.0)
    chex.clear_trace_counter()
    step = jax.jit(chex.assert_max_traces(make_step(regression, tx, (0.9,), accumulate=2), n=1))
    state = fresh(tx, (0.9,))
    for k in range(4):
        state, _ = step(state, batch_of(4, k), key)


def test_decays_must_be_decays_and_agree(key):
    tx = optax.sgd(1.0)
    with pytest.raises(ValueError, match=r"\[0, 1\).*got 1.5"):
        init_state(jnp.ones(2), tx, (1.5,))
    with pytest.raises(ValueError, match=r"\['0.9'\], the step with \['0.99'\]"):
        make_step(linear, tx, (0.99,))(init_state(jnp.ones(2), tx, (0.9,)), {}, key)


def test_the_state_owns_its_buffers(key):
    tx, params = adam(1e-3), jnp.ones(2)
    step = jax.jit(make_step(linear, tx, (0.9, 0.99)), donate_argnums=0)
    old = init_state(params, tx, (0.9, 0.99))
    step(old, {}, key)
    assert old.params.is_deleted() and not params.is_deleted()
