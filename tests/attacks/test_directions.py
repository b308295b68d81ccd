"""Directions: sequences computed by hand from the papers' formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdiff.attacks import l2, linf, pgd
from jaxdiff.attacks.ascents.directions import adam, looked_ahead, momentum, nesterov, steepest
from jaxdiff.attacks.threats.l1 import l1

X = jnp.array([0.5, 0.5, 0.5, 0.5]).reshape(2, 2, 1)
W = jnp.array([4.0, -2.0, 1.0, 1.0]).reshape(2, 2, 1)


def _follow(tx, gradients):
    state, updates = tx.init(gradients[0]), []
    for g in gradients:
        update, state = tx.update(g, state, jnp.zeros_like(g))
        updates.append(update)
    return np.array(updates)


def test_momentum_by_hand():
    """g_1 = (1, 3) / 2 and g_2 = g_1 + (-4, 0) / 2: the sign of the first coordinate turns, that of the second stays."""
    a, b, c = (jnp.array(v)[:, None, None] for v in ([1.0, 3.0], [-4.0, 0.0], [0.0, -5.0]))
    g = np.array([[0.5, 1.5], [-1.5, 1.5], [-1.5, -0.5]])
    np.testing.assert_array_equal(_follow(momentum(linf(0.1)), [a, b, c])[..., 0, 0], np.sign(g))
    unit = g / np.linalg.norm(g, axis=1, keepdims=True)
    np.testing.assert_allclose(_follow(momentum(l2(0.1)), [a, b, c])[..., 0, 0], unit, rtol=1e-6)
    # The size of a single gradient does not matter; without decay the past does not either.
    np.testing.assert_allclose(
        _follow(momentum(l2(0.1)), [1e-20 * a, 1e6 * b, c])[..., 0, 0], unit, rtol=1e-6
    )
    forgetful = _follow(momentum(linf(0.1), decay=0.0), [a, b, c])
    np.testing.assert_array_equal(forgetful[..., 0, 0], [[1, 1], [-1, 0], [0, -1]])


@pytest.mark.parametrize("decay", [0.5, 1.0])
def test_nesterov_is_the_papers_lookahead(decay, x64):
    """x_t is clipped to the ball and the box, x_t + alpha decay g_t is not: the recursion in numpy, on a bent loss."""
    a, b = (np.array(v).reshape(2, 2, 1) for v in ([40.0, -60.0, 25.0, 90.0], [0.58, 0.44, 0.95, 0.53]))
    slope = lambda x: a * (b - x)
    x_0 = np.array([0.5, 0.5, 0.98, 0.5]).reshape(2, 2, 1)
    alpha, radius, x, g, clipped, points = 0.03, 0.1, x_0, np.zeros((2, 2, 1)), 0, []
    for _ in range(10):
        points.append(x + alpha * decay * g)
        gradient = slope(points[-1])
        g = decay * g + gradient / np.mean(np.abs(gradient))
        free = x + alpha * np.sign(g)
        x = np.clip(np.clip(free, x_0 - radius, x_0 + radius), 0.0, 1.0)
        clipped += np.any(x != free)
    # The lookahead leaves the ball, and the clipping matters.
    assert clipped > 2 and np.max(np.abs(np.array(points) - x_0)) > 1.2 * radius

    def loss(x, key):
        return -0.5 * jnp.sum(jnp.asarray(a) * jnp.square(jnp.asarray(b) - x))

    threat = linf(radius)
    attack = pgd(threat, alpha, 10, random_start=False, tx=nesterov(threat, decay))
    np.testing.assert_allclose(attack(loss, jnp.asarray(x_0), jax.random.key(0)), x, atol=1e-9)


@pytest.mark.parametrize("threat", [linf, l2, l1])
def test_nesterov_without_decay_is_steepest(threat):
    gradients = [W, -0.3 * W[::-1], W**2]
    plain = _follow(steepest(threat(0.1)), gradients)
    np.testing.assert_allclose(_follow(nesterov(threat(0.1), 0.0), gradients), plain, rtol=1e-6)
    np.testing.assert_allclose(_follow(momentum(threat(0.1), 0.0), gradients), plain, rtol=1e-6)


def test_nesterov_looks_as_far_ahead_as_it_steps():
    """After one gradient g with equal entries the lookahead is decay steps long, under either norm; at first there is none."""

    def ahead(threat):
        tx, g = nesterov(threat(0.1), 0.7), jnp.ones((3, 3, 1))
        assert not np.any(looked_ahead(0 * g, 0.5, tx.init(g)))
        return looked_ahead(0 * g, 0.5, tx.update(g, tx.init(g))[1])

    assert np.max(np.abs(ahead(linf))) == pytest.approx(0.35, rel=1e-6)
    assert np.linalg.norm(ahead(l2)) == pytest.approx(0.35, rel=1e-6)


def test_nesterov_evaluates_no_iterate_to_keep(key):
    with pytest.raises(ValueError, match="got nesterov"):
        pgd(linf(0.1), 0.1, 2, keep_best=True, tx=nesterov(linf(0.1)))(lambda x, key: jnp.sum(x), X, key)


def test_adam_by_hand():
    """The first direction is the sign; after a sign change the means decide."""
    a, b = jnp.ones((1, 1, 1)), -0.5 * jnp.ones((1, 1, 1))
    first, second = _follow(adam(0.9, 0.999), [a, b])[:, 0, 0, 0]
    assert first == pytest.approx(1.0, rel=1e-5)
    mean = (0.9 * 0.1 * 1 + 0.1 * -0.5) / (1 - 0.81)
    square = (0.999 * 0.001 * 1 + 0.001 * 0.25) / (1 - 0.999**2)
    assert second == pytest.approx(mean / np.sqrt(square), rel=1e-4)


@pytest.mark.parametrize("make", [momentum, nesterov])
@pytest.mark.parametrize(("threat", "dual"), [(linf, 1), (l2, 2)])
def test_linear_losses_are_maximised(make, threat, dual, key):
    x_adv = pgd(threat(0.1), 0.02, 60, tx=make(threat(0.1)))(lambda x, key: jnp.vdot(W, x), X, key)
    best = 0.1 * np.linalg.norm(np.array(W).ravel(), dual)
    assert float(jnp.vdot(W, x_adv - X)) == pytest.approx(best, rel=2e-3)


@pytest.mark.parametrize("make", [momentum, nesterov, lambda threat, decay: adam(decay)])
def test_quadratic_losses_are_climbed(make):
    """A top inside the ball is found: with decay below 1 the iterates stay within a few steps of it."""
    threat, step = linf(0.2), 0.003
    top = X + 0.03 * jnp.sign(W)
    tx, delta, seen = make(threat, 0.5), jnp.zeros_like(X), []
    state = tx.init(delta)
    for _ in range(30):
        update, state = tx.update(top - X - looked_ahead(delta, step, state), state, delta)
        delta = threat.project(delta + step * update, X)
        seen.append(float(jnp.max(jnp.abs(X + delta - top))))
    assert min(seen) < step and max(seen[-5:]) < 5 * step


@pytest.mark.parametrize("make", [momentum, nesterov])
def test_no_gradient_no_nan(make):
    zero = jnp.zeros((2, 2, 1))
    for threat in (linf(0.1), l2(0.1), l1(0.1)):
        assert np.all(_follow(make(threat), [zero, zero]) == 0.0)
        assert np.all(np.isfinite(_follow(make(threat), [zero, W, zero])))


def test_they_compose_with_optax(key):
    chained = optax.chain(momentum(linf(0.1)), optax.scale(-1.0))
    np.testing.assert_array_equal(_follow(chained, [W]), -_follow(momentum(linf(0.1)), [W]))


@pytest.mark.parametrize("make", [momentum, nesterov])
def test_bad_decay(make):
    with pytest.raises(ValueError, match=r"decay as a number in \[0, inf\)"):
        make(linf(0.1), -0.5)
