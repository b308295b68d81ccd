"""Projections onto a hyperplane inside the box, against linear and quadratic programming and the conditions of optimality."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linprog, minimize

from jaxdiff.attacks.threats.planes import free, plane_l1, plane_l2, plane_linf

PLANES = {"linf": plane_linf, "l2": plane_l2, "l1": plane_l1}
ORDER = {"linf": np.inf, "l2": 2, "l1": 1}
DUAL = {"linf": 1, "l2": 2, "l1": np.inf}
SHAPE = (3, 2, 2)  # not square
each_norm = pytest.mark.parametrize("norm", PLANES)


def _problems(n, reach):
    """Random images with a third of their pixels at the border, and planes at `reach` of what the box lets."""
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(n, *SHAPE))
    x = np.where(rng.uniform(size=x.shape) < 0.3, np.round(x), x).astype(np.float32)
    w = rng.normal(size=x.shape).astype(np.float32)
    side = rng.choice([-1.0, 1.0], size=n)
    room = np.where(side[:, None, None, None] * w > 0, 1 - x, x)
    c = side * reach * np.sum(np.abs(w) * room, axis=(1, 2, 3))
    return x, w, c.astype(np.float32)


def _solved(norm, x, w, c):
    delta = np.asarray(jax.jit(jax.vmap(PLANES[norm]))(x, w, c))
    assert np.min(x + delta) >= 0.0 and np.max(x + delta) <= 1.0
    return delta


def _exact(norm, x, w, c):
    """The least norm in float64, by scipy."""
    x, w, d = x.ravel().astype(float), w.ravel().astype(float), x.size
    if norm == "l2":
        plane = {"type": "eq", "fun": lambda v: v @ w - c, "jac": lambda v: w}
        bounds = list(zip(-x, 1 - x, strict=True))
        found = minimize(
            lambda v: v @ v,
            np.zeros(d),
            jac=lambda v: 2 * v,
            bounds=bounds,
            constraints=plane,
            tol=1e-12,
            options={"maxiter": 1000},
        )
        return np.sqrt(found.fun)
    # delta = u - v with u, v >= 0; L1 minimises their sum, L-infinity a bound on each.
    ends = [*(1 - x), *x]
    if norm == "l1":
        return linprog(np.ones(2 * d), A_eq=[[*w, *-w]], b_eq=[c], bounds=[(0, end) for end in ends]).fun
    below = np.hstack([np.eye(2 * d), -np.ones((2 * d, 1))])
    limits = [(0, end) for end in ends] + [(0, None)]
    cost = np.eye(2 * d + 1)[-1]
    return linprog(cost, below, np.zeros(2 * d), [[*w, *-w, 0]], [c], bounds=limits).fun


@each_norm
@pytest.mark.parametrize("reach", [0.05, 0.4, 0.9])
def test_least_norm_by_mathematical_programming(norm, reach):
    x, w, c = _problems(8, reach)
    delta = _solved(norm, x, w, c)
    np.testing.assert_allclose(np.sum(delta * w, axis=(1, 2, 3)), c, rtol=3e-6)
    lengths = [np.linalg.norm(d.ravel(), ORDER[norm]) for d in delta]
    np.testing.assert_allclose(lengths, [_exact(norm, *p) for p in zip(x, w, c, strict=True)], rtol=2e-6)


@each_norm
def test_out_of_reach_is_the_nearest_corner(norm):
    x, w, c = _problems(8, 1.5)
    delta = _solved(norm, x, w, c)
    corner = (np.sign(w) * np.sign(c)[:, None, None, None] > 0).astype(np.float32)
    np.testing.assert_array_equal(x + delta, corner)
    endless = jax.jit(PLANES[norm])(x[0], w[0], jnp.inf * np.sign(c[0]))
    np.testing.assert_array_equal(endless, delta[0])


@each_norm
def test_without_the_box_the_distance_is_by_the_dual_norm(norm):
    """|delta| = |c| / |w|_dual (Hoelder), from `free` anywhere and from the projection in the middle of the box."""
    w = jax.random.normal(jax.random.key(2), SHAPE)
    dual = np.linalg.norm(np.ravel(w), DUAL[norm])
    for c in (-100.0, 0.05):
        delta = jax.jit(lambda w, c: free(PLANES[norm], w, c))(w, c)
        assert np.sum(delta * w) == pytest.approx(c, rel=1e-5)
        assert np.linalg.norm(np.ravel(delta), ORDER[norm]) == pytest.approx(abs(c) / dual, rel=1e-5)
    middle = jax.jit(PLANES[norm])(jnp.full(SHAPE, 0.5), w, 0.05)
    np.testing.assert_allclose(middle, delta, rtol=1e-4, atol=1e-8)


@each_norm
def test_edge_cases(norm):
    """Nothing to do is 0; a plane without a normal, or an unknown one, moves nothing; scales do not matter."""
    plane = jax.jit(PLANES[norm])
    x, w, c = (a[0] for a in _problems(1, 0.3))
    for normal, level in [(0 * w, c), (w, 0 * c), (0 * w, 0 * c), (w, c * jnp.nan)]:
        np.testing.assert_array_equal(plane(x, normal, level), 0 * x)
    sparse = np.where(np.arange(w.size).reshape(SHAPE) % 2, w, 0)
    assert np.all(np.asarray(plane(x, sparse, jnp.inf))[sparse == 0] == 0)
    for scale in (np.float32(1e-30), np.float32(1e30)):
        np.testing.assert_allclose(plane(x, scale * w, scale * c), plane(x, w, c), rtol=1e-4, atol=1e-7)
    wide = (10.0 ** np.linspace(-20, 0, w.size)).astype(np.float32).reshape(SHAPE)
    assert np.all(np.isfinite(plane(x, wide, jnp.asarray(3e38))))
