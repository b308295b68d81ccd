"""Expectations over randomness: of logits, of losses with their gradients, of victories."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.attacks import cross_entropy, linf, margin, pgd, untargeted
from jaxdiff.attacks.stepwise import Stepwise, ascent_gradient, improve, start
from jaxdiff.attacks.transforms import averaged, eot, eot_logits

W = jax.random.normal(jax.random.key(3), (3, 8))
X = jnp.full((8,), 0.5)
Y = jnp.asarray(0)


def _scaled(x, key):
    """Logits of a random scale: the mean of their losses is not the loss of their mean."""
    return 20.0 * jax.random.uniform(key) * W @ x


def _record(seen):
    """An ascent that shows the loss it was given."""

    def ascent(loss, x, key):
        seen.append(loss(x, key))
        return x

    return ascent


def _looking(steps=2, step=0.01):
    """A stepwise ascent that climbs along the sign of the gradient."""

    def one(problem, best, i):
        loss, _, key = problem
        value, won, gradient = ascent_gradient(loss, best.x, jax.random.fold_in(key, i))
        return improve(
            best._replace(loss=-jnp.inf * jnp.ones(())), best.x + step * jnp.sign(gradient), won, value
        )

    return Stepwise(steps, lambda problem: start(problem[1]), one, lambda best: best)


def test_losses_that_know_victory(key):
    """The value is averaged; the attack has won if more than half of the draws say so."""
    for p, expected in ((0.7, True), (0.3, False)):
        loss = lambda x, key, p=p: (jax.random.uniform(key), jax.random.bernoulli(key, p))
        value, won = eot(loss, 501)(X, key)
        assert value == pytest.approx(0.5, abs=0.06) and won.dtype == bool and bool(won) is expected
    half = lambda x, key: (0.0 * x[0], key == jax.random.fold_in(jax.random.key(0), 0))
    assert not eot(half, 2)(X, key)[1]  # one of two is no majority
    assert eot(half, 1)(X, key)[1]


def test_logits_and_gradients_are_averaged_where_they_say(key):
    """eot_logits: the loss of the mean. averaged: the mean of the losses, larger for a convex loss (Jensen)."""
    n, seen = 50, []
    draws = jnp.stack([_scaled(X, jax.random.fold_in(key, i)) for i in range(n)])
    objective = cross_entropy()
    untargeted(_record(seen), objective)(eot_logits(_scaled, n), X, Y, key)
    untargeted(averaged(_record(seen), n), objective)(_scaled, X, Y, key)
    (of_mean, _), (mean_of, _) = seen
    assert of_mean == pytest.approx(float(objective(jnp.mean(draws, 0), Y)), rel=1e-5)
    assert mean_of == pytest.approx(float(jnp.mean(jax.vmap(objective, (0, None))(draws, Y))), rel=1e-5)
    assert mean_of > of_mean + 0.05


def test_averaging_a_stepwise_ascent(key):
    """Without randomness it changes nothing but the count; it stays stepwise, in attacks too."""
    linear = lambda x, key: W @ x
    alone = untargeted(_looking(), margin())
    mean = untargeted(averaged(_looking(), 5), margin())
    assert isinstance(mean, Stepwise)
    one, five = alone.run(linear, X, Y, key), mean.run(linear, X, Y, key)
    np.testing.assert_allclose(five.x, one.x, atol=1e-6)
    assert (one.queries, five.queries) == (2, 10)


def test_averaged_gradients_find_what_single_draws_hide(key):
    """A weak slope under strong noise of the gradient: the ascent along one draw wanders, along many it climbs."""
    loss = lambda x, key: jnp.sum(x * (1.0 + 8.0 * jax.random.normal(key, x.shape)))
    climb = pgd(linf(0.1), 0.02, 10, random_start=False)
    x = jnp.full(64, 0.5)
    single, mean = (jnp.mean(ascent(loss, x, key) - x) for ascent in (climb, averaged(climb, 200, 50)))
    assert mean > 0.06 > 0.05 > single


def test_no_draws_are_refused():
    with pytest.raises(ValueError, match="n as a whole number >= 1"):
        averaged(_looking(), 0)
    with pytest.raises(ValueError, match="n as a whole number >= 1"):
        eot_logits(_scaled, 0)
