"""How APGD and APGD for L1 choose their steps, on scripts: every iteration is told its loss, and the gradient there."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.attacks.ascents.apgd import apgd
from jaxdiff.attacks.ascents.apgd_l1 import _plan, apgd_l1
from jaxdiff.attacks.threats.threat import l2, linf

RADIUS = 0.1
KEY = jax.random.key(0)
SHAPE = (5, 1, 1)
X = jnp.full(SHAPE, 0.5)
THREATS = {"linf": linf(RADIUS), "l2": l2(RADIUS)}


def _scripted(ascent, x, losses, gradients, prepare=lambda climb, i: climb):
    """The climbs after every step; `prepare` may change what a step begins with."""

    def step(climb, row):
        i, value, gradient = row
        loss = lambda x, key: value + jnp.vdot(gradient, x - jax.lax.stop_gradient(x))
        climb = ascent.step((loss, x, KEY), prepare(climb, i), i)
        return climb, climb

    return jax.lax.scan(step, ascent.init((None, x, KEY)), (jnp.arange(len(losses)), losses, gradients))[1]


@functools.cache
def _apgd(name):
    """x, where to begin, losses and gradients -> the climbs of 100 iterations, compiled once for all scripts."""

    def run(x, delta, losses, gradients):
        at_first = lambda old, i: jnp.where(i == 0, delta, old)
        begin = lambda climb, i: climb._replace(
            at=climb.at._replace(delta=at_first(climb.at.delta, i)), previous=at_first(climb.previous, i)
        )
        return _scripted(apgd(THREATS[name]), x, losses, gradients, begin)

    run = jax.jit(run)

    def padded(x, delta, losses, gradients):
        pad = lambda rows: np.concatenate([rows, np.repeat(rows[-1:], 101 - len(rows), axis=0)])
        script = (np.asarray(rows, np.float32) for rows in (x, delta, pad(losses), pad(gradients)))
        return jax.tree.map(np.asarray, run(*script))

    return padded


def test_momentum_by_hand_linf():
    """Steps of .2 in a ball of .1: z is a corner, a quarter of the last move is added, and both are projected."""
    #  x, start, three gradients, and the iterates
    table = np.array(
        [
            [0.5, 0.1, 1, -2, 3, 0.1, -0.05, 0.025],
            [0.5, -0.1, 1, -2, 3, 0.1, 0.0, 0.05],
            [0.5, -0.1, 1, 2, -3, 0.1, 0.1, -0.05],  # momentum would leave the ball
            [0.5, 0.0, 1, 0, 0, 0.1, 0.1, 0.1],
            [0.95, -0.1, 1, -2, 3, 0.05, -0.025, 0.0125],  # the box ends .05 above
        ],
        np.float32,
    ).T
    x, start, *rest = (row.reshape(SHAPE) for row in table)
    climbs = _apgd("linf")(x, start, np.arange(4), np.stack(rest[:3]))
    np.testing.assert_allclose(climbs.at.delta[1:4], np.stack(rest[3:]), atol=1e-6)


def test_momentum_by_hand_l2():
    """Right angles between the gradients, whose lengths do not matter."""
    ball = lambda v: v * min(1.0, RADIUS / np.linalg.norm(v))
    d = [RADIUS * np.eye(5)[0]]
    gradients = np.array([[0, 3, 0, 0, 0], [-1e-3, 0, 0, 0, 0], [0, -5, 0, 0, 0]])
    for k, g in enumerate(gradients):
        z = ball(d[-1] + 2 * RADIUS * g / np.linalg.norm(g))
        d.append(z if k == 0 else ball(d[-1] + 0.75 * (z - d[-1]) + 0.25 * (d[-1] - d[-2])))
    climbs = _apgd("l2")(X, d[0].reshape(SHAPE), np.arange(4), gradients.reshape(3, *SHAPE))
    np.testing.assert_allclose(climbs.at.delta[:4, :, 0, 0], d, atol=1e-6)


@pytest.mark.parametrize("name", THREATS)
@pytest.mark.parametrize(
    ("first", "second", "above", "halved"),
    [
        (16, 19, 0.0, [22]),  # three quarters of 22 are 16.5
        (17, 14, 0.0, [41]),  # and of the 19 after them 14.25
        (17, 15, 0.0, []),
        (17, 19, -1e3, [22]),  # the first loss is compared with 0, and not with that of the start
        (18, 19, -1e3, []),
    ],
)
def test_too_few_rises_halve_the_step(name, first, second, above, halved):
    """The first iterations of a period rise, the others repeat the loss, which is no rise; later all of them rise."""
    rises = np.ones(100)
    rises[first:22] = 0
    rises[22 + second : 41] = 0
    losses = above + np.array([-5.0, *np.cumsum(rises)])
    climbs = _apgd(name)(X, 0 * X, losses, np.ones((1, *SHAPE)))
    np.testing.assert_array_equal(np.flatnonzero(np.diff(climbs.length)) + 1, halved)
    np.testing.assert_allclose(climbs.length[-1], 2 * RADIUS / 2 ** len(halved), rtol=1e-6)


@pytest.mark.parametrize("name", THREATS)
def test_nothing_higher_halves_the_step_at_every_second_check(name):
    """Always rising, never above the start: the rule is off at the first check, and at a check after a halving."""
    losses = np.array([1e3, *np.arange(1.0, 101.0)])
    gradients = np.asarray(jax.random.normal(KEY, (101, *SHAPE)))
    start = 0.4 * RADIUS * np.sign(gradients[1])
    climbs = _apgd(name)(X, start, losses, gradients)
    halved = np.flatnonzero(np.diff(climbs.length)) + 1
    np.testing.assert_array_equal(halved, [41, 70, 87, 99])
    np.testing.assert_allclose(climbs.length[halved], RADIUS / 2 ** np.arange(4), rtol=1e-6)
    np.testing.assert_array_equal(climbs.at.delta[halved], np.stack([start] * 4))
    # From the start again, by its gradient, and with a momentum that still knows where iteration 41 began.
    steepest = {"linf": np.sign, "l2": lambda g: g / np.linalg.norm(g)}[name](gradients[0])
    ball = lambda delta: np.asarray(THREATS[name].project(jnp.asarray(delta), X))
    z = ball(start + RADIUS * steepest)
    expected = ball(start + 0.75 * (z - start) + 0.25 * (start - climbs.at.delta[40]))
    np.testing.assert_allclose(climbs.at.delta[42], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("steps", "parts", "periods"),
    [(100, (30, 30, 40), (1, 1, 1)), (300, (90, 90, 120), (3, 3, 4)), (7, (3, 3, 1), (1, 1, 1))],
)
def test_l1_ascents_share_the_iterations(steps, parts, periods):
    """At 3, 2 and 1 times the radius; each evaluates its start, and checks every .04 of its iterations."""
    plan = _plan(steps, True)
    np.testing.assert_array_equal(np.flatnonzero(plan.begins), [0, parts[0] + 1, parts[0] + parts[1] + 2])
    np.testing.assert_array_equal(plan.multiple, np.repeat([3, 2, 1], np.add(parts, 1)))
    counted = np.concatenate([np.arange(n + 1) for n in parts])
    every = np.repeat(periods, np.add(parts, 1))
    np.testing.assert_array_equal(plan.due, (counted > 0) & (counted % every == 0))
    alone = _plan(steps, False)
    assert np.flatnonzero(alone.begins) == [0] and set(alone.multiple) == {1} and len(alone.due) == steps + 1


# How many of 100 pixels the highest point changes at the checks: a check that sees 96 of 100 pixels divides the step,
# one that sees 94 resets it; the repeated ones drive it to its least.
COUNTS = (96, 91, 91, 91, 86, 83, 80, 79, 79, 79, 79, 79, 79, 79, 70, 67, 67, 63, 60, 80, 78, 76, 73, 69, 69)


@pytest.mark.parametrize("large_radius", [False, True])
def test_l1_steps_follow_the_sparsity(large_radius):
    """The recursion (2) in NumPy for a highest point whose pixels are counted beforehand, and steps from x itself."""
    steps, d = 100, 100
    phases = [(3.0, 30), (2.0, 30), (1.0, 40)] if large_radius else [(1.0, 100)]
    period = 1 if large_radius else 4
    counts = np.resize(np.repeat(COUNTS, period), steps + len(phases))
    rows = []  # for every step: (whether it resets, the length and share that it moves with)
    for radius, n in phases:
        before, share, length = d, 0.2, radius
        for i in range(n + 1):
            now = counts[len(rows)]
            if i == 0 and large_radius:
                before, share = now, now / (1.5 * d)
            due = i > 0 and i % period == 0
            sparser = due and now < 0.95 * before
            rows.append((sparser, length if i else 0.0, share if i else 0.0))
            if due:
                length = radius if sparser else max(length / 1.5, radius / 10)
                before, share = now, now / (1.5 * d)
    resets, lengths, shares = map(np.array, zip(*rows, strict=True))

    x = jnp.full((10, 10, 1), 0.5)
    placed = lambda n: jnp.where(jnp.arange(d) < n, 1e-3, 0.0).reshape(x.shape)
    gradient = jax.random.normal(KEY, x.shape)

    def prepare(climb, i):
        known = climb.at._replace(loss=jnp.asarray(jnp.inf), delta=placed(jnp.asarray(counts)[i]))
        at = climb.at._replace(delta=jnp.zeros_like(x), gradient=gradient)
        return climb._replace(at=at, highest=known)

    ascent = apgd_l1(1.0, steps, large_radius)
    assert ascent.steps == len(rows)
    silence = jnp.zeros(len(rows)), jnp.zeros((len(rows), *x.shape))
    deltas = jax.jit(lambda: _scripted(ascent, x, *silence, prepare).at.delta)().reshape(len(rows), d)
    deltas = np.asarray(deltas)
    back = np.array(
        [np.array_equal(delta, np.ravel(placed(n))) for delta, n in zip(deltas, counts, strict=True)]
    )
    moves = lengths > 0  # elsewhere an ascent begins
    np.testing.assert_array_equal(back[moves], resets[moves])
    seen = moves & ~back
    np.testing.assert_allclose(np.abs(deltas).sum(1)[seen], lengths[seen], rtol=1e-4)
    moved = np.sum(deltas != 0, axis=1)[seen]
    assert np.max(np.abs(moved - shares[seen] * d)) <= 1
    # The script has seen everything: resets, and the least and the largest length in every ascent.
    assert 3 * len(phases) <= resets.sum() < 0.5 * len(rows)
    assert set(np.round(lengths[seen], 6)) >= set(np.round([r * c for r, _ in phases for c in (1.0, 0.1)], 6))
