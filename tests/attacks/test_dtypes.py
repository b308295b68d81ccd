"""Every attack on images of every dtype: the result keeps dtype, box and radius, and falls where a linear model says so."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from every_attack import ATTACKS, ORDER, RADII, linear, run
from known_models import known_margins
from rows import slow_but

from jaxdiff.attacks import linf, margin, nes, untargeted, warp
from jaxdiff.attacks.precision import towards
from jaxdiff.attacks.queries.rotation import rotate_translate
from jaxdiff.attacks.universal.patch import Placement, place, square_mask

HALF = (jnp.bfloat16, jnp.float16)
KEY = jax.random.key(0)
# One of every kind of code: compilations take all of the time.
QUICK = ("pgd_l2", "apgd_linf", "nes", "fab", "ddn", "hop_skip_jump")


@pytest.mark.parametrize("name", slow_but(ATTACKS, *list(ATTACKS)[::2], *QUICK))
@pytest.mark.parametrize("x64", [pytest.param(False, marks=pytest.mark.slow), True])
def test_every_dtype_is_kept(name, x64):
    """Traced only; with logits of the dtype of the image, and of float32 as networks give them for half precision."""
    as_image, as_float32 = linear(3, 16, None), linear(3, 16)
    cases = [(jnp.bfloat16, as_image), (jnp.bfloat16, as_float32), (jnp.float16, as_float32)]
    cases += [(jnp.float32, as_image), *([(jnp.float64, as_image)] if x64 else [])]
    with jax.enable_x64(x64):
        row, y = ATTACKS[name](), jnp.asarray(0)
        for dtype, classifier in cases:
            x = jnp.full((4, 4, 1), 0.5, dtype)
            out, _ = jax.eval_shape(lambda x, c=classifier: run(row, c, x, y, KEY), x)
            assert out.dtype == dtype


@pytest.mark.parametrize("dtype", HALF)
def test_rounding_is_towards_the_original(dtype):
    """Never farther than the moved image, by less than a step of the dtype nearer, with the gradient of the identity."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.uniform(size=4000) ** 4, dtype)
    image = np.clip(np.asarray(x, np.float32) + rng.uniform(-0.05, 0.05, 4000), 0, 1).astype(np.float32)
    for way in (towards, jax.jit(towards)):
        found = way(x, jnp.asarray(image))
        assert found.dtype == dtype
        found, original = (np.asarray(a, np.float64) for a in (found, x))
        assert np.all(np.abs(found - original) <= np.abs(image - original))
        assert np.max(np.abs(found - image)) < float(jnp.finfo(dtype).eps) / 2
    gradient = jax.grad(lambda image: jnp.sum(towards(x, image).astype(jnp.float32) * x))(jnp.asarray(image))
    np.testing.assert_array_equal(gradient, x.astype(jnp.float32))
    np.testing.assert_array_equal(towards(x, x.astype(jnp.float32)), x)


def _images(dtype):
    """Three images around mid-grey, in the dtype, at an L2 distance of about 0.25 from their boundary."""
    w, x = linear(3, 16).w, 0.5 + 0.15 * np.random.default_rng(0).normal(size=(200, 16)).clip(-2, 2)
    distance = known_margins(w, x, ((x - 0.5) @ w.T).argmax(1), "l2")
    return jnp.asarray(x[np.argsort(np.abs(distance - 0.25))[:3]].reshape(3, 4, 4, 1), dtype)


def _check_near(x_adv, x, norm):
    """Within the radius as float32 has it."""
    if norm:
        delta = (np.asarray(x_adv, np.float64) - np.asarray(x, np.float64)).reshape(3, -1)
        assert np.max(np.linalg.norm(delta, ORDER[norm], axis=1)) <= RADII[norm] * (1 + 1e-6)


