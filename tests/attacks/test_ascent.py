"""Threats and ascents: on linear losses the optimum is known; feasibility and identities are exact."""

import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from rows import slow_but

from jaxdiff.attacks import fgsm, l1, l2, linf, pgd

RADIUS = 0.1
THREATS = {"linf": linf, "l2": l2}
ASCENTS = {
    "fgsm": lambda threat: fgsm(threat, lr=1.0),
    "pgd": lambda threat: pgd(threat, lr=0.05, steps=60),
    "pgd_best": lambda threat: pgd(threat, lr=0.05, steps=60, keep_best=True),
    "pgd_momentum": lambda threat: pgd(
        threat, lr=0.02, steps=60, tx=optax.chain(optax.trace(0.9), threat.steepest)
    ),
    "pgd_adam": lambda threat: pgd(threat, lr=0.05, steps=200, random_start=False, tx=optax.scale_by_adam()),
}
W = jax.random.normal(jax.random.key(7), (4, 4, 1))
INSIDE = jnp.full((4, 4, 1), 0.5)  # no pixel is near the box


def _linear(x, key):
    return jnp.vdot(W, x)


def _norm(name, delta):
    return jnp.max(jnp.abs(delta)) if name == "linf" else jnp.linalg.norm(delta)


@pytest.mark.parametrize("threat", THREATS)
@pytest.mark.parametrize("ascent", ASCENTS)
def test_linear_loss_is_maximised(threat, ascent, key):
    """The largest increase of a linear loss is radius times the dual norm of its gradient."""
    if threat == "l2" and ascent == "pgd_adam":
        pytest.skip(
            "Adam's direction is not the gradient's: under L2 it stops at another point of the sphere"
        )
    best = RADIUS * (jnp.sum(jnp.abs(W)) if threat == "linf" else jnp.linalg.norm(W))
    x_adv = ASCENTS[ascent](THREATS[threat](RADIUS))(_linear, INSIDE, key)
    np.testing.assert_allclose(_linear(x_adv - INSIDE, key), best, rtol=2e-3)


@pytest.mark.parametrize("ascent", ASCENTS)
def test_linf_optimum_at_the_box(ascent, key):
    """Pixels at the border move as far as the box lets them."""
    x = jnp.where(jax.random.bernoulli(key, 0.5, W.shape), 0.97, 0.02)
    expected = jnp.where(W > 0, jnp.minimum(RADIUS, 1 - x), -jnp.minimum(RADIUS, x))
    x_adv = ASCENTS[ascent](linf(RADIUS))(_linear, x, key)
    np.testing.assert_allclose(x_adv - x, expected, atol=1e-6)


# Every ascent once, every threat more than once.
QUICK = [
    ("fgsm", "l2"),
    ("pgd", "linf"),
    ("pgd_best", "l2"),
    ("pgd_momentum", "l2"),
    ("pgd_adam", "linf"),
]


@pytest.mark.parametrize(("ascent", "threat"), slow_but(itertools.product(ASCENTS, THREATS), *QUICK))
def test_feasible_for_wild_losses(threat, ascent, key):
    """No image leaves the ball by more than rounding, or the box at all."""
    wild = lambda x, key: 1e3 * jnp.sum(jnp.sin(50 * x)) + jax.random.normal(key) * jnp.sum(x)
    attack = ASCENTS[ascent](THREATS[threat](RADIUS))
    x = jnp.round(jax.random.uniform(key, (16, 4, 4, 1)), 1)
    x_adv = jax.jit(jax.vmap(lambda x, k: attack(wild, x, k)))(x, jax.random.split(key, 16))
    assert jnp.min(x_adv) >= 0.0 and jnp.max(x_adv) <= 1.0
    norms = jax.vmap(lambda d: _norm(threat, d))(x_adv - x)
    assert jnp.max(norms) <= RADIUS + 1e-6
    assert jnp.min(norms) > 0.01


@pytest.mark.parametrize("threat", THREATS)
@pytest.mark.parametrize("ascent", ASCENTS)
def test_radius_zero_is_the_identity(threat, ascent, key):
    x = jax.random.uniform(key, (4, 4, 1))
    assert jnp.array_equal(ASCENTS[ascent](THREATS[threat](0.0))(_linear, x, key), x)


@pytest.mark.parametrize("threat", THREATS)
def test_projection_is_the_nearest_point_of_the_ball(threat, key):
    """For a convex set p = P(v) iff <v - p, q - p> <= 0 for all q in it; and projecting twice changes nothing."""
    limits = THREATS[threat](RADIUS)
    v = jax.random.normal(key, W.shape)
    p = limits.project(v, INSIDE)
    for k in jax.random.split(key, 50):
        q = limits.project(limits.init(k, INSIDE), INSIDE)
        assert jnp.vdot(v - p, q - p) <= 1e-6
    np.testing.assert_allclose(limits.project(p, INSIDE), p, atol=1e-8)
    inner = 0.1 * p
    np.testing.assert_array_equal(limits.project(inner, INSIDE), inner)


