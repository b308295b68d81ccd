"""Images made for a target: optima of linear models, all targets reached, and the price of distance."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdiff.attacks.pool import pooled
from jaxdiff.attacks.synthesis import SCORES, absolute_variation, stay_near, synthesise

SHAPE = (4, 5, 1)
CLASSES = 4
W = jax.random.normal(jax.random.key(3), (CLASSES, *SHAPE))
V = jax.random.normal(jax.random.key(4), (CLASSES, 12)) / 2
U = jax.random.normal(jax.random.key(5), (12, *SHAPE))
X = jax.random.uniform(jax.random.key(6), SHAPE)


def _linear(x, key):
    return jnp.tensordot(W, x, 3)


def _mlp(x, key):
    return V @ jax.nn.relu(jnp.tensordot(U, x - 0.5, 3))


TARGETS = jnp.arange(CLASSES)
KEYS = jax.random.split(jax.random.key(0), CLASSES)


def _for_every_target(make, classifier, x=X):
    """(a number) -> what the attack make(number) finds, compiled once for all numbers."""
    run = lambda value, target, k: make(value).run(classifier, x, target, k)
    batched = jax.jit(jax.vmap(run, (None, 0, 0)))
    return lambda value: batched(value, TARGETS, KEYS)


@pytest.mark.parametrize(
    "make", [lambda weight: synthesise(60, 0.05, tv_weight=weight), lambda lmbda: stay_near(lmbda, 150, 0.03)]
)
def test_every_target_is_reached(make):
    found = _for_every_target(make, _mlp)(1e-3)
    assert jnp.all(found.won) and jnp.all(found.queries == make(0.0).steps)
    np.testing.assert_array_equal(jnp.argmax(jax.vmap(_mlp)(found.x, KEYS), -1), TARGETS)
    assert jnp.min(found.x) >= 0.0 and jnp.max(found.x) <= 1.0


def test_the_logit_of_a_linear_model_ends_in_its_corner():
    """The largest logit in the box is at 1 where the weight is positive and at 0 elsewhere."""
    found = _for_every_target(lambda weight: synthesise(80, 0.05, "logit", weight), _linear)(0.0)
    # A corner with a larger logit of another class is not preferred to a victory.
    corners = (W > 0).astype(jnp.float32)
    wins = jnp.argmax(jax.vmap(_linear)(corners, KEYS), -1) == TARGETS
    assert jnp.sum(wins) >= 2
    np.testing.assert_array_equal(found.x[wins], corners[wins])


def test_noise_is_the_start_and_the_image_only_a_shape():
    """Without a step length the result is the noise of the key: uniform, another for another key, blind to x."""
    idle = jax.jit(lambda x, k: synthesise(1, 0.0)(lambda x, key: jnp.ones(2), x, jnp.asarray(0), k))
    noise = idle(jnp.zeros((40, 40, 1)), KEYS[0])
    np.testing.assert_array_equal(noise, idle(jnp.ones((40, 40, 1)), KEYS[0]))
    assert jnp.max(jnp.abs(noise - idle(jnp.ones((40, 40, 1)), KEYS[1]))) > 0.5
    shares = np.histogram(np.array(noise), bins=4, range=(0, 1))[0] / noise.size
    np.testing.assert_allclose(shares, 0.25, atol=0.05)


def test_absolute_variation():
    """By hand; and the heavier its weight, the smoother the image."""
    stairs = jnp.array([[0.0, 0.5, 1.0], [0.0, 0.5, 0.0]])[..., None]
    assert float(absolute_variation(stairs)) == pytest.approx(0.5 + 0.5 + 0.5 + 0.5 + 1.0)
    run = _for_every_target(lambda weight: synthesise(150, 0.02, "logit", weight), _linear)
    rough = [float(jnp.mean(jax.vmap(absolute_variation)(run(weight).x))) for weight in (0.0, 0.5, 5.0)]
    assert rough[0] > 1.2 * rough[1] > 1.2 * rough[2]


def test_a_confident_class_keeps_its_gradient_in_bfloat16():
    """1 - p = 2.5e-4 is 0 in bfloat16."""
    logits, target = jnp.array([9.0, 0.0, 0.0]), jnp.asarray(0)
    slope = lambda z: float(jax.grad(lambda z: SCORES["log_probability"](z, target))(z)[0])
    assert slope(logits.astype(jnp.bfloat16)) == pytest.approx(slope(logits), rel=0.01) != 0.0


def test_a_larger_lmbda_stays_nearer():
    """The minimiser's distance falls with lmbda (add the two inequalities of optimality)."""
    run = _for_every_target(lambda lmbda: stay_near(lmbda, 200, 0.02), _mlp)
    far = np.array(
        [np.linalg.norm((run(v).x - X[None]).reshape(CLASSES, -1), axis=1) for v in (1e-3, 0.1, 0.5)]
    )
    assert np.all(np.diff(far, axis=0) <= 0.02) and np.all(np.diff(far.mean(1)) < -0.05)


