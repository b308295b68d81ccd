"""Universal perturbations of linear classifiers: the best delta is known, and so is whom it fools."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from rows import slow_but

from jaxdiff.attacks import cross_entropy, directions, l2, linf, margin
from jaxdiff.attacks.universal import (
    apply_universal,
    fooling_rate,
    universal_deepfool,
    universal_pgd,
    universal_step,
)

SHAPE = (3, 2, 1)
W = jnp.array([0.9, -1.1, 0.4, 1.3, -0.5, 0.7]).reshape(SHAPE)
N = 40
THREATS = {"linf": linf, "l2": l2}


def _side(x, key):
    """Two classes on the two sides of a plane through mid-grey."""
    return jnp.array([-0.5, 0.5]) * jnp.vdot(W, x - 0.5)


def _images(key, n=N):
    x = 0.5 + 0.1 * jax.random.normal(key, (n, *SHAPE))
    return jnp.clip(x, 0.2, 0.8)


def _labels(x):
    return jax.vmap(lambda x: jnp.argmax(_side(x, None)))(x)


def _distances(x, norm=2):
    """Signed distance to the plane in the given norm, in units of that norm's perturbations."""
    dual = {2: jnp.linalg.norm(W), np.inf: jnp.sum(jnp.abs(W))}[norm]
    return jnp.tensordot(x - 0.5, W, 3) / dual


def _minimal(classifier, x, y, key):
    """The smallest L2 perturbation to the other side, and a little beyond."""
    gap = jnp.vdot(W, x - 0.5)
    return x - (1.001 * gap + 1e-5 * jnp.sign(gap)) * W / jnp.sum(W**2)


def _one_class(key):
    x = _images(key)
    return jnp.where((_labels(x) == 1)[:, None, None, None], x, 1.0 - x), jnp.ones((N,), jnp.int32)


def _batches(x, y, steps):
    return jnp.stack([x] * steps), jnp.stack([y] * steps)


@pytest.mark.parametrize("threat", slow_but(THREATS, "linf"))
def test_pgd_finds_the_common_direction(threat, key):
    """Against one class of a linear model delta is -radius sign(w), or -radius w / |w|, and fools whoever is nearer."""
    x, y = _one_class(key)
    radius = float(jnp.median(_distances(x, np.inf if threat == "linf" else 2)))
    limits = THREATS[threat](radius)
    delta, losses = universal_pgd(limits, margin(), radius / 3)(_side, *_batches(x, y, 6), key)
    best = -radius * (jnp.sign(W) if threat == "linf" else W / jnp.linalg.norm(W))
    np.testing.assert_allclose(delta, best, atol=1e-5)
    assert losses[0] < losses[-1]
    assert float(fooling_rate(limits, delta, _side, x, y, key)) == pytest.approx(0.5, abs=1 / N)


