"""The L1 threat: its projection is the nearest point of ball and box, its steps are sparse, linear losses are maximised."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from jaxdiff.attacks import pgd
from jaxdiff.attacks.threats.l1 import l1
from jaxdiff.attacks.threats.threat import linf

SHAPE = (5, 4, 1)
W = jax.random.normal(jax.random.key(7), SHAPE)
INSIDE = jnp.full(SHAPE, 0.5)
CORNERS = jnp.round(jax.random.uniform(jax.random.key(1), SHAPE), 1).at[:2].set(0.0).at[2].set(1.0)
PROJECT = jax.jit(lambda radius, v, x: l1(radius).project(v, x))


def _linear(x, key):
    return jnp.vdot(W, x)


def _size(delta):
    return float(jnp.sum(jnp.abs(delta)))


def _greedy(x, radius):
    """The largest increase of the linear loss: the steepest pixels first, each to the border."""
    room = np.array(jnp.where(W > 0, 1 - x, x)).ravel()
    gain, left = 0.0, radius
    for i in np.argsort(-np.abs(np.array(W).ravel())):
        move = min(room[i], left)
        gain, left = gain + move * abs(float(W.ravel()[i])), left - move
    return gain


@pytest.mark.parametrize("x", [INSIDE, CORNERS], ids=["inside", "corners"])
@pytest.mark.parametrize("radius", [0.01, 0.7, 3.0, 100.0])
@pytest.mark.parametrize("scale", [0.05, 1.0, 30.0])
def test_projection_is_the_nearest_point(x, radius, scale, key, x64):
    """p = P(v) iff <v - p, q - p> <= 0 for all feasible q: here vertices, points on faces, and points inside."""
    x = jnp.asarray(x, jnp.float64)
    v = scale * jax.random.normal(key, SHAPE, jnp.float64)
    p = np.array(PROJECT(radius, v, x))
    assert np.abs(p).sum() <= radius + 1e-12 and (x + p).min() >= 0.0 and (x + p).max() <= 1.0
    rng = np.random.default_rng(0)
    for kind in range(200):
        q = rng.uniform(-1, 1, SHAPE) * (rng.uniform(size=SHAPE) < rng.uniform())
        if kind % 2:
            q = p + 0.1 * q
        q = np.clip(q, -x, 1 - x)
        q = q * min(1.0, radius / max(np.abs(q).sum(), 1e-12))
        assert np.vdot(v - p, q - p) <= 1e-9 * scale
    np.testing.assert_allclose(PROJECT(radius, jnp.asarray(p), x), p, atol=1e-12)


def test_projection_against_brute_force(x64):
    """In three dimensions, a general solver with delta = a - b, a, b >= 0."""
    rng = np.random.default_rng(3)
    for _ in range(12):
        x, v, radius = rng.uniform(size=3), rng.normal(size=3), rng.uniform(0.1, 1.5)
        found = minimize(
            lambda ab: 0.5 * np.sum((ab[:3] - ab[3:] - v) ** 2),
            np.zeros(6),
            jac=lambda ab: np.concatenate([ab[:3] - ab[3:] - v, v - ab[:3] + ab[3:]]),
            bounds=[*((0, 1 - a) for a in x), *((0, a) for a in x)],
            constraints={"type": "ineq", "fun": lambda ab: radius - ab.sum(), "jac": lambda ab: -np.ones(6)},
            method="SLSQP",
            options={"ftol": 1e-14},
        )
        p = PROJECT(radius, jnp.asarray(v)[:, None, None], jnp.asarray(x)[:, None, None])[:, 0, 0]
        np.testing.assert_allclose(p, found.x[:3] - found.x[3:], atol=1e-6)


def test_projection_by_hand(x64):
    """A full pixel gives its share of the radius to the others; what is inside stays as it is, bit for bit."""
    x = jnp.array([0.9, 0.5, 0.5])[:, None, None]
    v = jnp.array([2.0, 0.5, -0.25])[:, None, None]
    np.testing.assert_allclose(PROJECT(0.45, v, x).ravel(), [0.1, 0.3, -0.05], atol=1e-12)
    small = jnp.array([0.05, 0.1, -0.2])[:, None, None]
    np.testing.assert_array_equal(PROJECT(0.45, small, x), small)


def test_large_images_in_single_precision(key):
    """150528 pixels, half of them at the border: feasible to rounding, and twice changes nothing."""
    x = jnp.round(jax.random.uniform(key, (224, 224, 3)))
    v = jax.random.normal(jax.random.key(1), x.shape)
    p = PROJECT(60.0, v, x)
    assert _size(p) == pytest.approx(60.0, rel=1e-5) and jnp.min(x + p) == 0.0 and jnp.max(x + p) == 1.0
    np.testing.assert_allclose(PROJECT(60.0, p, x), p, atol=1e-6)
    # All that moved partly has moved down by the same threshold.
    shift = np.array(jnp.abs(v) - jnp.abs(p))[np.array((p != 0) & (p != jnp.where(v > 0, 1 - x, -x)))]
    assert np.ptp(shift) < 1e-5


def test_random_starts_fill_the_ball():
    """Uniform in two dimensions: the share within half the radius is a quarter, and no quadrant is preferred."""
    x = jnp.full((2, 1, 1), 0.5)
    starts = jax.vmap(lambda k: l1(0.1).init(k, x))(jax.random.split(jax.random.key(0), 20_000))[..., 0, 0]
    sizes = np.abs(starts).sum(1) / 0.1
    assert sizes.max() <= 1 + 1e-6
    assert np.mean(sizes < 0.5) == pytest.approx(0.25, abs=0.02)
    # Given the size, the direction is uniform on the face too.
    assert np.mean(np.abs(starts[:, 0]) / 0.1 < 0.5 * sizes) == pytest.approx(0.5, abs=0.02)
    np.testing.assert_allclose(np.mean(np.array(starts), axis=0), 0.0, atol=0.003)


@pytest.mark.parametrize(("sparsity", "moved"), [(0.01, 1), (0.2, 4), (0.21, 5), (1.0, 20)])
def test_steps_follow_the_largest_coordinates(sparsity, moved):
    direction = lambda g: l1(1.0, sparsity).steepest.update(g, l1(1.0).steepest.init(g))[0]
    d = direction(W)
    largest = np.argsort(-np.abs(np.array(W).ravel()))[:moved]
    expected = np.zeros(W.size)
    expected[largest] = np.sign(np.array(W).ravel()[largest]) / moved
    np.testing.assert_allclose(d.ravel(), expected, rtol=1e-6)
    np.testing.assert_allclose(direction(1e-30 * W), d)
    assert jnp.array_equal(direction(0.0 * W), 0.0 * W)
    if moved == 1:  # the norm's own steepest direction; ties share the step
        own = lambda g: l1(1.0, None).steepest.update(g, l1(1.0).steepest.init(g))[0]
        np.testing.assert_array_equal(own(W), d)
        tie = jnp.zeros(SHAPE).at[1, 2].set(-3.0).at[3, 0].set(3.0).at[0, 0].set(2.9)
        np.testing.assert_array_equal(own(1e-30 * tie), jnp.zeros(SHAPE).at[1, 2].set(-0.5).at[3, 0].set(0.5))
        assert jnp.array_equal(own(0.0 * W), 0.0 * W)
    # Where fewer coordinates have a gradient than may move, the step is as long.
    assert _size(direction(jnp.zeros(SHAPE).at[1, 2].set(-3.0))) == pytest.approx(1.0)


def test_linear_losses_are_maximised(key):
    """Away from the box all is on one pixel; at the box full pixels give way to the next steepest ones."""
    attack = jax.jit(lambda radius, x: pgd(l1(radius, sparsity=0.05), radius / 100, 400)(_linear, x, key))
    np.testing.assert_allclose(
        _linear(attack(0.4, INSIDE) - INSIDE, key), 0.4 * jnp.max(jnp.abs(W)), rtol=1e-5
    )
    best = _greedy(CORNERS, 2.0)
    assert 0.98 * best <= _linear(attack(2.0, CORNERS) - CORNERS, key) <= best * (1 + 1e-5)


def test_apply_is_addition_with_the_derivative_inside_the_box():
    x = jnp.array([1.0, 1.0, 0.0, 0.0, 0.3])[:, None, None]
    g = jnp.array([1.0, -1.0, 1.0, -1.0, -2.0])[:, None, None]
    out, back = jax.vjp(lambda d: l1(1.0).apply(x, d), jnp.zeros_like(x))
    np.testing.assert_array_equal(out, x)
    np.testing.assert_array_equal(back(g)[0].ravel(), [0.0, -1.0, 1.0, 0.0, -2.0])


def test_feasible_for_wild_losses(key):
    """In box and ball for wild and NaN gradients, with one compiled attack for all radii; radius 0 is the identity."""

    def wild(x, key):
        return 1e3 * jnp.sum(jnp.sin(50 * x)) + jnp.where(jax.random.bernoulli(key), 1.0, jnp.nan) * jnp.sum(
            x
        )

    x = jnp.round(jax.random.uniform(key, (8, *SHAPE)), 1)
    keys = jax.random.split(key, 8)
    attack = jax.jit(jax.vmap(lambda r, x, k: pgd(l1(r, sparsity=0.3), 0.5, 5)(wild, x, k), (None, 0, 0)))
    for radius in (0.1, 0.8, 6.0):
        x_adv = attack(radius, x, keys)
        assert jnp.min(x_adv) >= 0.0 and jnp.max(x_adv) <= 1.0
        sizes = jnp.sum(jnp.abs(x_adv - x), axis=(1, 2, 3))
        assert jnp.max(sizes) <= radius * (1 + 1e-5) and jnp.min(sizes) > min(0.1, 0.5 * radius)
    assert jnp.array_equal(attack(0.0, x, keys), x)


def test_alone_as_in_company(key):
    x = jnp.round(jax.random.uniform(key, (5, *SHAPE)), 1)
    v = jax.random.normal(key, x.shape)
    batched = jax.jit(jax.vmap(l1(0.8).project))(v, x)
    np.testing.assert_allclose(batched[3], PROJECT(0.8, v[3], x[3]), atol=1e-7)


def test_planes_are_the_nearest_in_its_norm():
    """Away from the box the L1 distance to <w, delta> = c is |c| / max|w|; of all norms it is the largest."""
    delta = l1(1.0).to_plane(INSIDE, W, jnp.asarray(0.3))
    assert float(jnp.vdot(W, delta)) == pytest.approx(0.3, rel=1e-5)
    assert _size(delta) == pytest.approx(0.3 / float(jnp.max(jnp.abs(W))), rel=1e-5)
    assert _size(delta) <= _size(linf(1.0).to_plane(INSIDE, W, jnp.asarray(0.3)))


@pytest.mark.parametrize("make", [lambda: l1(-1.0), lambda: l1(1.0, 0.0), lambda: l1(1.0, sparsity=1.5)])
def test_bad_arguments(make):
    with pytest.raises(ValueError, match="got"):
        make()
