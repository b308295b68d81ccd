"""Optimisers against closed forms: schedules, clipping, decay, momentum."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdiff.train.optimizer as optimizer
from jaxdiff.build import build
from jaxdiff.train.optimizer import adam, adamw, learning_rate, sgd

FACTORIES = [adam, adamw, sgd]
pytestmark = pytest.mark.usefixtures("x64")


def follow(tx, gradient, params, steps):
    """The updates of `steps` steps under one constant gradient."""
    state, updates = tx.init(params), []
    for _ in range(steps):
        update, state = tx.update(gradient, state, params)
        params = optax.apply_updates(params, update)
        updates.append(update)
    return np.array(updates), params


@pytest.mark.parametrize("warmup", [0, 1, 5])
def test_warmup_is_linear_and_then_constant(warmup):
    rate = learning_rate(2e-4, warmup)
    for k in range(12):
        np.testing.assert_allclose(rate(k), 2e-4 * min(k / warmup if warmup else 1, 1), rtol=1e-12)


@pytest.mark.parametrize("warmup", [0, 4])
def test_cosine_falls_to_zero_at_the_end(warmup):
    rate = learning_rate(0.1, warmup, "cosine", 20)
    for k in range(warmup, 25):
        angle = np.pi * min((k - warmup) / (20 - warmup), 1)
        np.testing.assert_allclose(rate(k), 0.05 * (1 + np.cos(angle)), atol=1e-15)


@pytest.mark.parametrize("factory", FACTORIES)
def test_every_optimiser_follows_its_schedule(factory):
    tx = factory(0.1, warmup=3, schedule="cosine", total=9)
    plain, rate = factory(0.1), learning_rate(0.1, 3, "cosine", 9)
    gradient, params = jnp.array([0.3, -2.0]), jnp.zeros(2)
    state, plain_state = tx.init(params), plain.init(params)
    for k in range(9):
        update, state = tx.update(gradient, state, params)
        full, plain_state = plain.update(gradient, plain_state, params)
        np.testing.assert_allclose(update, full * rate(k) / 0.1, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("norm", [0.1, 1.0, 50.0])
def test_clip_bounds_the_update_and_keeps_its_direction(key, norm):
    gradient = jax.random.normal(key, (7,), jnp.float64)
    gradient = gradient * (norm / jnp.linalg.norm(gradient))
    (update,), _ = follow(sgd(0.5, clip=1.0), gradient, jnp.zeros(7), 1)
    np.testing.assert_allclose(update, -0.5 * gradient * min(1, 1 / norm), rtol=1e-12)
    assert np.linalg.norm(update) <= 0.5 * (1 + 1e-12)


@pytest.mark.parametrize("factory", FACTORIES)
@pytest.mark.parametrize("clip", [None, 0, 0.0])
def test_no_clip_means_none(factory, clip):
    gradient = jnp.array([300.0, -2.0])
    updates = follow(factory(0.1, clip=clip), gradient, jnp.zeros(2), 3)[0]
    np.testing.assert_array_equal(updates, follow(factory(0.1), gradient, jnp.zeros(2), 3)[0])


def test_clip_comes_before_the_moments_of_adam():
    spike = jnp.array([1e6])
    tx = adam(1.0, b1=0.0, b2=0.0, eps=1.0, clip=1.0)  # then the update is g / (|g| + 1)
    np.testing.assert_allclose(follow(tx, spike, jnp.zeros(1), 1)[0], [[-0.5]], rtol=1e-6)


def test_adam_moves_by_the_sign_under_a_constant_gradient():
    gradient = jnp.array([3.0, -0.01])  # both moments are unbiased: g / sqrt(g^2)
    updates, _ = follow(adam(2e-4, eps=0.0), gradient, jnp.zeros(2), 5)
    np.testing.assert_allclose(updates, np.tile([-2e-4, 2e-4], (5, 1)), rtol=1e-6)


@pytest.mark.parametrize("factory", [adam, partial(adamw, weight_decay=0.0)])
def test_adam_by_hand(factory):
    """Kingma and Ba, algorithm 1, with gradients that change."""
    b1, b2, eps, m, v = 0.8, 0.6, 0.01, 0.0, 0.0
    tx, params = factory(0.1, b1, b2, eps), jnp.zeros(1)
    state = tx.init(params)
    for t, g in enumerate([1.0, -3.0, 0.5], 1):
        update, state = tx.update(jnp.array([g]), state, params)
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        by_hand = -0.1 * (m / (1 - b1**t)) / ((v / (1 - b2**t)) ** 0.5 + eps)
        np.testing.assert_allclose(update, [by_hand], rtol=1e-6)


def test_weight_decay_is_a_geometric_series_without_gradient():
    for tx in (adamw(0.1, weight_decay=0.5), sgd(0.1, weight_decay=0.5)):
        _, params = follow(tx, jnp.zeros(2), jnp.array([1.0, -2.0]), 6)
        np.testing.assert_allclose(params, 0.95**6 * np.array([1.0, -2.0]), rtol=1e-10)


def test_decay_is_part_of_the_gradient_that_sgd_averages():
    lr, m, decay, one = 0.1, 0.9, 0.5, 1.0
    two = one - lr * decay * one
    three = two - lr * (m * decay * one + decay * two)
    _, params = follow(sgd(lr, m, weight_decay=decay), jnp.zeros(1), jnp.array([one]), 2)
    np.testing.assert_allclose(params, [three], rtol=1e-6)
    (first, _), _ = follow(sgd(lr, m, True, decay), jnp.zeros(1), jnp.array([one]), 2)
    np.testing.assert_allclose(first, [-lr * (1 + m) * decay * one], rtol=1e-6)


def test_decoupled_decay_ignores_the_scale_of_the_gradient():
    one, ten = (follow(adamw(0.1, eps=0.0), jnp.array([g]), jnp.ones(1), 4)[1] for g in (1.0, 10.0))
    np.testing.assert_allclose(one, ten, rtol=1e-6)


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_is_a_geometric_sum(nesterov):
    m, gradient = 0.9, np.array([1.0, -3.0])
    updates, _ = follow(sgd(0.1, m, nesterov), jnp.array(gradient), jnp.zeros(2), 8)
    for k, update in enumerate(updates, 1):
        velocity = (1 - m**k) / (1 - m)
        np.testing.assert_allclose(
            update, -0.1 * gradient * (1 + m * velocity if nesterov else velocity), rtol=1e-10
        )


def test_a_config_names_them():
    assert optimizer.__all__ == sorted(f.__name__ for f in FACTORIES)
    tx = build(optimizer, {"name": "adam", "lr": 2e-4, "warmup": 5000, "clip": 1.0})
    assert follow(tx, jnp.ones(2), jnp.zeros(2), 1)[0].max() == 0  # the warm-up starts at zero


@pytest.mark.parametrize("factory", FACTORIES)
def test_a_cosine_needs_a_run_beyond_its_warm_up(factory):
    with pytest.raises(ValueError, match=r"total > warmup=0.*got total=None"):
        factory(0.1, schedule="cosine")
    with pytest.raises(ValueError, match="total > warmup=10"):
        factory(0.1, schedule="cosine", warmup=10, total=10)
