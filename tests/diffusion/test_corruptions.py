"""What is left of an image: linear measurements that say no more than they should."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gaussians import MEAN, STD, exact_denoiser

from jaxdiff.diffusion import VP, corruptions, ddpm, grids, guidance, sample

pytestmark = pytest.mark.usefixtures("x64")


@pytest.fixture
def image():
    return jnp.sin(jnp.arange(2 * 64.0)).reshape(8, 8, 2)


ROWS = {
    "hidden": corruptions.hidden(0.25, 0.5, 0.5, 0.25),
    "hidden pixels": corruptions.hidden_pixels(0.4),
    "smaller": corruptions.smaller(4),
    "blurred": corruptions.blurred(1.5),
}


@pytest.mark.parametrize("name", ROWS)
def test_measurements_are_linear_and_keep_what_is_the_same_everywhere(name, key, image):
    left = ROWS[name](image, key)
    assert left.shown.shape == image.shape
    y = jnp.cos(image)
    np.testing.assert_allclose(
        left.operator(2 * image - y), 2 * left.operator(image) - left.operator(y), atol=1e-12
    )
    constant = left.operator(0 * image + 0.7)
    np.testing.assert_allclose(jnp.where(constant == 0.0, 0.7, constant), 0.7, rtol=1e-9)
    if "measured" in left.told:
        np.testing.assert_allclose(left.told["measured"], left.operator(image), rtol=1e-12)
        assert left.told["operator"] is left.operator


def test_a_hidden_box_is_where_it_is_said(key, image):
    mask = ROWS["hidden"](image, key).told["mask"]
    expected = np.ones((8, 8, 2), bool)
    expected[2:6, 4:6] = False
    np.testing.assert_array_equal(mask, expected)


def test_hidden_pixels_are_a_share_of_all_channels(key):
    left = corruptions.hidden_pixels(0.4)(jnp.ones((100, 100, 3)), key)
    mask = np.asarray(left.told["mask"])
    assert (mask == mask[..., :1]).all() and abs(mask.mean() - 0.6) < 0.02
    np.testing.assert_array_equal(left.shown, np.where(mask, 1.0, 0.0))


def test_smaller_is_the_mean(key, image):
    left = ROWS["smaller"](image, key)
    np.testing.assert_allclose(left.operator(image)[0, 1], image[:4, 4:8].mean((0, 1)), rtol=1e-9)
    np.testing.assert_allclose(left.shown[1, 6], image[:4, 4:8].mean((0, 1)), rtol=1e-9)
    with pytest.raises(ValueError, match="sides that 3 divides; got 8 x 8"):
        corruptions.smaller(3)(image, key)


def test_a_blur_is_that_of_scipy(key, image):
    from scipy.ndimage import gaussian_filter1d

    rows = gaussian_filter1d(np.asarray(image), 1.5, axis=0, mode="reflect", truncate=4.0)
    both = gaussian_filter1d(rows, 1.5, axis=1, mode="reflect", truncate=4.0)
    np.testing.assert_allclose(ROWS["blurred"](image, key).operator(image), both, atol=1e-9)


def test_a_measurement_of_gaussian_data_is_exact_at_every_level(key, image):
    """Means of 2 x 2 of independent pixels of variance v: `posterior_noise` is the variance given x_t, and so the score is."""
    vp, v, noise, t = VP(), 0.25, 1e-2, 0.4
    alpha, sigma = float(vp.alpha(t)), float(vp.sigma(t))
    x = jax.random.normal(key, (4, 4, 1))
    left = corruptions.smaller(2)(image[:4, :4, :1], key)
    prior = lambda x, t: vp.alpha(t) * v / (vp.alpha(t) ** 2 * v + vp.sigma(t) ** 2) * x
    variance = guidance.posterior_noise(vp, noise, v, gain=0.25)
    guided = guidance.measurement(vp, prior, left.operator, left.told["measured"], variance)(x, t)
    a = jax.jacobian(lambda x: left.operator(x.reshape(4, 4, 1)).ravel())(jnp.zeros(16))
    cov = np.asarray(jnp.linalg.inv(jnp.eye(16) * (1 / v + alpha**2 / sigma**2) + a.T @ a / noise))
    mean = cov @ np.asarray(alpha / sigma**2 * x.ravel() + a.T @ left.told["measured"].ravel() / noise)
    np.testing.assert_allclose(guided.ravel(), mean, rtol=1e-8)


@pytest.mark.parametrize("jump", [1, 3])
def test_repainting_of_nothing_known_keeps_the_marginals(jump, key):
    """Up and down again: Gaussian data stay what they are as steps get small, whatever the jump."""
    vp, mask = VP(), jnp.zeros((4,), bool)
    solver = guidance.repaint(vp, ddpm(vp), jnp.zeros(4), mask, repeats=3, jump=jump)

    def moments(steps):
        ts = grids.uniform(steps // jump, 1.0, 1e-3)
        draw = lambda key: sample(solver, exact_denoiser(vp), jax.random.normal(key, (4,)), ts, key)
        x = jax.jit(jax.vmap(draw))(jax.random.split(key, 4000))
        return abs(x.mean() - MEAN), abs(x.std() - STD)

    (_, coarse), (off, fine) = moments(60), moments(120)
    assert off < 0.02 and fine < 0.65 * coarse and coarse < 0.1


def test_known_pixels_stay_whatever_the_jump(key):
    vp, known = VP(), jnp.array([0.3, -0.9, 0.0, 0.0])
    mask = jnp.array([True, True, False, False])
    solver = guidance.repaint(vp, ddpm(vp), known, mask, repeats=2, jump=4)
    x = sample(solver, exact_denoiser(vp), jax.random.normal(key, (4,)), grids.uniform(5), key)
    np.testing.assert_allclose(x[:2], known[:2], atol=1e-12)
    assert (jnp.abs(x[2:]) > 1e-3).all()
