"""AutoAttack: a linear model falls exactly beyond its margin, and every attack works only on what is left."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from known_models import ORDER, known_margins
from rows import slow_but

from jaxdiff.attacks import autoattack
from jaxdiff.attacks.cascade import in_order
from jaxdiff.attacks.pool import pooled

SHAPE = (3, 3, 1)


def _model(classes, seed=0):
    w = jax.random.normal(jax.random.key(seed), (classes, 9))
    return w, lambda x, key: w @ (x.ravel() - 0.5)


def _images(n=12):
    # In the middle of the box: it limits nobody.
    return 0.5 + 0.04 * jax.random.normal(jax.random.key(1), (n, *SHAPE))


@pytest.mark.parametrize("norm", slow_but(["linf", "l2", "l1"], "linf"))
def test_a_linear_model_falls_exactly_beyond_its_margin(norm):
    """At the median margin half of the images stand, and they are the right half."""
    w, model = _model(5)
    x = _images()
    y = np.asarray(jax.vmap(lambda x: model(x, None).argmax())(x))
    margins = known_margins(w, x, y, norm)
    assert margins.min() > 0
    radius = float(np.median(margins))
    attacks = autoattack.standard(norm, radius, 5, steps=20, queries=10)
    keys = jax.random.split(jax.random.key(2), len(x))
    found = jax.jit(lambda *batch: in_order(attacks, 4)(model, *batch))(x, y, keys)
    np.testing.assert_array_equal(found.won, margins < radius)
    norms = np.linalg.norm(np.asarray(found.x - x).reshape(len(x), -1), ORDER[norm], axis=1)
    assert norms.max() <= radius + 1e-6
    seen = jax.vmap(lambda x: model(x, None).argmax())(found.x)
    np.testing.assert_array_equal(seen != y, found.won)


def test_every_attack_works_on_what_is_left():
    """Wrong images cost one query and stay as they are; the others cost what the attacks up to their fall have cost."""
    w, model = _model(4)
    x = _images()
    y = np.array(jax.vmap(lambda x: model(x, None).argmax())(x))
    y[3] = (y[3] + 1) % 4
    radius = float(np.median(known_margins(w, x, y, "linf")))
    attacks = autoattack.standard("linf", radius, 4, steps=10, queries=7)
    keys = jax.random.split(jax.random.key(2), len(x))
    run = lambda attacks, todo: jax.jit(lambda *batch: in_order(attacks, 4)(model, *batch, todo))(x, y, keys)
    whole = run(attacks, jnp.ones(len(x), bool))
    assert whole.won[3] and whole.queries[3] == 1
    np.testing.assert_array_equal(whole.x[3], x[3])
    names = list(attacks)
    alone = {}
    for i, name in enumerate(names):
        own = jax.vmap(lambda key: jax.random.fold_in(key, i))(keys)
        alone[name] = jax.jit(lambda *batch: pooled(attacks[name], 4)(model, *batch))(x, y, own)
    for j in (j for j in range(len(x)) if j != 3):
        fell = next((k for k, name in enumerate(names) if alone[name].won[j]), len(names) - 1)
        assert whole.queries[j] == 1 + sum(int(alone[name].queries[j]) for name in names[: fell + 1])
    skipped = run({"apgd-ce": attacks["apgd-ce"]}, jnp.arange(len(x)) < 2)
    assert not np.any(skipped.won[2:]) and np.all(skipped.queries[2:] == 0)


@pytest.mark.parametrize("classes", slow_but([2, 3], 2))
def test_two_and_three_classes(classes):
    w, model = _model(classes)
    x = _images(6)
    y = np.asarray(jax.vmap(lambda x: model(x, None).argmax())(x))
    radius = float(np.median(known_margins(w, x, y, "linf")))
    attacks = autoattack.plus("linf", radius, classes, steps=5, queries=5)
    assert list(attacks) == ["apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t"]
    chosen = {name: attacks[name] for name in ("apgd-dlr", "apgd-t")}
    keys = jax.random.split(jax.random.key(2), len(x))
    found = jax.jit(lambda *batch: in_order(chosen, 3)(model, *batch))(x, y, keys)
    np.testing.assert_array_equal(found.won, known_margins(w, x, y, "linf") < radius)


def test_rand_averages_gradients():
    """The noise of the classifier is far larger than its slope: one draw climbs at random, 200 climb the slope."""
    _, model = _model(3)
    noisy = lambda x, key: model(x, key) + 30.0 * jax.random.normal(key, (3, 9)) @ (x.ravel() - 0.5)
    x, y, key = jnp.full(SHAPE, 0.5), jnp.asarray(0), jax.random.key(0)
    reach = {}
    for draws in (1, 400):
        attack = autoattack.rand("linf", 0.1, 3, steps=10, draws=draws)["apgd-ce"]
        found = attack.run(noisy, x, y, key)
        assert found.queries == 11 * draws
        probabilities = jax.vmap(lambda k: jax.nn.log_softmax(noisy(found.x, k))[0])(
            jax.random.split(jax.random.key(9), 20_000)
        )
        reach[draws] = -float(jnp.mean(probabilities))
    assert reach[400] > reach[1]


def test_bad_arguments():
    with pytest.raises(ValueError, match="unknown norm 'l3'"):
        autoattack.standard("l3", 0.1, 10)
