"""Adversarial training losses on linear models, whose worst case is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.attacks import cross_entropy, fgsm, kl, linf, pgd, restarts, untargeted
from jaxdiff.defenses.training import madry, mixed, standard, trades

RADIUS = 0.1
W = jax.random.normal(jax.random.key(3), (2, 6))
X = jnp.full((4, 6), 0.5) + 0.1 * jax.random.normal(jax.random.key(1), (4, 6))
Y = jnp.array([0, 1, 1, 0])
KEYS = jax.random.split(jax.random.key(2), 4)
ATTACK = untargeted(fgsm(linf(RADIUS), RADIUS), cross_entropy())


def _predict(w):
    return lambda x, train: x @ w.T


def _cross_entropies(x):
    return jax.vmap(cross_entropy())(x @ W.T, Y)


def _worst():
    """For two classes FGSM is optimal: every pixel moves against the label."""
    sign = jnp.where(Y == 0, 1.0, -1.0)[:, None]
    return X - RADIUS * sign * jnp.sign(W[0] - W[1])[None]


def test_losses_are_their_equations():
    clean, robust = _cross_entropies(X), _cross_entropies(_worst())
    np.testing.assert_allclose(standard()(_predict(W), X, Y, KEYS), clean, rtol=1e-6)
    np.testing.assert_allclose(madry(ATTACK)(_predict(W), X, Y, KEYS), robust, rtol=1e-5)
    np.testing.assert_allclose(
        mixed(ATTACK, 0.3)(_predict(W), X, Y, KEYS), 0.3 * clean + 0.7 * robust, rtol=1e-5
    )
    assert jnp.all(robust > clean)


def test_trades_is_clean_loss_plus_worst_kl():
    # The KL has a peak on either side of the image: restarts find the higher one.
    attack = restarts(untargeted(pgd(linf(RADIUS), RADIUS / 4, 40), kl()), 8, kl())
    log_p = jax.nn.log_softmax(X @ W.T)
    corners = [
        X + RADIUS * s * jnp.sign(W[0] - W[1])[None] for s in (-1, 1)
    ]  # the logit difference is linear
    gaps = [jnp.sum(jnp.exp(log_p) * (log_p - jax.nn.log_softmax(c @ W.T)), -1) for c in corners]
    expected = _cross_entropies(X) + 6.0 * jnp.maximum(*gaps)
    np.testing.assert_allclose(trades(attack, 6.0)(_predict(W), X, Y, KEYS), expected, rtol=2e-3)


@pytest.mark.parametrize("make", [madry, mixed])
def test_the_attack_is_a_constant_for_the_gradient(make):
    """Danskin: the gradient is that of the loss at the attacked images, held fixed."""
    gradient = jax.grad(lambda w: jnp.sum(make(ATTACK)(_predict(w), X, Y, KEYS)))(W)
    fixed = _worst()
    share = 0.5 if make is mixed else 0.0

    def at_fixed(w):
        losses = [jax.vmap(cross_entropy())(x @ w.T, Y) for x in (X, fixed)]
        return jnp.sum(share * losses[0] + (1 - share) * losses[1])

    np.testing.assert_allclose(gradient, jax.grad(at_fixed)(W), rtol=1e-4, atol=1e-6)


def test_attack_sees_evaluation_mode_and_the_loss_training_mode():
    seen = []

    def predict(x, train):
        seen.append(train)
        return x @ W.T

    madry(ATTACK)(predict, X, Y, KEYS)
    assert seen[:-1] and not any(seen[:-1]) and seen[-1]


def test_bad_arguments():
    with pytest.raises(ValueError, match="clean_share"):
        mixed(ATTACK, 1.5)
    with pytest.raises(ValueError, match="beta"):
        trades(ATTACK, -1.0)
