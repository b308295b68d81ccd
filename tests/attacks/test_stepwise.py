"""Attacks in steps: pooled, repeated and interleaved runs find what single runs find."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rows import slow_but

from jaxdiff.attacks import cross_entropy, linf, margin, targeted, untargeted
from jaxdiff.attacks.attack import lost
from jaxdiff.attacks.pool import pooled
from jaxdiff.attacks.stepwise import Stepwise, ascent_gradient, improve, in_turn, start

W = jax.random.normal(jax.random.key(3), (4, 12))
X = jax.random.uniform(jax.random.key(4), (23, 2, 3, 2))


def _wavy(x, key):
    return jnp.sin(3 * W @ x.ravel()) + W @ x.ravel()


def _noisy_climb(radius, steps=7):
    """Signed gradient ascent with a random start and random step lengths: nothing about it is the same for two keys."""
    threat = linf(radius)

    def init(problem):
        _, x, key = problem
        return threat.init(key, x), start(x)

    def step(problem, state, i):
        loss, x, key = problem
        delta, best = state
        key = jax.random.fold_in(key, i)
        value, won, gradient = ascent_gradient(loss, threat.apply(x, delta), key)
        best = improve(best, threat.apply(x, delta), won, value)
        length = 0.5 * radius * jax.random.uniform(key)
        return threat.project(delta + length * jnp.sign(gradient), x), best

    return Stepwise(steps, init, step, lambda state: state[1])


def _problems():
    y = jnp.argmax(jax.vmap(lambda x: _wavy(x, None))(X), axis=1)
    return y.at[5].add(1) % 4, jax.random.split(jax.random.key(5), len(X))


def _alone(attack, y, keys):
    run = jax.jit(attack.run, static_argnums=0)
    found = [run(_wavy, X[i], y[i], keys[i]) for i in range(len(X))]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *found)


@pytest.mark.parametrize("slots", slow_but([1, 4, 64], 4))
def test_a_pool_finds_what_single_runs_find(slots):
    """Whatever the slots, each example takes the steps it takes alone."""
    y, keys = _problems()
    attack = untargeted(_noisy_climb(0.05), margin())
    found = jax.jit(lambda *batch: pooled(attack, slots, stop=False)(_wavy, *batch))(X, y, keys)
    alone = _alone(attack, y, keys)
    np.testing.assert_allclose(found.x, alone.x, atol=1e-6)
    np.testing.assert_allclose(found.loss, alone.loss, atol=1e-5)
    np.testing.assert_array_equal(found.won, alone.won)
    assert 0 < np.sum(found.won) < len(X)
    assert np.all(found.queries == attack.steps)


def test_a_pool_stops_at_the_first_victory():
    """The victories are those of whole runs, with fewer queries; what has not won has spent all its steps."""
    y, keys = _problems()
    attack = untargeted(_noisy_climb(0.05), margin())
    stopped = jax.jit(lambda *batch: pooled(attack, 4)(_wavy, *batch))(X, y, keys)
    whole = _alone(attack, y, keys)
    np.testing.assert_array_equal(stopped.won, whole.won)
    assert np.all(stopped.queries[~stopped.won] == attack.steps)
    assert stopped.queries[5] == 1 and stopped.won[5]  # it was wrong from the start
    lost_now = jax.vmap(lambda x, y: lost(_wavy(x, None), y))(stopped.x, y)
    np.testing.assert_array_equal(lost_now, stopped.won)


@pytest.mark.bits
def test_examples_that_are_not_to_be_done_cost_nothing_and_change_nothing():
    y, keys = _problems()
    attack = untargeted(_noisy_climb(0.05), margin())
    todo = jnp.arange(len(X)) % 3 == 1
    run = jax.jit(lambda todo: pooled(attack, 4)(_wavy, X, y, keys, todo))
    found, everything = run(todo), run(jnp.ones(len(X), bool))
    np.testing.assert_array_equal(found.x[~todo], X[~todo])
    assert np.all(found.queries[~todo] == 0) and not np.any(found.won[~todo])
    chex.assert_trees_all_equal(*(jax.tree.map(lambda v: v[todo], b) for b in (found, everything)))
    nothing = run(jnp.zeros(len(X), bool))
    np.testing.assert_array_equal(nothing.x, X)


@pytest.mark.bits
def test_order_and_company_do_not_matter():
    y, keys = _problems()
    run = jax.jit(lambda *batch: pooled(untargeted(_noisy_climb(0.05), cross_entropy()), 4)(_wavy, *batch))
    order = np.random.RandomState(0).permutation(len(X))
    chex.assert_trees_all_equal(
        run(X[order], y[order], keys[order]), jax.tree.map(lambda v: v[order], run(X, y, keys))
    )


def test_runs_in_turn_are_the_best_of_separate_runs():
    """The loss of n runs in turn is the largest of n single runs, each with its own key; queries add up."""
    y, keys = _problems()
    single, n = untargeted(_noisy_climb(0.02), margin()), 3
    in_all = in_turn(single, n, lambda problem, _, k: (*problem[:-1], jax.random.fold_in(problem[-1], k)))
    together = jax.jit(jax.vmap(lambda x, y, k: in_all.run(_wavy, x, y, k)))(X, y, keys)
    one = jax.jit(jax.vmap(lambda x, y, k: single.run(_wavy, x, y, k)))
    runs = [one(X, y, jax.vmap(lambda k: jax.random.fold_in(k, i))(keys)) for i in range(n)]
    np.testing.assert_allclose(together.loss, np.max([r.loss for r in runs], axis=0), atol=1e-5)
    np.testing.assert_array_equal(together.won, np.any([r.won for r in runs], axis=0))
    assert np.all(together.queries == n * single.steps)


def test_prepared_runs_reach_what_only_one_variant_reaches():
    """Run k sees what was prepared for it: here the loss counts only the coordinate prepared[k]."""
    climb = _noisy_climb(0.3, steps=9)

    def variant(problem, prepared, k):
        loss, x, key = problem
        return (lambda x, key: loss(x, key) * (prepared[k] == 2)), x, key

    attack = in_turn(climb, 3, variant, prepare=lambda problem: jnp.array([0, 2, 1]))
    loss = lambda x, key: jnp.sum(x)
    best = attack.run(loss, X[0], jax.random.key(0))
    alone = climb.run(loss, X[0], jax.random.key(0))
    assert best.loss == pytest.approx(float(alone.loss), rel=1e-6) and best.queries == 27


def test_victory_comes_before_loss_and_nan_last():
    found = start(X[0])
    for won, loss in (
        (False, 3.0),
        (True, jnp.nan),
        (True, -1.0),
        (False, 9.0),
        (True, -2.0),
        (True, jnp.nan),
    ):
        found = improve(found, X[1] * (0.0 if jnp.isnan(loss) else loss), jnp.asarray(won), jnp.asarray(loss))
    assert found.won and found.loss == -1.0 and found.queries == 6
    np.testing.assert_allclose(found.x, -X[1])


@pytest.mark.parametrize("won", [False, True])
def test_of_equal_points_the_first_stays(won):
    """So that more steps, restarts or stages never exchange an image for one that is no better."""
    found = start(X[0])
    for i, loss in ((1, 2.0), (2, 2.0), (0, 1.0)):
        found = improve(found, X[i], jnp.asarray(won), jnp.asarray(loss))
    np.testing.assert_array_equal(found.x, X[1])


def test_logits_that_are_not_finite_are_a_victory_with_a_feasible_image(key):
    """Never silently robust: the attack returns the broken image, and a gradient of NaN leaves it an image."""
    broken = lambda x, key: jnp.where(x[0, 0, 0] > 0.52, jnp.nan, 1.0) * jnp.array([1.0, 0.0])
    x = jnp.full((2, 2, 1), 0.5)
    attack = untargeted(_noisy_climb(0.1), margin())
    found = attack.run(broken, x, jnp.asarray(0), key)
    assert found.won and np.isnan(broken(found.x, key)).any()
    assert np.all(np.isfinite(found.x)) and np.max(np.abs(found.x - x)) <= 0.1 + 1e-6
    # With another key nothing breaks: nothing is won.
    tame = lambda x, key: jnp.array([1.0, 0.0]) + 0.0 * jnp.sum(x)
    assert not attack.run(tame, x, jnp.asarray(0), key).won


def test_targeted_wins_at_the_target_alone(key):
    attack = targeted(_noisy_climb(0.5, steps=60), cross_entropy())
    for target in range(4):
        best = attack.run(lambda x, key: W @ x.ravel(), X[0], jnp.asarray(target), key)
        assert best.won and jnp.argmax(W @ best.x.ravel()) == target


def test_bad_arguments():
    with pytest.raises(ValueError, match="slots as a whole number >= 1"):
        pooled(untargeted(_noisy_climb(0.1), margin()), 0)
    with pytest.raises(ValueError, match="n as a whole number >= 1"):
        in_turn(_noisy_climb(0.1), 0, lambda *_: None)
