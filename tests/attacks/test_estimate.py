"""Estimated gradients: their moments on a linear loss are known, and the ascents pay for every evaluation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rows import slow_but

from jaxdiff.attacks import directions, l2, linf, margin, pgd, untargeted
from jaxdiff.attacks.queries.estimate import nes, nes_gradient, spsa

SHAPE = (4, 3, 1)
D = 12
W = jax.random.normal(jax.random.key(7), SHAPE)
INSIDE = jnp.full(SHAPE, 0.5)
RADIUS = 0.1
DRAWS = {"normal": (jax.random.normal, 1), "rademacher": (jax.random.rademacher, -1)}
ASCENTS = {
    "nes": lambda threat: nes(threat, 0.05, budget=1000, samples=12, sigma=0.05),
    "spsa": lambda threat: spsa(threat, 0.05, budget=1000, samples=12),
}
THREATS = {"linf": linf, "l2": l2}


def _linear(x, key):
    return jnp.vdot(W, x)


def _counted(f):
    """f and the list that grows by one with every evaluation."""
    calls = []

    def counting(x, key):
        jax.debug.callback(lambda _: calls.append(1), x)
        return f(x, key)

    return counting, calls


@pytest.mark.parametrize("draw", DRAWS)
def test_unbiased_on_a_linear_loss(draw, key):
    """The mean of n independent directions is the gradient, up to its standard error."""
    n = 20_000
    estimate = jax.jit(lambda key: nes_gradient(_linear, INSIDE, key, n, 0.1, DRAWS[draw][0]))(key)
    # Var(<w, u> u_i) = |w|^2 + w_i^2 for normal u, |w|^2 - w_i^2 for signs.
    z = (estimate - W) / jnp.sqrt((jnp.sum(W**2) + DRAWS[draw][1] * W**2) / n)
    assert jnp.max(jnp.abs(z)) < 3.5
    assert 0.3 < jnp.mean(z**2) < 2.2


def test_one_pixel_and_signs_are_pgd(key):
    """In one dimension a difference along a sign is the exact gradient of a quadratic: the iterates are those of `pgd`."""
    x, threat, lr = jnp.full((1, 1, 1), 0.5), linf(0.3), 0.02
    loss = lambda x, key: jnp.sum(0.55 * x - 0.5 * x**2)
    ends = {}
    for name in ("momentum", "nesterov"):
        tx = getattr(directions, name)(threat, 0.9)
        ascent = nes(threat, lr, 3 * 9, samples=1, sigma=0.1, tx=tx, draw=jax.random.rademacher)
        state, problem = ascent.init((loss, x, key)), (loss, x, key)
        for i in range(9):
            state = ascent.step(problem, state, i)
        ends[name] = float(x[0, 0, 0] + state[0][0, 0, 0])
        exact = pgd(threat, lr, 9, random_start=False, tx=tx)(loss, x, key)
        np.testing.assert_allclose(ends[name], exact, atol=1e-5)
    assert abs(ends["momentum"] - ends["nesterov"]) > 0.01


@pytest.mark.parametrize("draw, n", [("normal", 16), ("rademacher", 4)])
def test_length_and_angle_follow_theory(draw, n, key):
    """E<g, w> = |w|^2 and E|g|^2 = |w|^2 (n + d +- 1) / n, so that the cosine grows with n."""
    one = lambda key: nes_gradient(_linear, INSIDE, key, n, 0.1, DRAWS[draw][0])
    g = jax.jit(jax.vmap(one))(jax.random.split(key, 4000)).reshape(4000, D)
    square = jnp.sum(W**2)
    expected = (n + D + DRAWS[draw][1]) / n
    np.testing.assert_allclose(jnp.mean(g @ W.ravel()) / square, 1.0, rtol=0.05)
    np.testing.assert_allclose(jnp.mean(jnp.sum(g**2, axis=1)) / square, expected, rtol=0.06)
    cosine = jnp.mean((g @ W.ravel()) ** 2 / jnp.sum(g**2, axis=1)) / square
    assert cosine == pytest.approx(1 / expected, abs=0.12)


def test_values_only(key):
    """A quantised loss has no gradient: pgd stands still, nes climbs. A loss that is not a number gives 0, not NaN."""
    steps = lambda x, key: jnp.round(5 * jnp.vdot(W, x)) / 5
    stuck = pgd(linf(RADIUS), 0.02, 20, random_start=False)(steps, INSIDE, key)
    climbed = jax.jit(lambda key: nes(linf(RADIUS), 0.02, 1000, samples=24, sigma=0.2)(steps, INSIDE, key))(
        key
    )
    assert jnp.array_equal(stuck, INSIDE)
    assert _linear(climbed - INSIDE, key) > 0.8 * RADIUS * jnp.sum(jnp.abs(W))
    nan = lambda x, key: jnp.where(jnp.vdot(W, x - INSIDE) > 0.1, jnp.nan, jnp.vdot(W, x))
    edge = lambda x, key: nan(x + 0.0999 * W / jnp.sum(W**2), key)  # some probes fall off
    gradient = jax.jit(lambda key: nes_gradient(edge, INSIDE, key, 50))(key)
    assert jnp.all(jnp.isfinite(gradient)) and jnp.vdot(gradient, W) > 0.0
    found = jax.jit(lambda key: nes(linf(RADIUS), 0.01, 200, samples=5).run(nan, INSIDE, key))(key)
    assert jnp.all(jnp.isfinite(found.x)) and _linear(INSIDE, key) < found.loss == _linear(found.x, key)


@pytest.mark.parametrize("threat", THREATS)
@pytest.mark.parametrize("ascent", ASCENTS)
def test_linear_loss_is_nearly_maximised(threat, ascent, key):
    """The optimum is radius times the dual norm; Adam's steps are no L2 steps and stop a little before."""
    best = RADIUS * (jnp.sum(jnp.abs(W)) if threat == "linf" else jnp.linalg.norm(W))
    attack = ASCENTS[ascent](THREATS[threat](RADIUS))
    found = jax.jit(lambda key: attack.run(_linear, INSIDE, key))(key)
    share = 0.9 if (threat, ascent) != ("l2", "spsa") else 0.75
    assert share * best < _linear(found.x - INSIDE, key) <= best + 1e-5
    np.testing.assert_allclose(found.loss, _linear(found.x, key), rtol=1e-5)


