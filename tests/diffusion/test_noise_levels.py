"""Importance sampling of times: chances by the losses of the past, and weights that keep the mean what it is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.diffusion import conditions, noise_levels

pytestmark = pytest.mark.usefixtures("x64")

STEPS = 4
LOSSES = np.array([1.0, 2.0, 4.0, 8.0])


def remembered(levels, losses, times=1):
    """The state after every step has had this loss, so many times."""
    state = levels.init()
    for _ in range(times):
        state = levels.update(state, jnp.arange(1, STEPS + 1) / STEPS, jnp.asarray(losses))
    return state


def chances(levels, state, key, n=40_000):
    t, weights = levels.draw(state, jax.random.split(key, n))
    steps = np.round(np.asarray(t) * STEPS).astype(int)
    return np.array([np.mean(steps == i) for i in range(1, STEPS + 1)]), steps, np.asarray(weights)


def test_until_all_is_seen_chances_are_equal(key):
    levels = noise_levels.importance(STEPS, history=2)
    for state in (levels.init(), remembered(levels, LOSSES)):
        found, _, weights = chances(levels, state, key)
        np.testing.assert_allclose(found, 0.25, atol=0.01)
        np.testing.assert_allclose(weights, 1.0, rtol=1e-9)


def test_then_they_go_with_the_losses_and_weights_undo_it(key):
    levels = noise_levels.importance(STEPS, history=2, uniform=0.01)
    found, steps, weights = chances(levels, remembered(levels, LOSSES, 2), key)
    expected = 0.99 * LOSSES / LOSSES.sum() + 0.01 / STEPS
    np.testing.assert_allclose(found, expected, atol=0.01)
    np.testing.assert_allclose(weights, 1.0 / (STEPS * expected[steps - 1]), rtol=1e-6)
    values = np.array([3.0, -1.0, 0.5, 7.0])  # any function of the step keeps its mean
    drawn = weights * values[steps - 1]
    assert abs(drawn.mean() - values.mean()) < 4 * drawn.std() / len(drawn) ** 0.5


def test_only_the_last_losses_count_by_their_root_mean_square(key):
    levels = noise_levels.importance(STEPS, history=2, uniform=1e-6)
    state = remembered(levels, 100.0 * LOSSES[::-1], 3)
    state = levels.update(state, jnp.array([0.25, 0.25, 0.5, 0.75, 1.0, 0.5, 0.75, 1.0]),
                          jnp.array([1.0, 7.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]))  # fmt: skip
    found, _, _ = chances(levels, state, key)
    size = np.array([5.0, 1.0, 1.0, 1.0])
    np.testing.assert_allclose(found, size / size.sum(), atol=0.01)


def test_levels_without_a_state_are_adaptive_ones(key):
    plain = noise_levels.uniform(0.1)
    levels = noise_levels.adaptive(plain)
    keys = jax.random.split(key, 5)
    t, weights = levels.draw(levels.init(), keys)
    np.testing.assert_array_equal(t, plain(keys))
    np.testing.assert_array_equal(weights, 1.0)
    assert levels.update(levels.init(), t, t) == {} and noise_levels.adaptive(levels) is levels


def test_labels_are_dropped_by_example_and_by_chance(key):
    told = jax.vmap(conditions.label(0.25))
    examples = {"label": jnp.arange(8000) % 10}
    y = told(examples, jax.random.split(key, 8000))["y"]
    kept = y != conditions.NO_CLASS
    assert abs(float(kept.mean()) - 0.75) < 4 * (0.25 * 0.75 / 8000) ** 0.5
    np.testing.assert_array_equal(y[kept], examples["label"][kept])
    for drop, expected in ((0.0, examples["label"]), (1.0, -jnp.ones(8000, int))):
        np.testing.assert_array_equal(
            jax.vmap(conditions.label(drop))(examples, jax.random.split(key, 8000))["y"], expected
        )
