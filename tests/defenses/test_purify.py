"""DiffPure on Gaussian data: what it removes is known, and so is its gradient."""

import pickle
import re

import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest
from gaussians import exact_denoiser
from rows import slow_but

from jaxdiff.defenses import Purifier, attackers_view, diffpure
from jaxdiff.defenses.purify import coarser
from jaxdiff.diffusion import VP, Cosine, ddpm, denoiser, euler_maruyama, heun, regenerate
from jaxdiff.diffusion.grids import uniform

pytestmark = pytest.mark.usefixtures("x64")

VP_ = VP()


def _purify(start, steps=50, make=ddpm, denoise=None):
    return diffpure(VP_, make(VP_), denoise or exact_denoiser(VP_), uniform(steps, start))


def test_images_in_the_unit_range_keep_their_distribution(key):
    """Data N(0.65, 0.25^2) in [0, 1] is N(0.3, 0.5^2) inside, where the exact denoiser knows it."""
    x = 0.65 + 0.25 * jax.random.normal(key, (20_000,))
    back = jax.jit(_purify(0.3, steps=200))(x, jax.random.key(1))  # traced: half of these are no images
    assert jnp.mean(back) == pytest.approx(0.65, abs=0.01)
    assert jnp.std(back) == pytest.approx(0.25, abs=0.01)


@pytest.mark.slow
def test_perturbations_shrink_as_t_grows(key):
    """What is left of a perturbation after purification is E dx_hat/dx < 1, less for a larger t*."""
    x, delta = jnp.full((20_000,), 0.65), 0.2
    left = [jnp.mean(_purify(t)(x + delta, key) - _purify(t)(x, key)) / delta for t in (0.05, 0.1, 0.3)]
    assert 1 > left[0] > left[1] > left[2] > 0


@pytest.mark.parametrize("make", [ddpm, euler_maruyama])
def test_gradient_is_exact_for_a_denoiser_that_is_not_linear(make, key):
    denoise = lambda x, t: jnp.tanh(2 * jnp.sin(3 * x) + t * jnp.roll(x, 1))
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


def _half(x, t):
    return 0.5 * x


def test_pixels_are_purified_in_signed_units(key):
    """Outside [0, 1], inside 2x - 1: (1 + regenerate(2x - 1)) / 2, numpy or not."""
    x, ts = np.array([0.1, 0.5, 1.0]), [0.3, 0.2, 0.0]
    inside = regenerate(VP_, ddpm(VP_), _half, jnp.asarray(ts))(jnp.array([-0.8, 0.0, 1.0]), key)
    purified = diffpure(VP_, ddpm(VP_), _half, ts)(x, key)
    np.testing.assert_allclose(purified, (1 + inside) / 2, rtol=1e-12)


def test_starts_at_pure_noise_forget_the_image(key):
    """t* = 1 of a process that ends in noise: nothing is left of the image, and nothing is NaN."""
    process = Cosine(alpha_min=0.0)
    purify = diffpure(process, heun(process), denoiser(process, "v", _half), uniform(4))
    one, other = (purify(jnp.full((3,), v), key) for v in (0.1, 0.9))
    np.testing.assert_array_equal(one, other)
    assert jnp.all(jnp.isfinite(one))


def test_a_purifier_can_be_compiled_and_compared_and_pickled(key):
    """As a function to compile, as one to rematerialise, as a static argument, and in another process."""
    purify = diffpure(VP_, euler_maruyama(VP_), _half, uniform(2, 0.1), surrogate_steps=1)
    x = jnp.array([0.2, 0.7])
    static = jax.jit(lambda purify, x: purify(x, key), static_argnums=0)
    again = pickle.loads(pickle.dumps(purify))
    for run in (jax.jit(purify), jax.checkpoint(purify), jax.jit(again)):
        np.testing.assert_allclose(run(x, key), purify(x, key), rtol=1e-12)
    np.testing.assert_allclose(static(purify, x), purify(x, key), rtol=1e-12)
    assert isinstance(again, Purifier) and set(again.views) == {"adjoint", "surrogate"}
    assert hash(purify) != hash(again)  # by identity: a purifier holds a network
    for name in again.views:
        view = jax.jit(again.views[name]())
        np.testing.assert_allclose(view(x, key), purify.views[name]()(x, key), rtol=1e-12)


@pytest.mark.parametrize(
    ("length", "steps", "places"),
    [(11, 4, [0, 2, 5, 8, 10]), (9, 4, [0, 2, 4, 6, 8]), (4, 2, [0, 2, 3]), (4, 1, [0, 3]), (4, 3, range(4))],
)
def test_times_of_a_surrogate(length, steps, places):
    """Evenly spread over places of the grid, the ends included, also where the steps do not divide."""
    ts = np.linspace(0.4, 0.0, length)
    np.testing.assert_array_equal(coarser(ts, steps), ts[list(places)])


@pytest.mark.parametrize("view", slow_but(["exact", "adjoint", "surrogate"], "exact"))
@pytest.mark.parametrize("dtype", slow_but(["bfloat16", "float16", "float32"], "bfloat16"))
def test_images_and_their_gradients_keep_their_type(view, dtype, key, monkeypatch):
    """Under x64 too, with the numbers of float64 for the same noise; the network sees that type alone."""
    normal, seen = jax.random.normal, set()
    same = lambda key, shape=(), d=float: normal(key, shape, dtype).astype(d)
    monkeypatch.setattr(jax.random, "normal", same)

    def denoise(x, t):
        seen.add(x.dtype.name)
        return jnp.tanh(x)

    purify = diffpure(VP_, euler_maruyama(VP_), denoise, uniform(2, 0.1, 0.05), surrogate_steps=1)
    defended = attackers_view(lambda x, key: x, purify, view)
    run = lambda dtype: jax.value_and_grad(lambda x: jnp.sum(jnp.sin(defended(x, key))))(
        jnp.array([0.25, 0.75], dtype)
    )
    (ours, gradient), (exact, exact_gradient) = run(dtype), run("float64")
    assert ours.dtype == gradient.dtype == jnp.dtype(dtype) and seen == {dtype, "float64"}
    tolerance = 20 * float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(np.asarray(ours, float), exact, atol=tolerance)
    np.testing.assert_allclose(np.asarray(gradient, float), exact_gradient, atol=tolerance)


@pytest.mark.parametrize("view", ["exact", "surrogate"])
def test_remat_reaches_every_view(view, key):
    """Steps are computed again in the backward pass if, and only if, that is asked for."""
    x = jnp.array([0.2, 0.7])
    for remat in ("none", "step", "sqrt"):
        purify = diffpure(VP_, ddpm(VP_), _half, uniform(4, 0.1), remat, surrogate_steps=2)
        run = attackers_view(lambda x, key: x, purify, view)
        assert bool(re.search("remat|checkpoint", str(jax.make_jaxpr(run)(x, key)))) == (remat != "none")
