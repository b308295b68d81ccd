"""DDN: on linear models the least perturbation is known; norms, grey levels and labels are as promised."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from known_models import INSIDE, KEY, SHAPE, clear_winner, curved
from rows import slow_but

from jaxdiff.attacks.least.ddn import ddn


@pytest.mark.parametrize("classes", slow_but([2, 3, 10], 2, 10))
def test_linear_models(classes):
    """The least perturbation is margin / |w|_2: found from above, within 3 % if the softmax is as good as a maximum."""
    classifier, y, distances = clear_winner(classes, scale=20.0)
    found = jax.jit(lambda y: ddn(levels=None).run(classifier, INSIDE, y, KEY))(y)
    assert found.won and jnp.argmax(classifier(found.x, None)) != y
    assert 1.0 <= -found.loss / min(distances) <= 1.03
    np.testing.assert_allclose(np.linalg.norm(found.x - INSIDE), -found.loss, rtol=1e-5)
    assert found.queries == 100


def test_targets_are_reached():
    """Every class, and not nearer than the nearest boundary; a label that is there already needs nothing."""
    classifier, y, distances = clear_winner(3)
    targets = jnp.arange(3)
    found = jax.jit(jax.vmap(lambda t: ddn(60, levels=8, targeted=True).run(classifier, INSIDE, t, KEY)))(
        targets
    )
    assert jnp.all(found.won)
    np.testing.assert_array_equal(jax.vmap(lambda x: jnp.argmax(classifier(x, None)))(found.x), targets)
    assert found.loss[y] == 0 and jnp.array_equal(found.x[y], INSIDE)
    moved = np.asarray(found.x)[np.arange(3) != y]
    np.testing.assert_allclose(7 * moved, np.round(7 * moved), atol=1e-5)  # eight grey levels
    assert np.all(-np.asarray(found.loss)[np.arange(3) != y] >= min(distances))


def test_a_flat_loss_is_left_in_any_direction():
    """Where a classifier gives labels only there is no gradient at all: DDN walks off at random."""
    classifier = lambda x, key: 1.0 * jnp.roll(jnp.array([1, 0]), jnp.max(jnp.abs(x - INSIDE)) > 0.1)
    found = jax.jit(lambda y: ddn(60, levels=None).run(classifier, INSIDE, y, KEY))(jnp.asarray(0))
    assert found.won and jnp.max(jnp.abs(found.x - INSIDE)) > 0.1


def test_feasible_and_alone_as_in_a_batch():
    x = jnp.round(jax.random.uniform(KEY, (6, *SHAPE)), 1)
    predict = jax.jit(jax.vmap(lambda x: jnp.argmax(curved(x, None))))
    y = predict(x)
    keys = jax.random.split(KEY, 6)
    run = lambda x, y, key: ddn(15).run(curved, x, y, key)
    batch = jax.jit(jax.vmap(run))(x, y, keys)
    assert jnp.all(batch.won) and jnp.min(batch.x) >= 0 and jnp.max(batch.x) <= 1
    assert jnp.all(predict(batch.x) != y)
    np.testing.assert_allclose(jax.jit(run)(x[3], y[3], keys[3]).x, batch.x[3], atol=1e-5)


def test_flawed_classifiers_do_not_spoil_the_image():
    """Labels with logits that are not finite are lost; gradients that are not finite move nothing to NaN."""
    flaws = [
        lambda x: jnp.array([1.0, 0.0, jnp.nan]) * jnp.sum(x),
        lambda x: jnp.array([1.0, 0.0, -1.0]) + jnp.sqrt(jnp.sum(x - x)),
    ]
    attack = ddn(5)
    run = lambda i: attack.run(lambda x, key: jax.lax.switch(i, flaws, x), INSIDE, jnp.asarray(0), KEY)
    found = jax.jit(jax.vmap(run))(jnp.arange(2))
    np.testing.assert_array_equal(found.x, jnp.stack([INSIDE, INSIDE]))
    np.testing.assert_array_equal(found.won, [True, False])


def test_bad_arguments():
    for make in [lambda: ddn(0), lambda: ddn(levels=1)]:
        with pytest.raises(ValueError, match="got"):
            make()
