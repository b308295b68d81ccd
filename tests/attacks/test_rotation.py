"""Rotations and translations: known images, an independent implementation, and searches that never get weaker."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import affine_transform

from jaxdiff.attacks import margin, untargeted
from jaxdiff.attacks.queries.rotation import rotate_translate, rotation_translation, worst_of_k

X = jax.random.uniform(jax.random.key(2), (8, 8, 3))
WIDE = jax.random.uniform(jax.random.key(3), (6, 9, 1))
W = jax.random.normal(jax.random.key(7), (3, 8, 8, 3))
TURN = jax.jit(rotate_translate)


def _loss(x, key):
    return jnp.sum(jnp.sin(3 * x) * W[0])


def _logits(x, key):
    return jnp.tensordot(W, x, 3)


@pytest.mark.parametrize("x", [X, WIDE, jnp.ones((5, 4, 1))])
def test_nothing_is_the_identity_bit_for_bit(x):
    assert jnp.array_equal(TURN(x, 0.0, 0.0, 0.0), x)


def test_quarter_turns():
    for quarters in (-1, 1, 2, 4):
        np.testing.assert_allclose(TURN(X, 90.0 * quarters, 0.0, 0.0), jnp.rot90(X, quarters), atol=1e-5)


@pytest.mark.parametrize("x", [X, WIDE])
def test_whole_shifts_bring_in_zeros(x):
    right_down = TURN(x, 0.0, 2.0, 1.0)
    np.testing.assert_array_equal(right_down[1:, 2:], x[:-1, :-2])
    assert not jnp.any(right_down[0]) and not jnp.any(right_down[:, :2])
    left_up = TURN(x, 0.0, -3.0, -2.0)
    np.testing.assert_array_equal(left_up[:-2, :-3], x[2:, 3:])
    assert not jnp.any(left_up[-2:]) and not jnp.any(left_up[:, -3:])
    np.testing.assert_allclose(TURN(x, 0.0, 0.5, 0.0)[:, 1:], (x[:, 1:] + x[:, :-1]) / 2, atol=1e-6)


@pytest.mark.parametrize("x", [X, WIDE])
def test_agrees_with_scipy(x):
    """scipy samples at M p + offset in (row, column), for the inverse of: rotate about the centre, then shift."""
    for degrees, dx, dy in ((17.0, 0.0, 0.0), (-30.0, 1.5, -0.75), (133.0, -2.0, 3.0)):
        angle = np.deg2rad(degrees)
        inverse = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        centre = (np.array(x.shape[:2]) - 1) / 2
        offset = centre - inverse @ (centre + np.array([dy, dx]))
        channels = [
            affine_transform(np.array(x[..., c]), inverse, offset, order=1, mode="grid-constant")
            for c in range(x.shape[-1])
        ]
        np.testing.assert_allclose(TURN(x, degrees, dx, dy), np.stack(channels, -1), atol=1e-5)


def test_the_grid_is_searched_whole():
    """The best of the grid by a loop over its candidates; every one is looked at, the image itself first."""
    run = rotation_translation(40.0, 0.25, (3, 2, 3))
    assert run.steps == 1 + 3 * 2 * 3
    candidates = [
        TURN(X, degrees, dx, dy)
        for degrees in (-40.0, 0.0, 40.0)
        for dx in (-2.0, 2.0)
        for dy in (-2.0, 0.0, 2.0)
    ]
    best = max((_loss(c, None), i) for i, c in enumerate([X, *candidates]))
    found = jax.jit(lambda x, k: run.run(_loss, x, k))(X, jax.random.key(0))
    assert float(found.loss) == pytest.approx(float(best[0]), rel=1e-5) and int(found.queries) == run.steps
    np.testing.assert_allclose(found.x, [X, *candidates][best[1]], atol=1e-6)
    first = run.best(run.step((_loss, X, jax.random.key(0)), run.init((_loss, X, None)), jnp.asarray(0)))
    assert jnp.array_equal(first.x, X)
    assert rotation_translation(grid=(31, 5, 5)).steps == 31 * 5 * 5
    assert rotation_translation(grid=(1, 1, 1)).steps == 1


def test_shifts_are_whole_pixels_of_each_side():
    """A tenth of 32 is 3 pixels and of 20 is 2: the search for an image that moved so finds it bit for bit."""
    x = jax.random.uniform(jax.random.key(4), (20, 32, 1))
    hidden = TURN(x, 0.0, 3.0, -2.0)
    found = rotation_translation(0.0, 0.1, (1, 2, 2)).run(
        lambda x, key: -jnp.sum(jnp.abs(x - hidden)), x, jax.random.key(0)
    )
    assert jnp.array_equal(found.x, hidden)


def test_a_finer_grid_is_never_weaker(key):
    """Grids of 2 lie in those of 3, and these in those of 5; random searches of k are the first k of more."""
    height = lambda run: float(jax.jit(lambda x, k: run.run(_loss, x, k).loss)(X, key))
    grids = [height(rotation_translation(30.0, 0.3, (n, n, n))) for n in (2, 3, 5)]
    draws = [height(worst_of_k(k, 30.0, 0.3)) for k in (1, 40)]
    for heights in (grids, draws):
        assert heights == sorted(heights) and heights[0] < heights[-1]


def test_as_an_attack_a_victory_counts_first(key):
    """The label of the image itself is lost on the grid exactly where a candidate of it loses it; vmap is a loop."""
    x = jax.random.uniform(key, (5, 8, 8, 3))
    y = jnp.argmax(jax.vmap(lambda x: _logits(x, None))(x), -1)
    attack = untargeted(rotation_translation(30.0, 0.3, (3, 3, 1)), margin())
    keys = jax.random.split(key, 5)
    found = jax.jit(jax.vmap(lambda x, y, k: attack.run(_logits, x, y, k)))(x, y, keys)
    moves = [(d, s, 0.0) for d in (-30.0, 0.0, 30.0) for s in (-2.0, 0.0, 2.0)]
    for i in range(5):
        falls = any(int(jnp.argmax(_logits(TURN(x[i], *move), None))) != y[i] for move in moves)
        assert bool(found.won[i]) == falls == bool(jnp.argmax(_logits(found.x[i], None)) != y[i])
    alone = attack.run(_logits, x[2], y[2], keys[2])
    np.testing.assert_allclose(found.x[2], alone.x, atol=1e-6)
    assert jnp.min(found.x) >= 0.0 and jnp.max(found.x) <= 1.0


def test_no_room_returns_the_image(key):
    for run in (rotation_translation(0.0, 0.0, (2, 1, 2)), worst_of_k(3, 0.0, 0.0)):
        assert jnp.array_equal(run(lambda x, key: jnp.sum(x), WIDE, key), WIDE)


@pytest.mark.parametrize(
    "make",
    [
        lambda: rotation_translation(-1.0),
        lambda: rotation_translation(max_shift=2.0),
        lambda: rotation_translation(grid=(3, 3)),
        lambda: rotation_translation(grid=(3, 0, 3)),
        lambda: worst_of_k(0),
        lambda: rotate_translate(jnp.zeros((4, 4)), 0.0, 0.0, 0.0),
    ],
)
def test_bad_arguments(make):
    with pytest.raises(ValueError, match="got"):
        make()