@pytest.mark.parametrize("threat", THREATS)
def test_random_starts_fill_the_ball(threat):
    limits = THREATS[threat](RADIUS)
    x = jnp.full((2, 1, 1), 0.5)
    starts = jax.vmap(lambda k: limits.init(k, x))(jax.random.split(jax.random.key(0), 20_000))[..., 0, 0]
    norms = np.array(jax.vmap(lambda d: _norm(threat, d))(starts)) / RADIUS
    assert norms.max() <= 1 + 1e-6
    # Uniform in two dimensions: the share within half the radius is a quarter.
    assert np.mean(norms < 0.5) == pytest.approx(0.25, abs=0.02)
    np.testing.assert_allclose(np.mean(starts, axis=0), 0.0, atol=0.003)


@pytest.mark.parametrize("threat", THREATS)
def test_steepest_is_scale_invariant_and_finite(threat):
    steepest = THREATS[threat](RADIUS).steepest
    direction = lambda g: steepest.update(g, steepest.init(g))[0]
    np.testing.assert_allclose(direction(1e-30 * W), direction(W), rtol=1e-4)
    assert jnp.array_equal(direction(0.0 * W), 0.0 * W)
    np.testing.assert_allclose(_norm(threat, direction(W)), 1.0, rtol=1e-6)


def test_clip_form_of_fgsm(key):
    """x + clip(lr g, -radius, radius): small gradients move little."""
    x_adv = fgsm(linf(RADIUS), lr=0.05, form="clip")(_linear, INSIDE, key)
    np.testing.assert_allclose(x_adv - INSIDE, np.clip(0.05 * W, -RADIUS, RADIUS), atol=1e-6)


@pytest.mark.parametrize(("make", "dual"), [(linf, 1), (l2, 2), (lambda r: l1(r, sparsity=None), np.inf)])
def test_one_step_is_the_best_of_a_linear_loss(make, dual, key):
    """Away from the box `fgsm` with lr = radius gains radius |w|_dual, in every norm; a tie shares the step."""
    w = W.at[0, 0].set(3.0).at[1, 1].set(-3.0)
    x_adv = fgsm(make(RADIUS), lr=RADIUS)(lambda x, key: jnp.vdot(w, x), INSIDE, key)
    best = RADIUS * np.linalg.norm(np.ravel(w), dual)
    np.testing.assert_allclose(jnp.vdot(w, x_adv - INSIDE), best, rtol=1e-5)
    assert x_adv[0, 0, 0] - INSIDE[0, 0, 0] == pytest.approx(
        float(INSIDE[1, 1, 0] - x_adv[1, 1, 0]), abs=1e-7
    )


def test_keep_best_never_returns_less(key):
    """The best iterate of an oscillating ascent is at least as high as the last, and as any start."""
    bumpy = lambda x, key: jnp.sum(jnp.cos(40 * (x - 0.53)))
    last, best = (pgd(linf(RADIUS), lr=0.09, steps=7, keep_best=b)(bumpy, INSIDE, key) for b in (False, True))
    assert bumpy(best, key) > bumpy(last, key)


def test_a_nan_never_wins(key):
    broken = lambda x, key: jnp.where(x[0, 0, 0] > 0.52, jnp.nan, jnp.sum(x))
    x_adv = pgd(linf(RADIUS), lr=0.01, steps=10, random_start=False, keep_best=True)(broken, INSIDE, key)
    assert jnp.isfinite(broken(x_adv, key)) and jnp.sum(x_adv) > jnp.sum(INSIDE)


@pytest.mark.parametrize("threat", slow_but(THREATS, "l2"))
def test_vmap_is_a_loop_and_traces_once(threat, key):
    attack = ASCENTS["pgd"](THREATS[threat](RADIUS))
    curved = lambda x, key: jnp.sum(jnp.sin(5 * x) * W) + 0.1 * jax.random.normal(key)
    x = jax.random.uniform(key, (5, 4, 4, 1))
    keys = jax.random.split(key, 5)
    chex.clear_trace_counter()
    batched = jax.jit(jax.vmap(chex.assert_max_traces(lambda x, k: attack(curved, x, k), n=1)))
    looped = jnp.stack([attack(curved, x[i], keys[i]) for i in range(5)])
    np.testing.assert_allclose(batched(x, keys), looped, atol=1e-6)
    # Neither the order nor the company of an example matters.
    order = np.array([4, 2, 0, 1, 3])
    np.testing.assert_array_equal(batched(x[order], keys[order]), batched(x, keys)[order])


def test_radius_may_be_traced(key):
    """One compiled attack serves a whole curve of radii, and gives what a fixed radius gives."""
    attack = lambda radius: pgd(linf(radius), radius / 4, 10)(_linear, INSIDE, key)
    np.testing.assert_allclose(jax.jit(attack)(0.1), attack(0.1), atol=1e-7)


@pytest.mark.parametrize(
    "make",
    [
        lambda: linf(-0.1),
        lambda: l2(float("nan")),
        lambda: pgd(linf(0.1), 0.1, 0),
        lambda: pgd(linf(0.1), -0.1, 1),
        lambda: fgsm(linf(0.1), 0.1, form="sing"),
    ],
)
def test_bad_arguments(make):
    with pytest.raises(ValueError, match=r"got|Known"):
        make()