@pytest.mark.parametrize("name", slow_but(ATTACKS, *QUICK[::2]))
@pytest.mark.parametrize("dtype", [jnp.bfloat16, pytest.param(jnp.float16, marks=pytest.mark.slow)])
def test_attacks_on_half_precision_work(name, dtype):
    """The label is that of the image as returned; near, in the box, and lost where half the radius is enough."""
    row, classifier = ATTACKS[name](), linear(3, 16)
    x, keys = _images(dtype), jax.random.split(KEY, 3)
    logits = np.asarray(jax.vmap(lambda x: classifier(x, None))(x))
    y = logits.argmin(1) if row.targeted else logits.argmax(1)
    found, won = jax.jit(jax.vmap(lambda x, y, k: run(row, classifier, x, y, k)))(x, jnp.asarray(y), keys)
    assert found.dtype == dtype and jnp.all((found >= 0) & (found <= 1))
    seen = np.asarray(jax.vmap(lambda x: classifier(x, None))(found)).argmax(1)
    fooled = (seen == y) if row.targeted else (seen != y)
    if won is not None:
        np.testing.assert_array_equal(won, fooled)
    _check_near(found, x, row.norm)
    if row.strong and not row.targeted:
        near = known_margins(classifier.w, x, y, row.norm or "l2") < 0.5 * RADII[row.norm or "l2"]
        assert np.sum(near) >= 2 and np.all(fooled[near])
    if row.targeted:
        assert np.all(fooled)


def test_probes_are_felt():
    """A sigma far below the steps of bfloat16 would move no pixel; it is taken as long as one, in float32 as it is."""
    for dtype in (jnp.bfloat16, jnp.float32):
        x, classifier = _images(dtype)[0], linear(3, 16)
        y = jnp.argmax(classifier(x, None))
        attack = untargeted(nes(linf(0.2), 0.05, 99, samples=16, sigma=1e-5), margin())
        found = jax.jit(lambda x, y, a=attack: a.run(linear(3, 16), x, y, KEY))(x, y)
        assert found.won


@pytest.mark.parametrize("dtype", slow_but(HALF, jnp.bfloat16))
def test_wide_images_have_all_their_places(dtype):
    """bfloat16 has no 257: looking a pixel to the left is that also where the picture is 3000 pixels wide."""
    x = jnp.asarray(np.random.default_rng(0).uniform(size=(1, 3000, 1)), dtype)
    left = jnp.zeros((1, 3000, 2), jnp.float32).at[..., 0].set(-2 / 3000)
    stamp = jnp.asarray([[[0.25]]], dtype)
    placed = place(x, stamp, square_mask(1), Placement(0.0, 2801.0))
    for moved in (warp(x, 0 * left), rotate_translate(x, 0.0, 0.0, 0.0), jnp.roll(warp(x, left), -1, 1)):
        assert moved.dtype == dtype
        np.testing.assert_allclose(
            moved[:, :-1].astype(jnp.float32), x[:, :-1].astype(jnp.float32), atol=0.01
        )
    assert np.array_equal(np.nonzero(placed[0, :, 0] != x[0, :, 0])[0], [2801]) and placed[0, 2801, 0] == 0.25


DRAWN = (
    "worst_of_k",
    "pixels",
    "patch",
    "square_linf",
    "square_l2",
    "nes",
    "hop_skip_jump",
    "boundary",
    "pgd_l1",
    "flow_pgd",
)


@pytest.mark.parametrize("name", slow_but(DRAWN, "worst_of_k", "pixels", "patch"))
def test_x64_draws_the_same_numbers(name):
    """Images of float32 get the same noise whether JAX may use float64 or not."""
    found = []
    for x64 in (False, True):
        with jax.enable_x64(x64):
            row, x, classifier = ATTACKS[name](), _images(jnp.float32)[0], linear(3, 16)
            y = jnp.argmax(classifier(x, None))
            found.append(np.asarray(jax.jit(lambda x, y, r=row, c=classifier: run(r, c, x, y, KEY)[0])(x, y)))
    np.testing.assert_allclose(*found, atol=1e-6)
    assert np.any(found[0] != np.asarray(_images(jnp.float32)[0]))
