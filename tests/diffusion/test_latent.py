"""Inversion follows the flow of Gaussian data upwards, and is undone by the way down; great circles keep noise noise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gaussians import exact_denoiser, flow

from jaxdiff.diffusion import EDM, VP, Cosine, RectifiedFlow, ddim, grids, sample
from jaxdiff.diffusion.latent import interpolated, inverted, slerp

pytestmark = pytest.mark.usefixtures("x64")


@pytest.fixture
def image():
    return jnp.array([-0.5, 0.2, 0.9])


PROCESSES = {
    "vp": (VP(), 1e-2),
    "cosine": (Cosine(), 1e-2),
    "edm": (EDM(2.0), 1e-2),
    "flow": (RectifiedFlow(), 1e-2),
}


@pytest.mark.parametrize("name", PROCESSES)
def test_the_latent_is_that_of_the_flow_to_first_order(name, image):
    process, end = PROCESSES[name]
    denoise = exact_denoiser(process)
    exact = flow(process, image, end, 0.9)
    errors = [
        float(jnp.abs(inverted(process, denoise, image, grids.uniform(n, 0.9, end)) - exact).max())
        for n in (200, 400, 800)
    ]
    ratios = np.array(errors[:-1]) / np.array(errors[1:])
    assert (np.abs(ratios - 2.0) < 0.2).all() and errors[-1] < 0.02


@pytest.mark.parametrize("name", PROCESSES)
def test_the_way_down_undoes_it(name, key, image):
    """Exactly with the implicit equation; without, as far as the steps are short."""
    process, end = PROCESSES[name]
    denoise = exact_denoiser(process)

    def back(steps, refine):
        ts = grids.uniform(steps, 0.9, end)
        return jnp.abs(
            sample(ddim(process), denoise, inverted(process, denoise, image, ts, refine), ts, key) - image
        ).max()

    assert back(40, 60) < 1e-9
    assert 1e-5 < back(80, 0) < 0.7 * back(40, 0)


def test_a_grid_without_noise_at_its_end_is_refused(image):
    with pytest.raises(ValueError, match=r"noise at the end of its grid, t = 0.*end=1e-3"):
        inverted(VP(), exact_denoiser(VP()), image, grids.uniform(5))


def test_great_circles_keep_lengths_and_angles(key):
    a, b = jax.random.normal(key, (2, 50))
    b = b * jnp.linalg.norm(a) / jnp.linalg.norm(b)
    for share in (0.0, 0.3, 1.0):
        found = slerp(a, b, share)
        np.testing.assert_allclose(jnp.linalg.norm(found), jnp.linalg.norm(a), rtol=1e-9)
        angle = lambda x, y: jnp.arccos(jnp.clip(x @ y / jnp.linalg.norm(x) / jnp.linalg.norm(y), -1, 1))
        np.testing.assert_allclose(angle(a, found), share * angle(a, b), atol=1e-6)
    np.testing.assert_allclose(slerp(a, 2.0 * a, 0.25), 1.25 * a, rtol=1e-9)


def test_what_lies_between_begins_and_ends_at_the_images(key, image):
    process, ts = VP(), grids.uniform(300, 0.9, 1e-2)
    between = lambda share: interpolated(
        process, ddim(process), exact_denoiser(process), ts, image, -image, share, key
    )
    np.testing.assert_allclose(between(0.0), image, atol=0.05)
    np.testing.assert_allclose(between(1.0), -image, atol=0.05)
    assert jnp.abs(between(0.5) - image).max() > 0.2
