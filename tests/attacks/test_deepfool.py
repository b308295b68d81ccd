"""DeepFool: on linear models its first step reaches the nearest boundary, and the overshoot is all it adds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from known_models import DUAL, INSIDE, KEY, ORDER, SHAPE, curved, near_boundaries, run_jitted

from jaxdiff.attacks.least.deepfool import deepfool
from jaxdiff.attacks.threats.l1 import l1
from jaxdiff.attacks.threats.threat import l2, linf

THREATS = {"linf": linf, "l2": l2, "l1": l1}


def _distance(norm, z, w, j, y):
    return (z[y] - z[j]) / np.linalg.norm(np.ravel(w[j] - w[y]), DUAL[norm])


@pytest.mark.parametrize(
    ("norm", "classes", "overshoot"), [("linf", 2, 0.02), ("linf", 3, 0.3), ("l2", 10, 0.02), ("l1", 10, 0.1)]
)
def test_linear_models_are_left_by_the_nearest_boundary(norm, classes, overshoot):
    classifier, y, z, w = near_boundaries(classes)
    least = min(_distance(norm, z, w, j, y) for j in range(classes) if j != y)
    found = run_jitted(deepfool(THREATS[norm](jnp.inf), steps=6, overshoot=overshoot), classifier, INSIDE, y)
    assert found.won and jnp.argmax(classifier(found.x, None)) != y
    np.testing.assert_allclose(-found.loss, (1 + overshoot) * least, rtol=1e-4)
    np.testing.assert_allclose(
        np.linalg.norm(np.ravel(found.x - INSIDE), ORDER[norm]), -found.loss, rtol=1e-6
    )


def test_only_the_candidates_are_looked_at():
    """With two classes the runner-up is attacked, although another class is nearer."""
    classifier, y, z, w = near_boundaries(10)
    runner_up = np.argsort(z)[-2]
    distances = {j: _distance("l2", z, w, j, y) for j in range(10) if j != y}
    assert min(distances, key=distances.get) != runner_up
    found = run_jitted(deepfool(l2(jnp.inf), steps=3, classes=2), classifier, INSIDE, y)
    np.testing.assert_allclose(-found.loss, 1.02 * distances[runner_up], rtol=1e-4)


def test_the_candidates_are_those_of_the_clean_image():
    """On the way another class overtakes the runner-up; the runner-up stays the one that is looked at, step by step by hand."""

    def classifier(x, key):
        s = x - 0.5
        return jnp.stack([1.0, 0.5 + 5 * s[0] - 40 * s[0] ** 2, 0.4 + 4 * s[0] + 10 * s[1]])

    x, total = jnp.array([0.5, 0.5]), 0.0
    attack = deepfool(l2(jnp.inf), steps=3, classes=2)
    problem = (classifier, x, jnp.asarray(0), KEY)
    state, step = attack.init(problem), jax.jit(lambda state, i: attack.step(problem, state, i))
    overtaken = False
    for i in range(3):
        state = step(state, jnp.asarray(i))
        s = 1.02 * total
        f, slope = 0.5 + 5 * s - 40 * s**2 - 1.0, 5 - 80 * s
        overtaken |= 0.4 + 4 * s > f + 1.0
        total -= f / slope
        np.testing.assert_allclose(state[0], [total, 0.0], rtol=1e-4, atol=1e-7)
    assert overtaken and jnp.array_equal(state[1], jnp.array([1])) and not attack.best(state).won


def test_the_radius_only_judges():
    """A radius below the distance gives x back, with the distance; one above it the adversarial point."""
    classifier, y, z, w = near_boundaries(3)
    least = 1.02 * min(_distance("l2", z, w, j, y) for j in range(3) if j != y)
    attack = jax.jit(lambda radius: deepfool(l2(radius), steps=3).run(classifier, INSIDE, y, KEY))
    near, far = attack(0.99 * least), attack(1.01 * least)
    assert not near.won and jnp.array_equal(near.x, INSIDE)
    assert far.won and near.loss == far.loss
    np.testing.assert_allclose(-far.loss, least, rtol=1e-4)
    assert not attack(0.0).won and jnp.array_equal(attack(0.0).x, INSIDE)


def test_a_lost_label_needs_nothing():
    classifier, y, _, _ = near_boundaries(3)
    found = run_jitted(deepfool(linf(0.0), steps=3), classifier, INSIDE, (y + 1) % 3)
    assert found.won and found.loss == 0 and jnp.array_equal(found.x, INSIDE)


def test_it_stands_still_once_the_label_is_lost():
    """More steps change nothing, the images stay in the box, and vmap is a loop."""
    x = jnp.round(jax.random.uniform(KEY, (6, *SHAPE)), 1)
    y = jax.jit(jax.vmap(lambda x: jnp.argmax(curved(x, None))))(x)
    few = jax.jit(jax.vmap(lambda x, y: deepfool(l2(jnp.inf), 15).run(curved, x, y, KEY)))(x, y)
    assert np.mean(few.won) > 0.8 and few.won[1] and np.all(few.queries == 15)
    assert jnp.min(few.x) >= 0 and jnp.max(few.x) <= 1
    alone = run_jitted(deepfool(l2(jnp.inf), 30), curved, x[1], y[1])
    np.testing.assert_allclose(alone.x, few.x[1], atol=1e-5)


def test_flawed_classifiers_do_not_spoil_the_image():
    """Labels with logits that are not finite are lost; gradients that vanish or are not finite do no harm."""
    flaws = [
        lambda x: jnp.array([1.0, 0.0, jnp.nan]) * jnp.sum(x),
        lambda x: jnp.array([1.0, 0.0, -1.0]) + jnp.sqrt(jnp.sum(x - x)),
        lambda x: jnp.array([1.0, 0.0, -1.0]) + 0.0 * jnp.sum(x),
        lambda x: jnp.array([1.0, 0.0, -1.0]) * (1.0 + 1e-36 * jnp.sum(x)),
    ]
    attack = deepfool(linf(jnp.inf), steps=4)
    run = lambda i: attack.run(lambda x, key: jax.lax.switch(i, flaws, x), INSIDE, jnp.asarray(0), KEY)
    found = jax.jit(jax.vmap(run))(jnp.arange(4))
    assert jnp.all((found.x >= 0) & (found.x <= 1))
    np.testing.assert_array_equal(found.won, [True, False, False, False])


def test_bad_arguments():
    one_class = lambda x, key: jnp.sum(x)[None]
    for make in [
        lambda: deepfool(l2(1.0)._replace(to_plane=None)),
        lambda: deepfool(l2(1.0), steps=0),
        lambda: deepfool(l2(1.0), classes=1),
        lambda: deepfool(l2(1.0))(one_class, INSIDE, jnp.asarray(0), KEY),
    ]:
        with pytest.raises(ValueError, match=r"got|has none"):
            make()
