"""Square: its windows, schedule and pyramids are the paper's, its optimum that of a linear loss, its queries exact."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rows import slow_but

from jaxdiff.attacks.attack import untargeted
from jaxdiff.attacks.objectives import margin
from jaxdiff.attacks.pool import pooled
from jaxdiff.attacks.queries.square import fraction, pyramids, square_l1, square_l2, square_linf
from jaxdiff.attacks.stepwise import start

RADIUS = 0.1
SQUARES = {"linf": square_linf, "l2": square_l2, "l1": square_l1}
ORDER = {"linf": np.inf, "l2": 2, "l1": 1}
W = jax.random.normal(jax.random.key(7), (6, 5, 3))
INSIDE = jnp.full(W.shape, 0.5)  # no pixel is near the box


def _linear(x, key):
    return jnp.vdot(W, x)


def _every_move(ascent, loss, x, key):
    """All iterates [steps, ...] of an ascent to which every proposal seems an improvement."""

    def step(state, i):
        state = ascent.step((loss, x, key), state._replace(loss=jnp.asarray(-jnp.inf)), i)
        return state, state.x

    return jax.lax.scan(step, ascent.init((loss, x, key)), jnp.arange(ascent.steps))[1]


@pytest.mark.parametrize("rescale", [False, True])
def test_schedule_is_the_published_table(rescale):
    table = [
        (10, 1),
        (50, 2),
        (200, 4),
        (500, 8),
        (1000, 16),
        (2000, 32),
        (4000, 64),
        (6000, 128),
        (8000, 256),
    ]
    queries = 1234 if rescale else 9000
    i = np.arange(queries)
    it = 10_000 * i // queries if rescale else i
    divisors = [next((d for last, d in table if t <= last), 512) for t in it]
    found = jax.jit(jax.vmap(lambda i: fraction(i, queries, 0.8, rescale)))(i)
    np.testing.assert_allclose(found, 0.8 / np.array(divisors), rtol=1e-6)
    assert divisors[-1] == 512


def _heights(rows, columns, n):
    """The pyramid of the paper's definition, one pixel and one term at a time."""
    return [
        [
            sum(1 / (n + 1 - k) ** 2 for k in range(n - max(abs(r - rows // 2), abs(c - columns // 2)) + 1))
            for c in range(columns)
        ]
        for r in range(rows)
    ]


@pytest.mark.parametrize("side", [1, 2, 3, 4, 5, 8])
def test_pyramids_are_their_definition(side):
    """Two pyramids of opposite sign, |eta| = 1, anywhere in an image larger than the window."""
    upper, lower = (_heights(rows, side, side // 2) for rows in (side // 2, side - side // 2))
    eta = np.array(upper + [[-h for h in row] for row in lower])
    eta /= np.sqrt(np.sum(eta**2))
    in_image = jax.jit(lambda side, across: pyramids(jnp.arange(11) - 3, jnp.arange(9) - 1, side, across))
    for across in (False, True):
        expected = np.zeros((11, 9))
        expected[3 : 3 + side, 1 : 1 + side] = eta.T if across else eta
        found = in_image(side, across)
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_starts_are_stripes_and_tiles(key):
    first = lambda make, x: jax.jit(lambda: make(RADIUS).init((_linear, x, key)).x - x)()
    stripes = np.asarray(first(square_linf, INSIDE))
    np.testing.assert_allclose(np.abs(stripes), RADIUS, atol=1e-6)
    assert np.array_equal(stripes, np.broadcast_to(stripes[:1], W.shape))
    assert len(np.unique(np.sign(stripes[0]))) == 2
    # An image of 11 x 17 holds 5 x 8 tiles of side 2, centred; all hold the same share of the norm.
    for make, order, rtol in ((square_l2, 2, 1e-5), (square_l1, 1, 1e-5)):
        tiles = np.asarray(first(make, jnp.full((11, 17, 2), 0.5)))
        assert np.linalg.norm(tiles.ravel(), order) == pytest.approx(RADIUS, rel=rtol)
        assert not np.any(tiles[10:]) and not np.any(tiles[:, 16:])
        shares = np.sum(np.abs(tiles[:10, :16]).reshape(5, 2, 8, 2, 2) ** order, axis=(1, 3))
        np.testing.assert_allclose(shares, RADIUS**order / 80, rtol=10 * rtol)


def test_linf_moves_one_window(key):
    """Every proposal differs in one square of the schedule's side, where it lies at the bounds; queries are counted."""
    x = jnp.clip(jax.random.uniform(key, (7, 9, 2)) * 1.2 - 0.1, 0, 1)
    iterates = np.asarray(jax.jit(lambda: _every_move(square_linf(RADIUS, 60), _linear_to(x), x, key))())
    sides = [min(max(round(np.sqrt(float(fraction(i, 60, 0.8)) * 63)), 1), 7) for i in range(60)]
    bounds = np.clip(x - RADIUS, 0, 1), np.clip(x + RADIUS, 0, 1)
    assert {7, 5, 4} == set(sides)
    moved = 0
    for i in range(1, 60):
        rows, columns = np.nonzero(np.any(iterates[i] != iterates[i - 1], axis=-1))
        moved += len(rows)
        if len(rows):
            window = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
            assert max(np.ptp(rows), np.ptp(columns)) < sides[i]
            low, high = (iterates[i] == bound for bound in bounds)
            assert all(low[window][..., c].all() or high[window][..., c].all() for c in range(2))
    assert moved > 500


def _linear_to(x):
    return lambda z, key: jnp.sum(z - x)


def test_windows_are_uniform(key):
    """Late windows are single pixels: all positions alike, the last ones included, signs even, channels independent."""
    x, ascent = jnp.full((4, 3, 2), 0.5), square_linf(RADIUS, 10_000)
    one = lambda key: ascent.step((_linear_to(x), x, key), start(x), jnp.asarray(9000)).x - x
    n = 12_000
    # A start that was never evaluated loses against any proposal.
    deltas = np.asarray(jax.jit(jax.vmap(one))(jax.random.split(key, n)))
    changed = np.any(deltas != 0, axis=-1)
    assert np.all(changed.sum(axis=(1, 2)) == 1)
    tolerance = 4.5 * np.sqrt(n / 12)
    np.testing.assert_allclose(changed.sum(axis=0), n / 12, atol=tolerance)
    signs = np.sign(deltas.sum(axis=(1, 2)))
    assert np.abs(signs.sum(axis=0)).max() < 4.5 * np.sqrt(n) and abs(
        signs.prod(axis=1).sum()
    ) < 4.5 * np.sqrt(n)


@pytest.mark.parametrize("name", ["l2", "l1"])
def test_lp_moves_norm_between_windows(name, key):
    """While the box is far the norm stays the radius. In L2 all but two windows of odd side stay as they are; in L1 what the
    first gets is taken from all pixels alike, and most of them end at 0.
    """
    x, n, radius = jnp.full((9, 8, 2), 0.5), 300, {"l2": RADIUS, "l1": 5 * RADIUS}[name]
    run = jax.jit(lambda: _every_move(SQUARES[name](radius, n), _linear_to(x), x, key))
    deltas = np.asarray(run()) - 0.5
    norms = np.linalg.norm(deltas.reshape(n, -1), ORDER[name], axis=1)
    np.testing.assert_allclose(norms, radius, rtol=2e-5)
    if name == "l1":
        changed = np.sum(np.abs(deltas) > 1e-7, axis=(1, 2, 3))
        assert changed[0] > 100 and np.median(changed[100:]) < 40
        return
    changes = np.any(np.abs(deltas[1:] - deltas[:-1]) > 1e-6, axis=-1).sum(axis=(1, 2))
    assert np.all(changes[50:199] <= 2 * 25) and np.all(changes[200:] <= 2 * 9) and changes.min() >= 5
    # The second window is empty where the first does not cover it.
    assert np.mean(np.any(deltas == 0, axis=-1)) > 0.2


@pytest.mark.slow
@pytest.mark.parametrize("name", slow_but(["l2", "l1"], "l1"))
def test_lp_spends_the_norm_that_the_box_took(name, key):
    """From half the radius one move of two windows comes to the radius, whatever lies outside of them."""
    x, ascent = jnp.full((9, 8, 2), 0.5), SQUARES[name](RADIUS, 300)
    half = x + 0.5 * (ascent.init((_linear_to(x), x, key)).x - x)
    one = lambda key: ascent.step((_linear_to(x), x, key), start(half), jnp.asarray(100)).x
    found = np.asarray(jax.jit(jax.vmap(one))(jax.random.split(key, 30)))
    norms = np.linalg.norm((found - 0.5).reshape(30, -1), ORDER[name], axis=1)
    np.testing.assert_allclose(norms, RADIUS, rtol=1e-4)
    if name == "l1":  # the projection moves all pixels
        return
    unchanged = np.all(np.abs(found - np.asarray(half)) < 1e-6, axis=-1).sum(axis=(1, 2))
    assert np.all(unchanged >= 72 - 2 * 25)


@pytest.mark.parametrize(
    ("name", "shape"),
    slow_but([("linf", (6, 5, 1)), ("l2", (4, 7, 3)), ("l1", (4, 7, 3))], ("l2", (4, 7, 3))),
)
def test_feasible_for_wild_losses(name, shape, key):
    """Each iterate is in the box exactly and in the ball up to rounding; a loss of NaN does no harm."""

    def wild(x, key):
        value = 1e3 * jnp.sum(jnp.sin(50 * x)) + jax.random.normal(key) * jnp.sum(x)
        return jnp.where(jax.random.bernoulli(key, 0.2), jnp.nan, value)

    x = jnp.round(jax.random.uniform(key, (4, *shape)), 1)
    attack = SQUARES[name](2 * RADIUS, 80)
    keys = jax.random.split(key, 4)
    iterates = np.asarray(jax.jit(jax.vmap(lambda x, k: _every_move(attack, wild, x, k)))(x, keys))
    assert np.min(iterates) == 0.0 and np.max(iterates) == 1.0
    deltas = (iterates - np.asarray(x)[:, None]).reshape(4, 80, -1)
    norms = np.linalg.norm(deltas, ORDER[name], axis=-1)
    assert np.max(norms) <= 2 * RADIUS * (1 + 1e-5) and np.min(norms) > 0.02


@pytest.mark.parametrize("name", slow_but(SQUARES, "l2"))
def test_linear_loss_is_maximised(name, key):
    """L-infinity comes to radius |w|_1; the others, whose moves are smooth, half way to radius |w|_dual on white noise."""
    optimum, share = {
        "linf": (RADIUS * jnp.sum(jnp.abs(W)), 0.95),
        "l2": (RADIUS * jnp.linalg.norm(W), 0.5),
        "l1": (RADIUS * jnp.max(jnp.abs(W)), 0.5),
    }[name]
    ascent, problem = SQUARES[name](RADIUS, 1500), (_linear, INSIDE, key)

    def step(state, i):
        state = ascent.step(problem, state, i)
        return state, state

    final, path = jax.device_get(
        jax.jit(lambda: jax.lax.scan(step, ascent.init(problem), jnp.arange(1500)))()
    )
    gain = path.loss - _linear(INSIDE, key)
    # The best never decreases, is what the loss says of its point, and has taken a query a step.
    assert np.all(np.diff(path.loss) >= 0) and np.array_equal(path.queries, np.arange(1, 1501))
    np.testing.assert_allclose(np.einsum("ihwc,hwc->i", path.x, W), path.loss, rtol=1e-4)
    assert share * optimum <= gain[-1] <= optimum * (1 + 1e-4)
    # The first query is the start; fewer queries are the first steps of more.
    fewer = SQUARES[name](RADIUS, 40).run(*problem)
    np.testing.assert_allclose(fewer.x, path.x[39], atol=1e-6)
    np.testing.assert_allclose(path.x[0], ascent.init(problem).x, atol=1e-6)
    assert fewer.queries == 40 and not final.won


@pytest.mark.parametrize("name", slow_but(SQUARES, "l1"))
def test_one_attack_serves_all_radii(name, key):
    """A traced radius is reached where the box lets it; the radius 0 is the identity bit for bit."""
    found = jax.jit(lambda radius, x: SQUARES[name](radius, 8)(_linear, x, key))
    x = jnp.clip(jax.random.uniform(key, W.shape) * 1.2 - 0.1, 0, 1)
    assert jnp.array_equal(found(0.0, x), x)
    for radius in (0.01, 0.3):
        delta = np.ravel(found(radius, INSIDE) - INSIDE)
        assert np.linalg.norm(delta, ORDER[name]) == pytest.approx(radius, rel=1e-4)


@pytest.mark.parametrize("name", slow_but(SQUARES, "linf"))
def test_company_does_not_matter(name, key):
    """An example's windows and queries are its own, in a pool (L-infinity) or vmapped; a victory ends them."""
    classifier = lambda x, key: jnp.tanh(jnp.stack([jnp.vdot(W, x - 0.5), jnp.sum(x) / 45 - 1]))
    x = jax.random.uniform(key, (7, *W.shape))
    y, keys = jax.vmap(lambda x: jnp.argmax(classifier(x, key)))(x), jax.random.split(key, 7)
    attack = untargeted(SQUARES[name]({"linf": 0.12, "l2": 0.8, "l1": 4.0}[name], 60), margin())
    one = lambda x, y, key: attack.run(classifier, x, y, key)
    together = jax.vmap(one) if name != "linf" else lambda *p: pooled(attack, 3)(classifier, *p)
    both = jax.jit(lambda *p: (jax.lax.map(lambda p: one(*p), p), together(*p)))
    looped, found = jax.device_get(both(x, y, keys))
    assert {True, False} == set(looped.won.tolist()) and len(set(looped.queries.tolist())) > 2
    assert np.array_equal(looped.won, looped.queries < 60)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found, looped)
    labels = jax.vmap(lambda x: jnp.argmax(classifier(x, key)))(looped.x)
    assert jnp.array_equal(labels != y, looped.won)


def test_binary_model_falls_at_its_margin(key):
    """Two classes, one channel, a black box that cannot be differentiated: won just above the minimal radius, not below."""

    @jax.custom_jvp
    def box(x):
        return jnp.stack([jnp.vdot(W[..., :1], x), jnp.asarray(0.0)])

    @box.defjvp
    def _(primals, tangents):
        raise AssertionError("Square asked for a gradient.")

    x = 0.5 + 0.1 * jnp.sign(W[..., :1])
    minimal = box(x)[0] / jnp.sum(jnp.abs(W[..., :1]))
    run = jax.jit(
        lambda radius: untargeted(square_linf(radius, 1500), margin()).run(
            lambda x, key: box(x), x, jnp.asarray(0), key
        )
    )
    falls, stands = run(1.05 * minimal), run(0.97 * minimal)
    assert falls.won and falls.queries < 1500 and falls.loss > 0 and box(falls.x)[0] < 0
    assert not stands.won and stands.queries == 1500 and stands.loss < 0


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: square_linf(-0.1), W.shape),
        (lambda: square_l2(float("nan")), W.shape),
        (lambda: square_linf(0.1, queries=0), W.shape),
        (lambda: square_l2(0.1, p=0), W.shape),
        (lambda: square_linf(0.1, p=1.5), W.shape),
        (lambda: square_linf(0.1), (6, 5)),
        (lambda: square_l2(0.1), (2, 5, 3)),
    ],
)
def test_bad_arguments(make, shape, key):
    with pytest.raises(ValueError, match="got"):
        make().init((_linear, jnp.zeros(shape), key))
