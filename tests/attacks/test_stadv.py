"""StAdv on classifiers that see where a bright spot is: it is moved, smoothly and within the bound, and nothing is painted."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.attacks import margin
from jaxdiff.attacks.pool import pooled
from jaxdiff.attacks.stadv import flow_ascent, flow_lbfgs, run_with_flow, stadv, stadv_original
from jaxdiff.attacks.threats.flow import flow_smoothness, warp

ROWS, COLUMNS = jnp.arange(6.0)[:, None], jnp.arange(8.0)[None]
PLACES = jnp.array([[2.5, 2.9], [3.0, 3.2], [2.0, 4.1], [3.0, 3.8]])
ONE_PIXEL = 2 / 8
STEPS = 30


def _spot(place):
    """A bright spot at (row, column), as wide as a pixel."""
    return 0.8 * jnp.exp(-jnp.square(ROWS - place[0]) - jnp.square(COLUMNS - place[1]))[..., None]


def _left_or_right(x, key):
    """0 where the spot is left of the middle, 1 where it is to the right, 2 never."""
    side = jnp.sum(x[..., 0] * (COLUMNS - 3.5))
    return jnp.array([-side, side, -9.0])


X = jax.vmap(_spot)(PLACES)
Y = jnp.array([0, 0, 1, 1])
KEYS = jax.random.split(jax.random.key(1), 4)


@jax.jit
def _run(bound, tau, keys=KEYS):
    """The images and the flows of all spots, by the attack that keeps the best."""
    attack = stadv(bound, STEPS, lr=0.02, tau=tau)
    return jax.vmap(lambda x, y, k: run_with_flow(attack, _left_or_right, x, y, k))(X, Y, keys)


def test_the_spot_crosses_the_middle_and_only_moves():
    images, flows = _run(ONE_PIXEL, 0.001)
    assert jnp.all(images.won)
    assert jnp.array_equal(jax.vmap(lambda x: jnp.argmax(_left_or_right(x, None)))(images.x), 1 - Y)
    assert jnp.all(jnp.max(images.x, (1, 2, 3)) <= jnp.max(X, (1, 2, 3)) + 1e-6) and jnp.min(images.x) >= 0.0
    assert jnp.max(jnp.abs(flows)) <= jnp.float32(ONE_PIXEL)
    assert jnp.all(images.queries == STEPS + 1)
    np.testing.assert_allclose(jax.vmap(warp)(X, flows), images.x, atol=1e-6)
    # The pixel right of a spot that went right looks left, where it was; it went left if it was right of the middle.
    beside = jnp.array(
        [flows[k, int(r), int(c), 0] for k, (r, c) in enumerate([(2, 4), (3, 4), (2, 3), (3, 3)])]
    )
    assert jnp.array_equal(jnp.sign(beside), jnp.array([-1.0, -1.0, 1.0, 1.0]))


def test_stronger_tau_is_smoother_and_a_larger_bound_is_not_weaker():
    roughness = [float(jnp.mean(jax.vmap(flow_smoothness)(_run(ONE_PIXEL, t)[1]))) for t in (0.0, 0.01, 0.05)]
    assert roughness == sorted(roughness, reverse=True) and roughness[-1] < 0.9 * roughness[0]
    heights = [float(jnp.mean(_run(b * ONE_PIXEL, 0.0)[0].loss)) for b in (0.0, 0.1, 0.4, 1.0)]
    assert heights == sorted(heights) and heights[0] < heights[-1]


def test_bound_zero_is_the_identity():
    images, flows = _run(0.0, 0.05)
    assert jnp.array_equal(images.x, X) and jnp.all(flows == 0.0)


def test_best_is_the_best_of_the_flows_visited_and_last_is_the_last():
    """Both keep one of the steps + 1 flows; the objective of each is computed anew here."""
    tau, problem = 0.01, (lambda x, key: margin()(jnp.sin(20 * _left_or_right(x, key)), Y[0]), X[0], KEYS[0])

    def visited(attack):
        step = lambda state, i: (attack.step(problem, state, i), state.flow)
        state, flows = jax.lax.scan(step, attack.init(problem), jnp.arange(attack.steps))
        objective = lambda f: problem[0](warp(X[0], f), None) - tau * flow_smoothness(f)
        return attack.best(state), flows, jax.vmap(objective)(flows), jax.grad(objective)(flows[0])

    for keep, choose in (("best", jnp.argmax), ("last", lambda values: len(values) - 1)):
        attack = flow_ascent(ONE_PIXEL, STEPS, 0.05, tau, keep)
        kept, flows, values, gradient = jax.jit(lambda: visited(attack))()
        assert len(values) == STEPS + 1 and jnp.all(flows[0] == 0.0)
        chosen = int(choose(values))
        np.testing.assert_allclose(kept.x, warp(X[0], flows[chosen]), atol=1e-6)
        np.testing.assert_allclose(kept.loss, values[chosen], atol=1e-5)
        # Adam's first step is as long as its rate, along the sign of the gradient.
        moved = jnp.abs(gradient) > 1e-3
        np.testing.assert_allclose(flows[1][moved], 0.05 * jnp.sign(gradient[moved]), rtol=1e-3)
    assert int(jnp.argmax(values)) < STEPS  # the sine has made the last flow another than the best


def test_pooled_is_alone_and_the_letter_does_not_stop_early():
    """With keep = "last" no victory ends the attack before its last step, so a pool that stops gives what each gets alone."""
    attack = stadv(ONE_PIXEL, 8, lr=0.05, tau=0.001, keep="last")
    together = jax.jit(lambda: pooled(attack, slots=3, stop=True)(_left_or_right, X, Y, KEYS))()
    alone = jax.jit(attack.run, static_argnums=0)
    for k in range(4):
        one = alone(_left_or_right, X[k], Y[k], KEYS[k])
        np.testing.assert_allclose(together.x[k], one.x, atol=1e-5)
        assert bool(together.won[k]) is bool(one.won) and together.queries[k] == one.queries == 9
    assert jnp.all(together.won)


def test_default_tau_is_laidlaws():
    """0.0025 / bound: at the bound 0.05 the weight is 0.05, at 0.1 half of that."""

    @jax.jit
    def losses(bound, tau):
        attacks = stadv(bound, 2), stadv(bound, 2, tau=tau), stadv(bound, 2, tau=1.5 * tau)
        return [attack.run(_left_or_right, X[0], Y[0], KEYS[0]).loss for attack in attacks]

    for bound, tau in ((0.05, 0.05), (0.1, 0.025)):
        default, same, other = losses(bound, tau)
        np.testing.assert_allclose(default, same, rtol=1e-5)
        assert abs(default - other) > 1e-5


def _spoiled(share):
    """The classifier with NaN logits, and gradients, in this share of its evaluations."""
    return lambda x, key: _left_or_right(x, key) * jnp.where(jax.random.bernoulli(key, share), jnp.nan, 1.0)


@partial(jax.jit, static_argnums=0)
def _original(goal, y, tau, kappa, spoiled=0.0):
    attack = stadv_original(tau, kappa, 20, goal)
    return jax.vmap(lambda x, y, k: run_with_flow(attack, _spoiled(spoiled), x, y, k))(X, y, KEYS)


@pytest.mark.slow
def test_original_wins_by_kappa_and_no_more():
    """Free flows, in pixels, cross the boundary and stop there: at the kappa that is asked for."""
    gaps, roughness = {}, {}
    for kappa, tau in ((0.0, 0.02), (0.5, 0.02), (0.5, 0.0)):
        images, flows = _original("untargeted", Y, tau, kappa)
        assert jnp.all(images.won)
        gap = jax.vmap(lambda x, y: margin()(_left_or_right(x, None), y))(images.x, Y)
        smoothness = jax.vmap(flow_smoothness)(flows * jnp.array([4.0, 3.0])[None, None, None])
        np.testing.assert_allclose(images.loss, jnp.minimum(gap, kappa) - tau * smoothness, atol=1e-5)
        assert jnp.all(images.queries >= 20) and jnp.all(images.queries <= 20 * 11)
        gaps[kappa, tau], roughness[kappa, tau] = gap, float(jnp.mean(smoothness))
    assert jnp.all(gaps[0.0, 0.02] < 0.1) and jnp.all(jnp.abs(gaps[0.5, 0.02] - 0.5) < 0.1)
    assert roughness[0.0, 0.02] < roughness[0.5, 0.02] < roughness[0.5, 0.0]


def test_original_reaches_its_target():
    """Of two classes in reach, away from one is towards the other; the class that nothing is stays out of reach."""
    away, towards = (_original(goal, y, 0.02, 0.5)[0] for goal, y in (("untargeted", Y), ("targeted", 1 - Y)))
    assert jnp.all(towards.won)
    np.testing.assert_allclose(towards.loss, away.loss, atol=0.03)  # the line search stops early
    assert not jnp.any(_original("targeted", 0 * Y + 2, 0.02, 0.5)[0].won)


def test_original_counts_the_evaluations_of_its_line_searches():
    calls = []

    def counted(x, key):
        jax.debug.callback(lambda _: calls.append(1), x)
        return _left_or_right(x, key)

    run = jax.jit(lambda y: stadv_original(0.02, 0.5, 6).run(counted, X[0], y, KEYS[0]).queries)
    queries = int(run(Y[0]))
    jax.effects_barrier()
    assert queries == len(calls) > 6


def test_original_leaves_what_is_lost_already():
    found, flow = _original("untargeted", 1 - Y, 0.02, 0.0)
    assert jnp.all(found.won) and jnp.array_equal(found.x, X) and jnp.all(flow == 0.0)


def test_broken_gradients_leave_an_image():
    """A classifier that now and then, or always, is NaN through and through: images stay finite, and in the box."""
    attack = stadv(0.1, 8)
    ours = jax.jit(lambda share: attack.run(_spoiled(share), X[0], Y[0], KEYS[0]).x)
    for x in (
        ours(0.4),
        ours(1.0),
        *(_original("untargeted", Y, 0.05, 0.0, share)[0].x for share in (0.4, 1.0)),
    ):
        assert jnp.all(jnp.isfinite(x)) and jnp.min(x) >= 0.0 and jnp.max(x) <= 1.0


def test_lbfgs_solves_a_least_squares_problem():
    """On the ramp x = j / 10 the wish x' = x + 0.03 has the solution u = 0.3 pixels, where the border allows it."""
    ramp = jnp.broadcast_to(COLUMNS[..., None] / 10, (6, 8, 1))
    wish = lambda x, key: -jnp.sum(jnp.square(x - ramp - 0.03)[:, :-1])
    _, flow = jax.jit(lambda: run_with_flow(flow_lbfgs(0.0, 1.0, 15), wish, ramp, KEYS[0]))()
    np.testing.assert_allclose(flow[:, :-1, 0] * 4, 0.3, atol=1e-3)
    np.testing.assert_allclose(flow[..., 1], 0.0, atol=1e-5)


@pytest.mark.parametrize(
    "make",
    [
        lambda: stadv(-0.1),
        lambda: stadv(steps=0),
        lambda: stadv(lr=-1.0),
        lambda: stadv(keep="first"),
        lambda: stadv_original(goal="both"),
        lambda: stadv_original(tau=-1.0),
    ],
)
def test_bad_arguments(make):
    with pytest.raises(ValueError, match=r"got|Known"):
        make()
