"""Decision-based attacks on linear models: they approach the nearest point of another class, from outside, within budget."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rows import slow_but

from jaxdiff.attacks import l2, linf
from jaxdiff.attacks.pool import pooled
from jaxdiff.attacks.queries.boundary import boundary
from jaxdiff.attacks.queries.hop_skip_jump import hop_skip_jump

SHAPE = (4, 6, 2)
W = jax.random.normal(jax.random.key(3), (3, 48))
X = jnp.clip(0.5 + 0.1 * jax.random.normal(jax.random.key(5), (4, *SHAPE)), 0.1, 0.9)
Y = jnp.argmax(jnp.einsum("kd,nd->nk", W, X.reshape(4, 48)), axis=1)
BUDGET = 2500
# How near to the optimum each comes with a quarter of the budget, and with all of it.
ATTACKS = {
    "hop_l2": (l2, lambda radius: hop_skip_jump(l2, radius, BUDGET), (1.4, 1.08)),
    "hop_linf": (linf, lambda radius: hop_skip_jump(linf, radius, BUDGET, block=10), (1.6, 1.2)),
    "boundary": (l2, lambda radius: boundary(l2, radius, BUDGET), (1.8, 1.1)),
}


def _minimal(name):
    """The distance from every X to the nearest other class, min_j margin_j / |w_y - w_j|_dual."""
    order = 1 if name == "hop_linf" else 2
    distances = []
    for x, y in zip(np.array(X).reshape(4, 48), np.array(Y), strict=True):
        gaps = np.array(W)[y] - np.delete(W, y, axis=0)
        distances.append(np.min(gaps @ x / np.linalg.norm(gaps, ord=order, axis=1)))
    return np.array(distances)


@functools.cache
def _attack(name, batched=True):
    """(x, y, key, radius, bonus of the label, hard) -> best after every step, compiled once for all the laws."""

    def run(x, y, key, radius, bonus, hard):
        attack = ATTACKS[name][1](radius)

        def classifier(x, key):
            logits = W @ x.ravel() + bonus * jax.nn.one_hot(y, 3)
            return jnp.where(hard, jax.nn.one_hot(jnp.argmax(logits), 3), logits)

        def step(state, i):
            state = attack.step(problem, state, i)
            return state, attack.best(state)

        problem = (classifier, x, y, key)
        return jax.lax.scan(step, attack.init(problem), jnp.arange(attack.steps))[1]

    return jax.jit(jax.vmap(run) if batched else run)


def _run(name, y=Y, radius=jnp.inf, bonus=0.0, hard=False, seed=0):
    full = lambda value: jnp.full((4,), value)
    radius = jnp.broadcast_to(jnp.asarray(radius, jnp.float32), (4,))
    return _attack(name)(X, y, jax.random.split(jax.random.key(seed), 4), radius, full(bonus), full(hard))


def _last(best):
    return jax.tree.map(lambda leaf: leaf[:, -1], best)


@pytest.mark.parametrize("name", slow_but(ATTACKS, "hop_l2"))
def test_distance_approaches_the_optimum_from_above(name):
    """Never below margin / |w|, never growing with the budget, near to it at the end; and what is returned is lost."""
    best, minimal = _run(name), _minimal(name)
    ratios = -best.loss / minimal[:, None]
    steps = ratios.shape[1]
    quarter, end = ATTACKS[name][2]
    assert jnp.min(ratios) > 1.0 - 1e-4
    assert jnp.all(ratios[:, 1:] <= ratios[:, :-1])
    assert jnp.max(ratios[:, steps // 4]) < quarter and jnp.max(ratios[:, -1]) < end
    found = _last(best)
    logits = jnp.einsum("kd,nd->nk", W, found.x.reshape(4, 48))
    assert jnp.all(found.won) and jnp.all(jnp.argmax(logits, axis=1) != Y)
    norms = jax.vmap(ATTACKS[name][0](1.0).norm)(found.x - X)
    np.testing.assert_allclose(norms, -found.loss, rtol=1e-5)
    np.testing.assert_array_equal(found.queries, BUDGET)


@pytest.mark.parametrize("name", slow_but(ATTACKS, "hop_linf", "boundary"))
def test_only_decisions_count(name):
    """One-hot answers in place of logits change nothing, bit for bit."""
    for soft, hard in zip(_run(name), _run(name, hard=True), strict=True):
        np.testing.assert_array_equal(soft, hard)


@pytest.mark.parametrize("name", slow_but(ATTACKS, "hop_linf", "boundary"))
def test_won_means_within_the_radius(name):
    """Below the margin nothing wins, above what is reachable everything does; either way the image is feasible."""
    minimal = _minimal(name)
    for factor, wins in ((0.99, False), (ATTACKS[name][2][1], True)):
        radius = jnp.asarray(factor * minimal)
        found = _last(_run(name, radius=radius))
        assert jnp.all(found.won == wins)
        norms = jax.vmap(ATTACKS[name][0](1.0).norm)(found.x - X)
        assert jnp.all(norms <= radius * (1 + 1e-5))
        if not wins:  # nothing inside the ball was seen to be lost
            np.testing.assert_array_equal(found.x, X)
        assert jnp.min(found.x) >= 0.0 and jnp.max(found.x) <= 1.0
    assert jnp.array_equal(_last(_run(name, radius=0.0)).x, X)


@pytest.mark.parametrize("name", slow_but(ATTACKS, "hop_linf", "boundary"))
def test_nothing_to_do_and_nothing_to_find(name):
    """A lost image comes back as it is, after one block; so does one that a stubborn classifier never loses."""
    lost = _run(name, y=(Y + 1) % 3, radius=0.0)
    assert jnp.all(lost.won[:, 0]) and jnp.all(lost.queries[:, 0] <= 10)
    stubborn = _last(_run(name, bonus=1e6))
    assert not jnp.any(stubborn.won) and jnp.all(stubborn.queries == BUDGET)
    for best in (lost, stubborn):
        np.testing.assert_array_equal(_last(best).x if best is lost else best.x, X)


def test_vmap_is_a_loop():
    """The same image found alone and in company, up to rounding."""
    batched, keys = _last(_run("hop_l2")), jax.random.split(jax.random.key(0), 4)
    arguments = (X[2], Y[2], keys[2], jnp.asarray(jnp.inf), jnp.asarray(0.0), jnp.asarray(False))
    alone = _attack("hop_l2", batched=False)(*arguments)
    np.testing.assert_allclose(alone.loss[:40], _run("hop_l2").loss[2, :40], rtol=1e-4)
    np.testing.assert_allclose(alone.loss[-1], batched.loss[2], rtol=0.02)


def test_a_pool_pays_one_block_for_what_is_lost_already():
    """The victory stops the attack: an image without its label costs a block; the others spend the budget."""
    y = jnp.where(jnp.array([True, False, True, False]), Y, (Y + 1) % 3)
    keys = jax.random.split(jax.random.key(0), 4)
    attack = pooled(hop_skip_jump(l2, 1e-3, 60), slots=2, stop=True)
    found = jax.jit(lambda y: attack(lambda x, key: W @ x.ravel(), X, y, keys))(y)
    np.testing.assert_array_equal(found.won, y != Y)
    np.testing.assert_array_equal(found.queries, jnp.where(y == Y, 60, 5))
    np.testing.assert_array_equal(found.x[1::2], X[1::2])


@pytest.mark.parametrize("make", [hop_skip_jump, boundary])
def test_budget_is_counted_and_kept(make, key):
    """Every evaluation is counted, and what does not pay for a block is left."""
    calls = []

    def classifier(x, key):
        jax.debug.callback(lambda _: calls.append(1), x)
        return W @ x.ravel()

    attack = make(l2, jnp.inf, budget=27, block=4)
    queries = int(attack.run(classifier, X[0], Y[0], key).queries)
    jax.effects_barrier()
    assert queries == len(calls) == 24


def test_starts_lead_where_noise_does_not(key):
    """Only bright images are lost: noise never is, a white start is, and the nearest bright image is found from there."""
    bright = lambda x, key: jnp.array([0.0, 1.0]) * (jnp.mean(x) - 0.9)
    x, y = jnp.full((8,), 0.6), jnp.asarray(0)
    starts = jnp.stack([jnp.zeros_like(x), jnp.ones_like(x)])
    found = jax.jit(lambda key: hop_skip_jump(l2, 1.0, 400, starts=starts).run(bright, x, y, key))(key)
    assert found.won
    np.testing.assert_allclose(jnp.linalg.norm(found.x - x), 0.3 * np.sqrt(8), rtol=0.02)
    blind = jax.jit(lambda key: hop_skip_jump(l2, 1.0, 100).run(bright, x, y, key))
    assert not blind(key).won
    with pytest.raises(ValueError, match="images like x"):
        jax.eval_shape(lambda: hop_skip_jump(l2, 1.0, 100, starts=starts[:, :4]).run(bright, x, y, key))


@pytest.mark.parametrize(
    "make",
    [
        lambda: hop_skip_jump(l2, 1.0, budget=4, block=5),
        lambda: hop_skip_jump(l2, -1.0, budget=100),
        lambda: hop_skip_jump(l2, 1.0, budget=100, directions=0),
        lambda: boundary(l2, 1.0, budget=100, block=5),
        lambda: boundary(l2, 1.0, budget=100, sideways=0.0),
    ],
)
def test_bad_arguments(make):
    with pytest.raises(ValueError, match="got"):
        make()
