"""DiffPure on Gaussian data: what it removes is known, and so is its gradient."""

import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest
from gaussians import exact_denoiser

from jaxdiff.defenses import diffpure
from jaxdiff.diffusion import VP, ddpm, euler_maruyama
from jaxdiff.diffusion.grids import uniform

pytestmark = pytest.mark.usefixtures("x64")

VP_ = VP()


def _purify(start, steps=50, make=ddpm, denoise=None):
    return diffpure(VP_, make(VP_), denoise or exact_denoiser(VP_), uniform(steps, start))


def test_images_in_the_unit_range_keep_their_distribution(key):
    """Data N(0.65, 0.25^2) in [0, 1] is N(0.3, 0.5^2) inside, where the exact denoiser knows it."""
    x = 0.65 + 0.25 * jax.random.normal(key, (20_000,))
    back = _purify(0.3, steps=200)(x, jax.random.key(1))
    assert jnp.mean(back) == pytest.approx(0.65, abs=0.01)
    assert jnp.std(back) == pytest.approx(0.25, abs=0.01)


def test_perturbations_shrink_as_t_grows(key):
    """What is left of a perturbation after purification is E dx_hat/dx < 1, less for a larger t*."""
    x, delta = jnp.full((20_000,), 0.65), 0.2
    left = [jnp.mean(_purify(t)(x + delta, key) - _purify(t)(x, key)) / delta for t in (0.05, 0.1, 0.3)]
    assert 1 > left[0] > left[1] > left[2] > 0


@pytest.mark.parametrize("make", [ddpm, euler_maruyama])
def test_gradient_is_exact_for_a_denoiser_that_is_not_linear(make, key):
    denoise = lambda x, t: jnp.tanh(2 * jnp.sin(3 * x) + t * jnp.roll(x, 1))  # noqa: E731
    purify = _purify(0.2, steps=8, make=make, denoise=denoise)
    x = jax.random.uniform(key, (5,))
    jax.test_util.check_grads(
        lambda x: purify(jnp.asarray(x), key), (x,), order=1, modes="rev", eps=1e-6, rtol=1e-6
    )


def test_an_example_is_purified_alone(key):
    """Same image, same key, same result, whatever the batch."""
    purify = _purify(0.1, steps=5)
    x = jax.random.uniform(key, (6, 3))
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(6))
    whole = jax.vmap(purify)(x, keys)
    np.testing.assert_allclose(jax.vmap(purify)(x[2:4], keys[2:4]), whole[2:4], rtol=1e-12)