def test_majority_decides(key):
    """No delta fools both classes of a linear model: with 3 of 4 images in class 1, those fall and the others stand."""
    x, _ = _one_class(key)
    x = x.at[: N // 4].set(1.0 - x[: N // 4])
    y = _labels(x)
    limits = linf(0.3)
    delta, _ = universal_pgd(limits, margin(), 0.1)(_side, *_batches(x, y, 5), key)
    np.testing.assert_allclose(delta, -0.3 * jnp.sign(W), atol=1e-5)
    assert fooling_rate(limits, delta, _side, x, y, key) == pytest.approx(0.75)


def test_clipped_losses_stop_pulling(key):
    """With the margin clipped at 0 images that are lost already have no say, and the others get what they need."""
    offsets = jnp.array([-0.2, -0.2, -0.2, -0.03, -0.03]).reshape(5, 1, 1, 1)
    x = 0.5 + offsets * jnp.sign(W)[None]
    y = jnp.array([1, 1, 1, 0, 0])
    rates = []
    for clip in (jnp.inf, 0.0):
        delta, _ = universal_pgd(linf(0.1), margin(), 0.02, float(clip))(_side, *_batches(x, y, 6), key)
        rates.append(float(fooling_rate(linf(0.1), delta, _side, x, y, key)))
    np.testing.assert_allclose(rates, [0.6, 1.0], rtol=1e-6)


def test_deepfool_stops_at_the_farthest_image(key):
    """In one class of a linear model every addition only moves on along w: |delta| ends as the largest distance."""
    x, y = _one_class(key)
    delta, rates = universal_deepfool(l2(2.0), _minimal, passes=2, rate=1.0)(_side, x, y, key)
    np.testing.assert_allclose(jnp.linalg.norm(delta), jnp.max(_distances(x)), rtol=3e-3)
    np.testing.assert_allclose(-jnp.vdot(delta, W), jnp.linalg.norm(delta) * jnp.linalg.norm(W), rtol=1e-5)
    assert rates[0] == rates[1] == 1.0


def test_deepfool_within_a_ball_fools_whom_the_ball_reaches(key):
    """The share of images nearer than the radius, and so monotone in the radius."""
    x, y = _one_class(key)
    distances = jnp.sort(_distances(x))
    radii = (distances[9] + distances[10]) / 2, (distances[29] + distances[30]) / 2
    reached = []
    for radius in radii:
        run = universal_deepfool(l2(radius), _minimal, passes=1, rate=1.0)
        delta, rates = run(_side, x, y, key)
        assert jnp.linalg.norm(delta) <= radius + 1e-6
        reached.append(float(rates[-1]))
    assert reached == [10 / N, 30 / N]


def test_deepfool_stops_at_the_rate_and_is_a_function_of_the_key(key):
    x, y = _one_class(key)
    run = jax.jit(lambda key: universal_deepfool(l2(2.0), _minimal, 3, 0.5, batch_size=7)(_side, x, y, key))
    delta, rates = run(key)
    assert rates[0] == 1.0
    assert jnp.array_equal(run(key)[0], delta)
    unneeded = universal_deepfool(l2(2.0), lambda *a: jnp.full_like(x[0], jnp.nan), 1, 0.5)
    assert jnp.array_equal(unneeded(_side, x, 1 - y, key)[0], jnp.zeros(SHAPE))  # all are fooled already
    assert jnp.array_equal(unneeded(_side, x, y, key)[0], jnp.zeros(SHAPE))  # no number counts as no step


@pytest.mark.parametrize("threat", slow_but(THREATS, "l2"))
def test_feasible_for_every_image(threat, key):
    """One delta, and per image inside ball and box; radius 0 is the identity."""
    x = jnp.round(jax.random.uniform(key, (12, *SHAPE)), 1)
    y = _labels(x)
    wild = lambda x, key: jnp.array([1.0, -1.0]) * jnp.sum(jnp.sin(50 * x))
    for radius in (0.15, 0.0):
        limits = THREATS[threat](radius)
        run = universal_pgd(limits, cross_entropy(), 0.2, tx=optax.scale_by_adam())
        delta, _ = jax.jit(lambda x, y: run(wild, x, y, key))(*_batches(x, y, 4))
        x_adv = jax.vmap(lambda x, y: apply_universal(delta, limits)(wild, x, y, key))(x, y)
        assert jnp.min(x_adv) >= 0.0 and jnp.max(x_adv) <= 1.0
        assert jnp.max(jax.vmap(limits.norm)(x_adv - x)) <= radius + 1e-6
        assert radius > 0.0 or jnp.array_equal(x_adv, x)
        moved = jnp.all((x > 0.2) & (x < 0.8), axis=(1, 2, 3))
        np.testing.assert_allclose((x_adv - x)[moved], jnp.stack([delta] * 12)[moved], atol=1e-6)
        assert (jnp.max(jnp.abs(delta)) > 0.01) == (radius > 0.0)


@pytest.mark.parametrize("arguments", [{"passes": 0}, {"rate": 0.0}, {"rate": 1.5}])
def test_bad_arguments(arguments):
    with pytest.raises(ValueError, match="got"):
        universal_deepfool(l2(1.0), _minimal, **arguments)


def test_nesterov_is_refused():
    """Its lookahead lies outside the ball, where the projection at every image would undo it."""
    ball = linf(0.1)
    with pytest.raises(ValueError, match="nesterov: take momentum"):
        universal_step(ball, cross_entropy(), 0.02, tx=directions.nesterov(ball)).init(jnp.zeros(SHAPE))


def test_deepfool_visits_every_image_once_a_pass_in_an_order_of_its_own():
    visited = []

    def idle(classifier, x, y, key):
        jax.debug.callback(lambda x: visited.append(round(8 * float(x[0]))), x, ordered=True)
        return x

    x = jnp.arange(8.0)[:, None] / 8 * jnp.ones((8, 3))
    never = lambda x, key: jnp.array([1.0, 0.0]) + 0.0 * jnp.sum(x)
    run = jax.jit(lambda key: universal_deepfool(l2(1.0), idle, passes=3)(never, x, jnp.zeros(8, int), key))
    jax.block_until_ready(run(jax.random.key(0)))
    jax.effects_barrier()
    passes = np.array(visited).reshape(3, 8)
    np.testing.assert_array_equal(np.sort(passes, axis=1), np.broadcast_to(np.arange(8), (3, 8)))
    assert len({tuple(order) for order in [*passes.tolist(), list(range(8))]}) == 4