def test_a_huge_lmbda_returns_the_image():
    steady = lambda x, key: jnp.array([0.0, 1.0, 0.0, 0.0]) + 1e-3 * _linear(x, key)
    found = _for_every_target(lambda lmbda: stay_near(lmbda, 20, 0.05), steady)(1e4)
    np.testing.assert_array_equal(found.x, jnp.broadcast_to(X, found.x.shape))
    np.testing.assert_array_equal(found.won, TARGETS == 1)


def test_stay_near_on_a_logistic_model_is_stationary():
    """At an interior optimum the gradient of (2) is 0; the gradient here is written out with the softmax's Jacobian."""
    model = lambda x, key: jnp.tensordot(0.3 * W, x, 3)
    lmbda, x = 0.05, jnp.full(SHAPE, 0.5)
    near = _for_every_target(lambda lmbda: stay_near(lmbda, 400, 0.3, optax.identity()), model, x)(lmbda).x
    for target in range(CLASSES):
        weights, image = 0.3 * np.array(W).reshape(CLASSES, -1), np.array(near[target]).ravel()
        p = np.exp(weights @ image) / np.exp(weights @ image).sum()
        jacobian = (np.diag(p) - np.outer(p, p)) @ weights
        gradient = 2 * (p - np.eye(CLASSES)[target]) @ jacobian + 2 * lmbda * (image - 0.5)
        free = (image > 0) & (image < 1)
        np.testing.assert_allclose(gradient[free], 0.0, atol=2e-3)
        assert free.sum() > 5


def test_pooled_is_the_same_as_alone():
    attack = stay_near(1e-2, 15, 0.05)
    x = jnp.stack([X, 1 - X, X**2, X])
    batched = jax.jit(lambda *a: pooled(attack, 2, stop=False)(_mlp, *a))(x, TARGETS, KEYS)
    alone = jax.jit(lambda *a: attack.run(_mlp, *a))
    for i in range(4):
        one = alone(x[i], TARGETS[i], KEYS[i])
        np.testing.assert_allclose(batched.x[i], one.x, atol=1e-5)
        assert batched.won[i] == one.won


def test_nan_leaves_the_box_alone():
    broken = lambda x, key: jnp.full(CLASSES, jnp.nan) * jnp.sum(x)
    for attack in (synthesise(3, 0.1), stay_near(0.1, 3, 0.1)):
        found = attack.run(broken, X, jnp.asarray(1), KEYS[0])
        assert jnp.all((found.x >= 0) & (found.x <= 1)) and not found.won


@pytest.mark.parametrize(
    "make",
    [
        lambda: synthesise(0, 0.1),
        lambda: synthesise(5, -0.1),
        lambda: synthesise(5, 0.1, score="logits"),
        lambda: synthesise(5, 0.1, tv_weight=-1.0),
        lambda: stay_near(-1.0, 5, 0.1),
        lambda: stay_near(1.0, 0, 0.1),
    ],
)
def test_bad_arguments(make):
    with pytest.raises(ValueError, match=r"got|Known"):
        make()
