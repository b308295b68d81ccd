"""APGD, APGD for L1 and multi-targeted attacks on losses whose maxima are known."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from known_models import INSIDE, SHAPE, mlp
from rows import slow_but

from jaxdiff.attacks.ascents.apgd import apgd, check_iterations
from jaxdiff.attacks.ascents.apgd_l1 import apgd_l1
from jaxdiff.attacks.attack import lost, untargeted
from jaxdiff.attacks.multi import multi_targeted
from jaxdiff.attacks.objectives import (
    cross_entropy,
    targeted_cross_entropy,
    targeted_dlr,
    targeted_margin,
)
from jaxdiff.attacks.pool import pooled
from jaxdiff.attacks.threats.threat import Threat, l2, linf

RADIUS = 0.1
RADII = {"linf": RADIUS, "l2": RADIUS, "l1": 2.0, "l1_small": 2.0}
ASCENTS = {
    "linf": lambda radius, steps: apgd(linf(radius), steps),
    "l2": lambda radius, steps: apgd(l2(radius), steps),
    "l1": lambda radius, steps: apgd_l1(radius, steps),
    "l1_small": lambda radius, steps: apgd_l1(radius, steps, large_radius=False),
}
NORMS = {
    "linf": lambda d: np.max(np.abs(d)),
    "l2": lambda d: np.linalg.norm(np.ravel(d)),
    "l1": lambda d: np.sum(np.abs(d)),
    "l1_small": lambda d: np.sum(np.abs(d)),
}
W = jax.random.normal(jax.random.key(7), SHAPE)


def _linear(x, key):
    return jnp.vdot(W, x)


def _vmapped(function):
    return jax.jit(jax.vmap(function))


def _history(ascent, loss, x, key):
    """The states after every step."""

    def step(state, i):
        state = ascent.step((loss, x, key), state, i)
        return state, state

    return jax.jit(lambda: jax.lax.scan(step, ascent.init((loss, x, key)), jnp.arange(ascent.steps)))()[1]


def _optimum(name, x):
    """The largest increase of the linear loss within the ball and the box."""
    w, room = np.ravel(W), np.ravel(jnp.where(W > 0, 1 - x, x))
    if name == "linf":
        return np.sum(np.abs(w) * np.minimum(RADIUS, room))
    if name == "l2":  # for the inside alone
        return RADIUS * np.linalg.norm(w)
    best, left = 0.0, RADII[name]
    for i in np.argsort(-np.abs(w)):  # the knapsack: the steepest pixels first, as far as the box lets them
        moved = min(left, room[i])
        best, left = best + moved * np.abs(w[i]), left - moved
    return best


@pytest.mark.parametrize(
    ("steps", "checks"),
    [
        (100, (22, 41, 57, 70, 80, 87, 93, 99)),  # the paper's table
        (20, (4, 7, 9, *range(10, 21))),
        (10, tuple(range(2, 11))),
        (1, (1,)),
    ],
)
def test_check_iterations(steps, checks):
    assert check_iterations(steps) == checks


@pytest.mark.parametrize(
    ("name", "steps", "missing"),
    [("linf", 1, 1e-5), ("l2", 20, 1e-5), ("l1", 100, 0.025), ("l1_small", 100, 0.025)],
)
def test_linear_loss_is_maximised(name, steps, missing, key):
    """Radius times the dual norm of the gradient, less what the box cuts off; L-infinity needs one iteration.

    In L1 a step moves the steepest two thirds of the pixels that have changed. Where these stand at the border of the box it
    moves nothing, and the last pixels of the optimum keep a part of their share.
    """
    at_the_box = jnp.where(jax.random.bernoulli(key, 0.5, SHAPE), 0.97, 0.02)
    x = jnp.stack([INSIDE, INSIDE if name == "l2" else at_the_box])
    x_adv = _vmapped(lambda x: ASCENTS[name](RADII[name], steps)(_linear, x, key))(x)
    rises = [np.vdot(W, moved - start) for moved, start in zip(x_adv, x, strict=True)]
    inside, at_the_border = np.array(rises) / [_optimum(name, start) for start in x]
    assert inside == pytest.approx(1.0, abs=1e-5)
    assert 1.0 - missing <= at_the_border <= 1.0 + 1e-5


@pytest.mark.parametrize("name", ["linf", "l2", "l1"])
def test_every_step_is_feasible_and_the_best_is_the_best(name, key):
    """For a loss without sense, with gradients that are not numbers: start, every iterate, every best point."""

    def wild(x, key):
        loss = 1e3 * jnp.sum(jnp.sin(50 * x)) + 1e2 * jax.random.normal(key) * jnp.sum(x)
        return jnp.where(jax.random.bernoulli(key, 0.1), jnp.sqrt(-loss * loss - 1.0), loss)

    x = np.round(np.asarray(jax.random.uniform(key, SHAPE)), 1)
    history = jax.tree.map(np.asarray, _history(ASCENTS[name](RADII[name], 40), wild, jnp.asarray(x), key))
    counted = slice(26, None) if name == "l1" else slice(None)  # at larger radii before
    for images in (x + history.at.delta[counted], history.best.x):
        assert jnp.min(images) >= 0.0 and jnp.max(images) <= 1.0
        norms = [NORMS[name](image - x) for image in images]
        assert np.max(norms) <= RADII[name] * (1 + 1e-5)
    assert np.max(norms) > 0.1 * RADII[name]
    heights = history.best.loss
    assert np.all(heights[1:] >= heights[:-1])
    assert heights[-1] == np.nanmax(history.at.loss[counted])
    assert np.any(np.isnan(history.at.loss)) and np.isfinite(heights[-1])
    assert history.best.queries[-1] == len(heights)


def _anywhere(radius):
    """No ball and no box: a linear loss rises for ever."""
    return Threat(
        init=lambda key, x: jax.random.normal(key, x.shape, x.dtype),
        apply=jnp.add,
        project=lambda delta, x: delta,
        steepest=optax.stateless(lambda g, _: jnp.sign(g)),
        norm=lambda delta: jnp.max(jnp.abs(delta)),
        radius=radius,
    )


def test_step_size_follows_the_losses(key):
    """A loss that never rises halves the step at all eight checks, one that always rises never."""
    still = _history(apgd(linf(RADIUS), 100), lambda x, key: 0.0 * jnp.sum(x) - 1.0, INSIDE, key)
    at = np.flatnonzero(np.diff(still.length)) + 1
    np.testing.assert_array_equal(at, check_iterations(100))
    np.testing.assert_allclose(still.length[-1], 2 * RADIUS / 2**8, rtol=1e-6)
    rising = _history(apgd(_anywhere(RADIUS), 100), _linear, INSIDE, key)
    np.testing.assert_allclose(rising.length, np.full(101, 2 * RADIUS), rtol=1e-6)


def test_from_the_sphere_and_back_to_the_highest(key):
    """The start is random and as far away as allowed; after a halving the next step starts at the highest point."""
    history = _history(apgd(l2(RADIUS), 100), lambda x, key: jnp.sum(jnp.cos(90 * x + 9 * W)), INSIDE, key)
    start = history.at.delta[0]
    assert np.linalg.norm(np.ravel(start)) == pytest.approx(RADIUS, rel=1e-6)
    assert np.std(np.abs(start)) > 0.1 * np.max(np.abs(start))
    halved = np.flatnonzero(np.diff(history.length)) + 1
    assert len(halved) >= 3
    np.testing.assert_array_equal(history.at.delta[halved], history.highest.delta[halved])
    others = np.setdiff1d(np.arange(1, 101), halved)
    assert np.mean(history.at.loss[others] < history.highest.loss[others]) > 0.5


@pytest.mark.parametrize("threat", [linf(RADIUS), l2(2 * RADIUS)])
def test_halved_steps_find_a_maximum_inside(threat, key):
    """Steps of a fixed length would jump around it for ever."""
    peak = INSIDE + 0.3 * RADIUS * W / jnp.max(jnp.abs(W))
    found = jax.jit(lambda: apgd(threat)(lambda x, key: -jnp.sum(jnp.square(x - peak)), INSIDE, key))()
    assert jnp.max(jnp.abs(found - peak)) < 0.02 * RADIUS


@pytest.mark.parametrize("name", ["linf", "l1"])
def test_radii(name, key):
    """Radius 0 returns x bit for bit, larger ones reach more, and one compiled attack serves all of them."""
    x = jax.random.uniform(key, SHAPE)
    bent = lambda x, key: jnp.sum(jnp.tanh(3 * W * (x - 0.5)))
    run = lambda radius: ASCENTS[name](radius, 12)(bent, x, key)
    x_adv = _vmapped(run)(RADII[name] * jnp.array([0.0, 0.1, 0.5, 1.0]))
    assert jnp.array_equal(x_adv[0], x)
    heights = [bent(image, key) for image in x_adv]
    assert heights == sorted(heights) and heights[1] > heights[0] and heights[3] > heights[2]


def _in_a_pool(attack):
    return jax.jit(lambda *batch: pooled(attack, slots=2, stop=False)(mlp, *batch))


def _in_a_batch(attack):
    return _vmapped(lambda *problem: attack.run(mlp, *problem))


@pytest.mark.parametrize(("name", "together"), [("linf", _in_a_pool), ("l1", _in_a_batch)])
def test_company_changes_nothing(name, together, key):
    """Every example has its own step size: a batch or a pool of them is a loop over them."""
    attack = untargeted(ASCENTS[name](RADII[name] / 2, 15), cross_entropy())
    x, keys = jax.random.uniform(key, (5, *SHAPE)), jax.random.split(key, 5)
    y = _vmapped(lambda x, key: jnp.argmax(mlp(x, key)))(x, keys)
    alone = lambda *batch: jax.lax.map(lambda problem: attack.run(mlp, *problem), batch)
    expected, found = jax.jit(alone)(x, y, keys), together(attack)(x, y, keys)
    np.testing.assert_array_equal(found.won, expected.won)
    np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-4)
    np.testing.assert_allclose(found.x, expected.x, atol=1e-5)
    np.testing.assert_array_equal(found.queries, expected.queries)


def _problem(key, shape=SHAPE):
    x = jax.random.uniform(key, shape)
    return x, jnp.argmax(mlp(x, key))


def test_multi_targeted_is_the_best_of_its_targets(key):
    """The likeliest other classes once each: what the best single run towards them reaches, and no more."""
    ascent = apgd(l2(0.02), 2)  # so few that the start matters
    x, y = _problem(key)
    targets = jnp.asarray([t for t in np.argsort(-mlp(x, key)) if t != y])

    def towards(t, k):
        loss = lambda x, key: (targeted_margin()(mlp(x, key), y, t), lost(mlp(x, key), y))
        return ascent.run(loss, x, jax.random.fold_in(key, k))

    singles = _vmapped(towards)(targets, jnp.arange(4))
    assert not np.any(singles.won)
    found = jax.jit(lambda: multi_targeted(ascent, targeted_margin(), 3).run(mlp, x, y, key))()
    k = np.argmax(singles.loss[:3])
    np.testing.assert_allclose(found.loss, singles.loss[k], rtol=1e-4)
    np.testing.assert_allclose(found.x, singles.x[k], atol=1e-5)
    assert found.queries == 3 * 3 + 1


@pytest.mark.parametrize(
    "objective", slow_but([targeted_dlr, targeted_margin, targeted_cross_entropy], targeted_dlr)
)
def test_only_the_third_class_can_be_reached(objective, key):
    """Class 1 is next to the label everywhere and never above it: only the run towards class 2 wins."""

    def classifier(x, key):
        rise = jnp.tanh(20 * (jnp.mean(x) - 0.58)) + jnp.tanh(4 * (x[0, 0, 0] - 0.5))
        away = jnp.square(jnp.mean(x) - 0.5)
        return jnp.stack([1.0 + 0 * away, 0.9 - 10 * away, 0.8 + rise, -1.0 - away])

    run = lambda n: multi_targeted(apgd(linf(RADIUS), 30), objective(), n).run
    found = jax.jit(lambda: run(2)(classifier, INSIDE, jnp.asarray(0), key))()
    assert jnp.argmax(classifier(found.x, key)) == 2 and found.won
    if objective is targeted_margin:
        assert not jax.jit(lambda: run(1)(classifier, INSIDE, jnp.asarray(0), key))().won


def test_pool_stops_a_multi_targeted_attack_at_its_victory(key):
    attack = multi_targeted(apgd(linf(0.3), 10), targeted_margin(), 4)
    x, y = _problem(key)
    found = jax.jit(lambda *batch: pooled(attack, 1)(mlp, *batch))(x[None], y[None], key[None])
    assert found.won[0] and found.queries[0] < 44
    assert jnp.argmax(mlp(found.x[0], key)) != y


@pytest.mark.parametrize("classes", [2, 3])
def test_more_targets_than_classes(classes, key):
    """Known as soon as the logits are, said in words; with n = classes - 1 the attack runs."""
    few = lambda x, key: mlp(x, key)[:classes]
    x = jax.random.uniform(key, SHAPE)
    y = jnp.argmax(few(x, key))
    with pytest.raises(ValueError, match=rf"has {classes - 1}. Set n <= {classes - 1}"):
        multi_targeted(apgd(linf(0.3), 3), targeted_margin())(few, x, y, key)
    attack = multi_targeted(apgd(linf(0.3), 10), targeted_margin(), classes - 1)
    x_adv = jax.jit(lambda: attack(few, x, y, key))()
    assert jnp.argmax(few(x_adv, key)) != y


@pytest.mark.parametrize(
    "make",
    [
        lambda: apgd(linf(0.1), 0),
        lambda: apgd(linf(0.1), rho=1.5),
        lambda: apgd_l1(1.0, 2),
        lambda: apgd_l1(-1.0),
        lambda: multi_targeted(apgd(linf(0.1), 1), targeted_margin(), 0),
    ],
)
def test_bad_arguments(make):
    with pytest.raises(ValueError, match="got"):
        make()