def test_budget_is_counted_and_kept(key):
    budget = 20
    loss, calls = _counted(_linear)
    attack = nes(linf(RADIUS), 0.05, budget, samples=3, batch_size=2)  # 7 a step
    queries = int(attack.run(loss, INSIDE, key).queries)
    jax.effects_barrier()
    assert queries == len(calls) <= budget < len(calls) + 7


@pytest.mark.parametrize("threat", slow_but(THREATS, "l2"))
def test_feasible_for_wild_losses(threat, key):
    wild = lambda x, key: 1e3 * jnp.sum(jnp.sin(50 * x)) / jnp.sum(jnp.floor(9 * x))
    x = jnp.round(jax.random.uniform(key, (6, *SHAPE)), 1)
    keys = jax.random.split(key, 6)

    @jax.jit
    @jax.vmap
    def attack(x, key, radius):
        return nes(THREATS[threat](radius), 0.1, 100, samples=4, random_start=True)(wild, x, key)

    x_adv = attack(x, keys, jnp.full((6,), RADIUS))
    assert jnp.min(x_adv) >= 0.0 and jnp.max(x_adv) <= 1.0
    norms = jax.vmap(THREATS[threat](RADIUS).norm)(x_adv - x)
    assert jnp.max(norms) <= RADIUS + 1e-6 and jnp.min(norms) > 0.01
    assert jnp.array_equal(attack(x, keys, jnp.zeros((6,))), x)


def test_vmap_is_a_loop(key):
    smooth = lambda x, key: jnp.vdot(W, jnp.sin(x))
    attack = jax.jit(lambda x, key: nes(l2(RADIUS), 0.1, 60, samples=4)(smooth, x, key))
    x, keys = jax.random.uniform(key, (3, *SHAPE)), jax.random.split(key, 3)
    batched = jax.vmap(attack)(x, keys)
    np.testing.assert_allclose(
        batched, jnp.stack([attack(*pair) for pair in zip(x, keys, strict=True)]), atol=2e-6
    )


def test_as_an_attack_it_wins_beyond_the_margin(key):
    weights = jax.random.normal(key, (3, D))
    classifier = lambda x, key: weights @ x.ravel()
    y = jnp.argmax(classifier(INSIDE, key))
    gaps = weights[y][None] - jnp.delete(weights, y, axis=0, assume_unique_indices=True)
    minimal = jnp.min(gaps @ INSIDE.ravel() / jnp.sum(jnp.abs(gaps), axis=1))

    @jax.jit
    def attack(radius):
        return untargeted(nes(linf(radius), 0.05, 2000, samples=24), margin()).run(classifier, INSIDE, y, key)

    for factor, wins in ((0.95, False), (1.2, True)):
        found = attack(factor * minimal)
        assert bool(found.won) is wins and bool(jnp.argmax(classifier(found.x, key)) != y) is wins


@pytest.mark.parametrize(
    "make",
    [
        lambda: nes(linf(0.1), 0.1, budget=20, samples=10),
        lambda: nes(linf(0.1), 0.1, budget=100, samples=0),
        lambda: nes(linf(0.1), 0.1, budget=100, samples=5, sigma=0.0),
        lambda: nes(linf(0.1), -0.1, budget=100, samples=5),
        lambda: spsa(linf(0.1), 0.1, budget=100),
    ],
)
def test_bad_arguments(make):
    with pytest.raises(ValueError, match="got"):
        make()
