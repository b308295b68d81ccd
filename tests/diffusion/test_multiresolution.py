"""The multi-resolution process: noise stays what it is, up and down; a cascade of denoisers that know the image draws it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.diffusion import VP, Cosine, ddim, ddpm, denoising, grids, weights
from jaxdiff.diffusion.multiresolution import Level, cascade, grown, losses, shrunk, to_next

pytestmark = pytest.mark.usefixtures("x64")

DRAWS = 20_000


@pytest.fixture
def smooth():
    return jnp.array([[0.8, -0.4], [0.1, 0.5]])[..., None]  # at the coarse level


@pytest.fixture
def fine(smooth):
    return smooth.repeat(2, 0).repeat(2, 1)


def moments(x):
    x = np.asarray(x).reshape(len(x), -1)
    return x.mean(0), np.cov(x.T)


def test_shrunk_noise_is_noise_of_the_next_level(key, smooth, fine):
    process, t = VP(), 0.5

    def draw(key):
        noise_key, key = jax.random.split(key)
        x = process.perturb(fine, jax.random.normal(noise_key, fine.shape), t)
        return to_next(process, x, t, key)

    mean, cov = moments(jax.vmap(draw)(jax.random.split(key, DRAWS)))
    var = float(process.sigma(t)) ** 2
    np.testing.assert_allclose(mean, process.alpha(t) * smooth.ravel(), atol=5 * (var / DRAWS) ** 0.5)
    np.testing.assert_allclose(cov, var * np.eye(4), atol=5 * var * (2 / DRAWS) ** 0.5)


def test_grown_noise_is_noise_of_the_finer_level(key, smooth, fine):
    """Of an image that the coarse denoiser knows."""
    process, t = Cosine(), 0.6

    def draw(key):
        noise_key, key = jax.random.split(key)
        x = process.perturb(smooth, jax.random.normal(noise_key, smooth.shape), t)
        return grown(process, lambda x, t: smooth, x, t, key)

    mean, cov = moments(jax.vmap(draw)(jax.random.split(key, DRAWS)))
    var = float(process.sigma(t)) ** 2
    np.testing.assert_allclose(mean, process.alpha(t) * fine.ravel(), atol=5 * (var / DRAWS) ** 0.5)
    np.testing.assert_allclose(cov, var * np.eye(16), atol=5 * var * (2 / DRAWS) ** 0.5)


def test_a_cascade_that_knows_the_image_draws_it(key):
    process = VP()
    image = jax.random.normal(jax.random.key(5), (8, 8, 2))
    levels = [
        Level(ddim(process), lambda x, t: image, grids.uniform(4, 0.3, 0.0)),
        Level(ddpm(process), lambda x, t: shrunk(image), grids.uniform(3, 0.6, 0.3)),
        Level(ddpm(process), lambda x, t: shrunk(image, 4), grids.uniform(3, 1.0, 0.6)),
    ]
    np.testing.assert_allclose(cascade(process, levels, image.shape, key), image, atol=1e-9)
    with pytest.raises(ValueError, match=r"level 0 begins at t = 0.3, and that of level 1 ends at 0.6"):
        cascade(process, [levels[0], levels[2]], image.shape, key)
    with pytest.raises(ValueError, match="3 levels needs sides that 4 divides; got 6 x 8"):
        cascade(process, levels, (6, 8, 2), key)


def test_the_loss_is_the_weighted_sum_of_the_levels(key):
    """Each level sees images of its size at times of its own."""
    process, keys = VP(), jax.random.split(key, 5)
    x0 = jax.random.uniform(key, (5, 4, 4, 1))
    seen = {}

    def predict(k):
        def net(x_t, t):
            seen[k] = (x_t.shape, t)
            return 0.1 * (k + 1) * x_t

        return net

    loss = denoising(process, "eps", weights.simple())
    run = lambda w: losses(loss, (0.4, 1.0), w, [predict(0), predict(1)], x0, keys)
    first, second = run((1.0, 0.0)), run((0.0, 1.0))
    np.testing.assert_allclose(run((0.5, 3.0)), 0.5 * first + 3.0 * second, rtol=1e-10)
    assert seen[0][0] == (5, 4, 4, 1) and seen[1][0] == (5, 2, 2, 1)
    assert ((seen[0][1] > 0.0) & (seen[0][1] <= 0.4)).all() and (
        (seen[1][1] > 0.4) & (seen[1][1] <= 1.0)
    ).all()
    assert len({*map(float, seen[0][1])}) == 5 and (jnp.abs(first - second) > 1e-3).all()
