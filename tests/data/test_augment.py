"""A flip is an involution of fair chance, a shift moves pixels exactly, and neither sees the batch."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxdiff.build import build, public_names
from jaxdiff.data import augment
from jaxdiff.data.augment import compose, flip, noise, none, shift

ALL = {
    "none": none(),
    "flip": flip(),
    "shift zero": shift(2),
    "shift edge": shift(3, "edge"),
    "noise": noise(0.2),
    "both": compose(shift(2), flip()),
}


@pytest.fixture
def image():
    return jax.random.uniform(jax.random.key(1), (5, 6, 3))


def outcomes(function, image, n):
    return np.asarray(jax.jit(jax.vmap(function, (None, 0)))(image, jax.random.split(jax.random.key(2), n)))


def test_a_certain_flip_mirrors_columns_and_twice_is_nothing(image, key):
    mirrored = flip(1.0)(image, key)
    np.testing.assert_array_equal(mirrored, np.asarray(image)[:, ::-1, :])
    np.testing.assert_array_equal(flip(1.0)(mirrored, key), image)
    np.testing.assert_array_equal(flip(0.0)(image, key), image)


@pytest.mark.parametrize("probability", [0.5, 0.1])
def test_a_flip_has_its_probability(image, probability):
    n = 4000
    flipped = (outcomes(flip(probability), image, n) != np.asarray(image)).any((1, 2, 3)).sum()
    assert stats.binomtest(int(flipped), n, probability).pvalue > 1e-6


@pytest.mark.parametrize("padding, mode", [("zero", "constant"), ("edge", "edge")])
def test_a_shift_is_a_crop_of_the_padded_image_each_as_often(image, padding, mode):
    n, pixels = 5000, 2
    padded = np.pad(np.asarray(image), ((pixels, pixels), (pixels, pixels), (0, 0)), mode=mode)
    corners = [(i, j) for i in range(2 * pixels + 1) for j in range(2 * pixels + 1)]
    crops = [padded[i : i + 5, j : j + 6] for i, j in corners]
    moved = outcomes(shift(pixels, padding), image, n)
    counts = [(moved == crop).all((1, 2, 3)).sum() for crop in crops]
    assert sum(counts) == n  # each outcome is one of the 25 translations, to the last bit
    assert stats.chisquare(counts).pvalue > 1e-6


def test_noise_is_gaussian_with_its_deviation(image):
    residuals = (outcomes(noise(0.2), image, 200) - np.asarray(image)) / 0.2
    assert stats.kstest(residuals.ravel(), "norm").pvalue > 1e-6
    assert abs(np.corrcoef(residuals[:, 0, 0, 0], residuals[:, 0, 0, 1])[0, 1]) < 0.4


@pytest.mark.parametrize("padding", ["zero", "edge"])
def test_a_shift_by_nothing_is_nothing(image, key, padding):
    np.testing.assert_array_equal(shift(0, padding)(image, key), image)


@pytest.mark.parametrize("function", ALL.values(), ids=ALL.keys())
def test_an_example_is_augmented_alike_in_any_batch(function):
    images = jax.random.uniform(jax.random.key(3), (12, 5, 6, 3))
    keys = jax.random.split(jax.random.key(4), 12)
    whole = jax.vmap(function)(images, keys)
    alone = jnp.stack([function(x, k) for x, k in zip(images, keys, strict=True)])
    backwards = jax.vmap(function)(images[::-1], keys[::-1])[::-1]
    np.testing.assert_array_equal(whole, alone)
    np.testing.assert_array_equal(whole, backwards)


@pytest.mark.parametrize("function", ALL.values(), ids=ALL.keys())
def test_range_and_type_are_kept(function, image):
    out = outcomes(function, image, 200)
    assert out.dtype == np.float32 and out.shape == (200, *image.shape)
    if function is not ALL["noise"]:  # the one that leaves [0, 1], as it says
        assert out.min() >= 0 and out.max() <= 1


def test_compose_goes_from_first_to_last_with_keys_of_their_own(image, key):
    double, add = (lambda x, k: 2 * x), (lambda x, k: x + 1)
    np.testing.assert_array_equal(compose(double, add)(image, key), 2 * image + 1)
    np.testing.assert_array_equal(compose()(image, key), none()(image, key))
    draw = lambda x, k: x + jax.random.uniform(k, x.shape)
    once, twice = compose(draw)(0 * image, key), compose(draw, draw)(0 * image, key)
    assert (np.asarray(twice) != 2 * np.asarray(once)).all()


def test_two_flips_are_independent(image):
    n = 4000
    flipped = (outcomes(compose(flip(), flip()), image, n) != np.asarray(image)).any((1, 2, 3)).sum()
    assert stats.binomtest(int(flipped), n, 0.5).pvalue > 1e-6  # with one key for both it would be 0


def test_configs_name_augmentations(image, key):
    assert public_names(augment) == ["flip", "noise", "none", "shift"]
    built = build(augment, {"name": "flip", "probability": 1.0})
    np.testing.assert_array_equal(built(image, key), image[:, ::-1])


def test_a_batch_without_vmap_is_refused(key):
    for function in (flip(), shift(1), noise(0.1)):
        with pytest.raises(ValueError, match=r"got \(4, 8, 8, 3\). Use jax.vmap"):
            function(jnp.zeros((4, 8, 8, 3)), key)


@pytest.mark.parametrize("function", ALL.values(), ids=ALL.keys())
def test_what_is_built_can_be_pickled_hashed_and_jitted(function, image, key):
    again = pickle.loads(pickle.dumps(function))
    expected = jax.jit(function)(image, key)
    np.testing.assert_array_equal(jax.jit(again)(image, key), expected)
    static = jax.jit(lambda f, x, k: f(x, k), static_argnums=0)
    np.testing.assert_array_equal(static(function, image, key), expected)


@pytest.mark.parametrize("function", ALL.values(), ids=ALL.keys())
def test_no_image_gives_none(function, key):
    none = jax.vmap(function)(jnp.zeros((0, 5, 6, 3)), jax.random.split(key, 1)[:0])
    assert none.shape == (0, 5, 6, 3)


def test_an_image_of_one_pixel(key):
    """Moved by one it is there or gone; mirrored it is itself."""
    pixel = jnp.full((1, 1, 1), 0.5)
    moved = outcomes(shift(1), pixel, 900).ravel()
    assert set(moved.tolist()) == {0.0, 0.5}
    assert stats.binomtest(int((moved == 0.5).sum()), 900, 1 / 9).pvalue > 1e-6
    np.testing.assert_array_equal(flip(1.0)(pixel, key), pixel)
    np.testing.assert_array_equal(outcomes(shift(1, "edge"), pixel, 20), np.full((20, 1, 1, 1), 0.5))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("function", ALL.values(), ids=ALL.keys())
def test_a_narrow_type_is_kept(function, image, key, dtype):
    narrow = function(image.astype(dtype), key)
    assert narrow.dtype == dtype
    if function is not ALL["noise"]:  # which draws other numbers in another type
        wide = function(image, key)
        np.testing.assert_allclose(np.asarray(narrow, np.float32), wide, rtol=0.01, atol=0.01)
