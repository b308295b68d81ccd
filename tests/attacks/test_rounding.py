"""Compiled and eager arithmetic tell one story: a vanished gradient stays 0, under jit and at any width.

XLA fuses the product by which a classifier scales its logits into the subtraction of the largest one, which is then rounded in
one of the two places alone: where the softmax is saturated, its gradient p_y - 1 = 0 becomes noise. Only optimised code does.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rows import slow_but

from jaxdiff.attacks import apgd, cross_entropy, kl, linf, targeted_cross_entropy, untargeted
from jaxdiff.attacks.objectives import log_softmax

OPTIMISED = {"xla_backend_optimization_level": 3}
RNG = np.random.default_rng(0)
W = RNG.normal(size=(48, 32)).astype(np.float32)
V = RNG.normal(size=(32, 10)).astype(np.float32) / 6
X = RNG.uniform(size=(32, 48)).astype(np.float32)


def scaled(scale):
    return lambda x, key=None: scale * (jnp.tanh(x @ W) @ V)


OBJECTIVES = {
    "cross_entropy": lambda z, y: cross_entropy()(z, y),
    "towards the top": lambda z, y: targeted_cross_entropy()(z, y, y),
    "kl to itself": lambda z, y: kl()(z, jax.lax.stop_gradient(z)),
}


# (objective, scale, how many of the 32 gradients vanish at least and at most); the last is the control.
CASES = [
    ("cross_entropy", 1000.0, 24, 32),
    ("cross_entropy", 300.0, 16, 32),
    ("cross_entropy", 1024.0, 24, 32),
    ("towards the top", 300.0, 16, 32),
    ("kl to itself", 1000.0, 28, 32),
    ("cross_entropy", 37.5, 0, 2),
]


@pytest.mark.parametrize(
    ("objective", "scale", "least", "most"), slow_but(CASES, CASES[0], CASES[3], CASES[4], CASES[5])
)
def test_a_vanished_gradient_is_zero_eagerly_compiled_and_at_every_width(objective, scale, least, most):
    classifier = scaled(scale)
    labels = jnp.argmax(jax.vmap(classifier)(X), axis=1)
    slope = jax.vmap(jax.grad(lambda x, y: OBJECTIVES[objective](classifier(x), y)))
    compiled = jax.jit(slope, compiler_options=OPTIMISED)
    eager, whole = np.asarray(slope(X, labels)), np.asarray(compiled(X, labels))
    parts = np.concatenate([compiled(X[i : i + 4], labels[i : i + 4]) for i in range(0, 32, 4)])
    vanished = (eager == 0).all(1)
    assert least <= vanished.sum() <= most
    for other in (whole, parts):
        np.testing.assert_array_equal((other == 0).all(1), vanished)
        if objective != "kl to itself":  # whose gradient is a difference of equal numbers, rounded
            np.testing.assert_array_equal(np.sign(other), np.sign(eager))


def test_apgd_finds_the_same_picture_at_every_width():
    """Its sign makes full steps of any noise."""
    classifier = scaled(1000.0)
    labels = jnp.argmax(jax.vmap(classifier)(X), axis=1)
    attack = untargeted(apgd(linf(0.02), 5), cross_entropy())
    keys = jax.random.split(jax.random.key(0), 32)
    run = jax.jit(jax.vmap(lambda x, y, key: attack(classifier, x, y, key)), compiler_options=OPTIMISED)
    whole = np.asarray(run(X, labels, keys))
    parts = np.concatenate([run(X[i : i + 4], labels[i : i + 4], keys[i : i + 4]) for i in range(0, 32, 4)])
    np.testing.assert_allclose(parts, whole, atol=1e-6)


def test_log_softmax_is_that_of_the_library(key):
    """Values, both derivatives of first order and the second derivative, with ties for the top and large logits."""
    for z in (jnp.array([1.0, -2.0, 0.5]), jnp.array([3.0, 3.0, -1.0]), 50 * jax.random.normal(key, (7,))):
        np.testing.assert_allclose(log_softmax(z), jax.nn.log_softmax(z), rtol=1e-6, atol=1e-6)
        ours, theirs = (jax.jacrev(f)(z) for f in (log_softmax, jax.nn.log_softmax))
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
        np.testing.assert_allclose(jax.jacfwd(log_softmax)(z), theirs, atol=1e-6)
        ours, theirs = (
            jax.hessian(lambda z, f=f: jnp.sin(f(z)).sum())(z) for f in (log_softmax, jax.nn.log_softmax)
        )
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
