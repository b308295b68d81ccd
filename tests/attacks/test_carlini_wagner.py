"""Carlini and Wagner: on linear models the least perturbation is known; the search for c follows its rule."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from known_models import INSIDE, KEY, SHAPE, clear_winner, curved
from rows import slow_but

from jaxdiff.attacks.least.carlini_wagner import carlini_wagner


@pytest.mark.parametrize(
    ("classes", "shift"), slow_but([(2, 0.0), (3, -100.0), (10, 0.0)], (3, -100.0), (10, 0.0))
)
def test_linear_models(classes, shift):
    """The least perturbation is margin / |w|_2: found from above, within 2 %, also where all logits are negative."""
    classifier, y, distances = clear_winner(classes, shift=shift)
    attack = carlini_wagner(8, 150, 0.02)
    found = jax.jit(lambda y: attack.run(classifier, INSIDE, y, KEY))(y)
    assert found.won and jnp.argmax(classifier(found.x, None)) != y
    assert 0.9999 <= -found.loss / min(distances) <= 1.02
    np.testing.assert_allclose(np.linalg.norm(found.x - INSIDE), -found.loss, rtol=1e-5)
    assert found.queries == attack.steps == 8 * 150


def test_targets_are_reached():
    """Every class; a class that is there already needs nothing."""
    classifier, y, _ = clear_winner(3)
    attack = carlini_wagner(5, 60, 0.05, 0.01, targeted=True)
    found = jax.jit(jax.vmap(lambda t: attack.run(classifier, INSIDE, t, KEY)))(jnp.arange(3))
    assert jnp.all(found.won)
    np.testing.assert_array_equal(jax.vmap(lambda x: jnp.argmax(classifier(x, None)))(found.x), np.arange(3))
    assert found.loss[y] == 0 and jnp.array_equal(found.x[y], INSIDE)


@pytest.mark.parametrize("targeted", [False, True])
def test_confidence_is_a_margin(targeted):
    """The logits differ by at least the confidence, at (margin + confidence) / |w|_2."""
    classifier, y, distances = clear_winner(2)
    goal = 1 - y if targeted else y
    attack = carlini_wagner(6, 150, 0.02, 0.05, confidence=1.0, targeted=targeted)
    found = jax.jit(lambda goal: attack.run(classifier, INSIDE, goal, KEY))(goal)
    logits = classifier(found.x, None)
    assert found.won and logits[1 - y] - logits[y] >= 1.0
    start = classifier(INSIDE, None)
    gap = start[y] - start[1 - y]
    least = min(distances) * (gap + 1.0) / gap
    assert 0.9999 <= -found.loss / least <= 1.02


def test_the_search_is_a_bisection():
    """Ten times more until the first success, then the middle of the smallest that has won and the largest that has not."""
    example = INSIDE, jnp.asarray(0), KEY
    attack = carlini_wagner(search_steps=7, steps=1, initial_const=1.0)
    step = jax.jit(lambda z, state, i: attack.step((lambda x, key: z, *example), state, i))
    start = attack.init((None, *example))
    for threshold, expected in [
        (np.inf, [1.0, 10.0, 100.0, 1000.0, 10000.0]),
        (0.0, [1.0, 0.5, 0.25, 0.125, 0.0625]),
        (30.0, [1.0, 10.0, 100.0, 55.0, 32.5, 21.25, 26.875]),
    ]:
        state, seen = start, []
        for i, c in enumerate(expected):
            state = step(jnp.array([0.0, 1.0 if c > threshold else -1.0]), state, i)
            seen.append(float(state.c))
        np.testing.assert_allclose(seen, expected, rtol=1e-6)


def test_a_lost_label_needs_nothing():
    """Bit for bit also where tanh would round: at the border, and next to it."""
    x = jnp.array([0.0, 1.0, 1e-8, 1e-6, 0.1, 0.3, 0.999999, 1 / 3])
    classifier = lambda x, key: jnp.array([0.0, 1.0]) + jnp.sum(x)
    found = jax.jit(lambda x: carlini_wagner(1, 5).run(classifier, x, jnp.asarray(0), KEY))(x)
    assert found.won and found.loss == 0 and jnp.array_equal(found.x, x)


def test_feasible_and_alone_as_in_a_batch():
    x = jnp.round(jax.random.uniform(KEY, (6, *SHAPE)), 1)
    predict = jax.jit(jax.vmap(lambda x: jnp.argmax(curved(x, None))))
    y = predict(x)
    run = lambda x, y: carlini_wagner(3, 20, 0.05, 0.1).run(curved, x, y, KEY)
    batch = jax.jit(jax.vmap(run))(x, y)
    assert jnp.all(batch.won) and jnp.min(batch.x) >= 0 and jnp.max(batch.x) <= 1
    assert jnp.all(predict(batch.x) != y)
    np.testing.assert_allclose(jax.jit(run)(x[3], y[3]).x, batch.x[3], atol=1e-4)


def test_flawed_classifiers_do_not_spoil_the_image():
    """Labels with logits that are not finite are lost; gradients that are not finite move nothing to NaN."""
    flaws = [
        lambda x: jnp.array([1.0, 0.0, jnp.nan]) * jnp.sum(x),
        lambda x: jnp.array([1.0, 0.0, -1.0]) + jnp.sqrt(jnp.sum(x - x)),
    ]
    attack = carlini_wagner(2, 3)
    run = lambda i: attack.run(lambda x, key: jax.lax.switch(i, flaws, x), INSIDE, jnp.asarray(0), KEY)
    found = jax.jit(jax.vmap(run))(jnp.arange(2))
    np.testing.assert_array_equal(found.x, jnp.stack([INSIDE, INSIDE]))
    np.testing.assert_array_equal(found.won, [True, False])


def test_bad_arguments():
    for make in [lambda: carlini_wagner(0), lambda: carlini_wagner(steps=0)]:
        with pytest.raises(ValueError, match="got"):
            make()
