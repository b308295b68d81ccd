"""Patches: what they cover and what they do not, derivatives, printability in closed form, and that training works."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdiff.attacks.universal.patch import (
    Placement,
    apply_patch,
    circle_mask,
    force_class,
    hide_label,
    non_printability,
    patch_step,
    place,
    printable_colours,
    random_placement,
    square_mask,
    total_variation,
    train_patch,
)

X = jax.random.uniform(jax.random.key(0), (9, 11, 3))
PATCH = jax.random.uniform(jax.random.key(1), (4, 4, 3))
PLACE = jax.jit(place)


@pytest.mark.parametrize("mask", [square_mask(4), circle_mask(4)])
@pytest.mark.parametrize(("top", "left"), [(0, 0), (3, 5), (5, 7), (-2, 9)])
def test_upright_at_scale_one_the_patch_is_pasted(mask, top, left):
    """Pixel for pixel where the mask is, also over the edge of the image; all else is what it was, bit for bit."""
    pasted = PLACE(X, PATCH, mask, Placement(top + 1.5, left + 1.5))
    expected = np.array(X)
    for i in range(4):
        for j in range(4):
            if mask[i, j] and 0 <= top + i < 9 and 0 <= left + j < 11:
                expected[top + i, left + j] = PATCH[i, j]
    assert np.array_equal(pasted, expected)


def test_quarter_turns_and_doubling():
    """A quarter turn is that of numpy, counterclockwise; at scale 2 the middle of the patch covers twice its size."""
    for turns in (1, 2, 3):
        turned = PLACE(X, PATCH, square_mask(4), Placement(4.5, 5.5, 1.0, turns * np.pi / 2))
        np.testing.assert_allclose(turned[3:7, 4:8], np.rot90(PATCH, turns), atol=1e-5)
    black_on_white = PLACE(jnp.ones_like(X), jnp.zeros((3, 3, 3)), square_mask(3), Placement(4.0, 5.0, 2.0))
    # The sampled mask is the tent-smoothed square: it integrates to the square of scale times side.
    assert jnp.sum(1.0 - black_on_white[..., 0]) == pytest.approx(36.0, rel=1e-4)
    assert jnp.all(black_on_white[2:7, 3:8] == 0.0)


def test_nothing_outside_the_patch_changes_and_the_box_holds(key):
    """Farther from the middle than half the diagonal, and a pixel of the patch for its soft edge, no bit changes."""
    draw, mask = random_placement((0.5, 2.0), np.pi), square_mask(4)
    i, j = jnp.arange(9.0)[:, None], jnp.arange(11.0)[None]

    @jax.jit
    def run(key):
        placement = draw(key, X.shape, PATCH.shape)
        x = place(jnp.round(X), jnp.round(PATCH), mask, placement)
        distance = jnp.hypot(i - placement.row, j - placement.column)
        # A pixel of the patch more than its half: its edge is soft.
        outside = distance > placement.scale * (2.0 + 0.5) * jnp.sqrt(2.0)
        return (
            x,
            jnp.any((x != jnp.round(X)) & outside[..., None]),
            jnp.any(x != jnp.round(X)),
            jnp.any(outside),
        )

    x, strays, changes, some_outside = jax.vmap(run)(jax.random.split(key, 200))
    assert jnp.min(x) >= 0.0 and jnp.max(x) <= 1.0
    assert not jnp.any(strays) and jnp.all(changes) and jnp.mean(some_outside) > 0.5


def test_circle_is_round():
    """Symmetric, its area that of the disc, and the corners free."""
    mask = circle_mask(40)
    assert jnp.array_equal(mask, mask.T) and jnp.array_equal(mask, mask[::-1])
    assert jnp.sum(mask) == pytest.approx(np.pi * 20**2, rel=0.01) and mask[0, 0] == 0.0
    assert jnp.all(circle_mask(1) == 1.0)


def test_placements_are_uniform_and_stay_inside():
    """Scale and angle fill their ranges; the corners of the turned rectangle lie within the image, up to its edges."""
    draw = random_placement((0.8, 1.2), np.pi / 4)
    row, column, scale, angle = jax.jit(jax.vmap(lambda k: draw(k, (20, 30, 1), (4, 6, 1))))(
        jax.random.split(jax.random.key(2), 20_000)
    )
    np.testing.assert_allclose([scale.min(), scale.mean(), scale.max()], [0.8, 1.0, 1.2], atol=0.01)
    np.testing.assert_allclose(
        [angle.min(), angle.mean(), angle.max()], [-np.pi / 4, 0.0, np.pi / 4], atol=0.02
    )
    half = scale / 2 * (4 * np.abs(np.cos(angle)) + 6 * np.abs(np.sin(angle)))
    assert np.all(row - half >= -0.5 - 1e-4) and np.all(row + half <= 19.5 + 1e-4)
    assert np.min(row - half) < -0.4 and np.max(row + half) > 19.4
    assert np.mean(column) == pytest.approx(14.5, abs=0.2)
    assert np.std((row - 9.5) / (10 - half)) == pytest.approx(1 / np.sqrt(3), rel=0.02)
    row, column, _, _ = draw(jax.random.key(0), (3, 30, 1), (4, 6, 1))
    assert row == 1.0 and column != 14.5  # too tall for the image: in the middle


def test_derivative_in_the_patch_is_a_finite_difference(x64):
    """Placing is linear in the patch, so the difference is exact; pixels under the patch have no derivative left."""
    x, patch = (
        jax.random.uniform(jax.random.key(k), s, jnp.float64) for k, s in ((0, (9, 11, 2)), (1, (4, 5, 2)))
    )
    cotangent = jax.random.normal(jax.random.key(2), x.shape, jnp.float64)
    mask = jnp.ones((4, 5))
    value = jax.jit(
        lambda x, patch: jnp.vdot(cotangent, place(x, patch, mask, Placement(4.3, 5.1, 1.1, 0.5)))
    )
    in_x, in_patch = jax.jit(jax.grad(value, (0, 1)))(x, patch)
    direction = jax.random.normal(jax.random.key(3), patch.shape, jnp.float64)
    difference = value(x, patch + 0.1 * direction) - value(x, patch - 0.1 * direction)
    np.testing.assert_allclose(jnp.vdot(in_patch, direction), difference / 0.2, rtol=1e-10)
    assert jnp.all(in_x[4, 5] == 0.0) and jnp.array_equal(in_x[0], cotangent[0])


def test_total_variation_of_edges():
    """Constant: 0. An edge of height a: a per row and channel vector. A lone pixel: 2 + sqrt(2) times its height."""
    variation = jax.jit(total_variation)
    assert variation(jnp.full((5, 6, 3), 0.3)) == 0.0
    edge = jnp.zeros((5, 6, 3)).at[:, 3:].set(0.5)
    assert variation(edge) == pytest.approx(5 * 0.5 * np.sqrt(3), rel=1e-6)
    assert variation(edge.swapaxes(0, 1)) == pytest.approx(5 * 0.5 * np.sqrt(3), rel=1e-6)
    lone = jnp.zeros((5, 6, 3)).at[2, 2, 1].set(0.8)
    assert variation(lone) == pytest.approx(0.8 * (2 + np.sqrt(2)), rel=1e-6)
    assert jnp.all(jax.jit(jax.grad(total_variation))(jnp.full((5, 6, 3), 0.3)) == 0.0)


def test_non_printability_is_the_distance_to_the_nearest_colour(key):
    colours = printable_colours()
    assert jnp.min(colours) > 0.0 and jnp.max(colours) < 1.0 and len(np.unique(colours, axis=0)) == 27
    printable = jnp.array(colours)[jax.random.randint(key, (4, 4), 0, 27)]
    score = jax.jit(non_printability)
    np.testing.assert_allclose(score(printable), 0.0, atol=1e-5)
    slope = jax.jit(jax.grad(non_printability))
    assert jnp.all(jnp.isfinite(slope(printable)))
    two = jnp.array([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    patch = jnp.array([[[0.3, 0.4, 0.0], [1.0, 1.0, 0.9]]])
    assert score(patch, two) == pytest.approx(0.5 + 0.1, rel=1e-5)
    # Down the gradient, it becomes printable.
    better = PATCH - 0.05 * slope(PATCH)
    assert score(better) < score(PATCH)


# Filters that see nothing in what is flat.
W = jax.random.normal(jax.random.key(5), (3, 3, 3, 4))
W = W - jnp.mean(W, axis=(0, 1), keepdims=True)


def _convolutional(x, key):
    """Logits that see patterns wherever they are: the mean over all places of what four filters find."""
    found = jax.lax.conv_general_dilated(
        x[None], W, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return 3.0 * jnp.mean(jax.nn.softplus(3.0 * found[0]), axis=(0, 1))


IMAGES = 0.4 + 0.2 * jax.random.uniform(jax.random.key(6), (12, 10, 10, 3))
LABELS = jnp.argmax(jax.vmap(lambda x: _convolutional(x, None))(IMAGES), axis=1)
DRAW = random_placement((0.9, 1.1), np.pi / 8)


def _judge(patch, mask):
    """The predictions on every image with the patch at five places the training has not seen."""
    attack = apply_patch(patch, mask, DRAW)
    keys = jax.random.split(jax.random.key(77), (5, 12))
    one = lambda x, y, key: jnp.argmax(_convolutional(attack(_convolutional, x, y, key), key))
    return jax.vmap(jax.vmap(one), (None, None, 0))(IMAGES, LABELS, keys)


@jax.jit
def _trained(target, weight):
    mask = circle_mask(6)
    patch, losses = train_patch(
        _convolutional, IMAGES, LABELS, jax.random.key(0), force_class(target), mask, DRAW,
        steps=60, batch=6, lr=0.05, penalty=lambda p: weight * (total_variation(p) + non_printability(p)),
    )  # fmt: skip
    return patch, losses, _judge(patch, mask)


def test_a_trained_patch_forces_its_class_from_new_places():
    """Whatever the class, the patch trained for it wins nearly everywhere; a given patch does so for a quarter on average."""
    for target in range(4):
        patch, losses, predictions = _trained(target, 0.0)
        assert jnp.min(patch) >= 0.0 and jnp.max(patch) <= 1.0
        assert jnp.mean(losses[-10:]) < jnp.mean(losses[:10])
        assert jnp.mean(predictions == target) > 0.9


def test_penalties_are_obeyed():
    """The weight on total variation and non-printability lowers them."""
    free, bound = (_trained(1, weight)[0] for weight in (0.0, 0.1))
    for penalty in (total_variation, non_printability):
        assert penalty(bound) < penalty(free)


def test_hiding_takes_the_label():
    """A trained patch takes every second label that a patch of noise leaves."""
    mask = square_mask(6)

    @jax.jit
    def kept(key):
        patch, _ = train_patch(_convolutional, IMAGES, LABELS, key, hide_label(), mask, DRAW, 40, 6, 0.05)
        noise = jax.random.uniform(key, patch.shape)
        return jax.vmap(lambda patch: jnp.mean(_judge(patch, mask) == LABELS[None]))(
            jnp.stack([patch, noise])
        )

    trained, noise = kept(jax.random.key(1))
    assert trained < 0.1 and trained < noise / 2


def test_a_step_is_pure_and_survives_nan_gradients(key):
    """The same arguments give the same patch; a NaN gradient moves nothing."""
    tx = optax.sgd(0.1)
    step = patch_step(force_class(0), square_mask(4), random_placement(), tx)
    small = X[None, :, :10]
    run = jax.jit(lambda k: step(_convolutional, PATCH, tx.init(PATCH), small, jnp.array([1]), k))
    assert jnp.array_equal(run(key)[0], run(key)[0]) and not jnp.array_equal(
        run(key)[0], run(jax.random.key(9))[0]
    )
    broken = lambda x, key: _convolutional(x, key) * jnp.nan
    kept, _, loss = jax.jit(lambda: step(broken, PATCH, tx.init(PATCH), small, jnp.array([1]), key))()
    assert jnp.array_equal(kept, PATCH) and jnp.isnan(loss)


@pytest.mark.parametrize(
    "make",
    [
        lambda: random_placement((0.0, 1.0)),
        lambda: random_placement((2.0, 1.0)),
        lambda: place(X, PATCH[..., :1], square_mask(4), Placement(4.0, 4.0)),
        lambda: place(X, PATCH, square_mask(5), Placement(4.0, 4.0)),
        lambda: train_patch(
            _convolutional, IMAGES, LABELS, jax.random.key(0), hide_label(), square_mask(4), DRAW, 0
        ),
    ],
)
def test_bad_arguments(make):
    with pytest.raises(ValueError, match="got"):
        make()
