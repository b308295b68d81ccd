"""The scan over time: rematerialisation, exact gradients, trajectories, regeneration, grids."""

import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gaussians import MEAN, STD, exact_denoiser, variance

from jaxdiff.diffusion import VP, ddpm, dpmpp_2m, euler_maruyama, heun, regenerate, sample, trajectory
from jaxdiff.diffusion.grids import logsnr, respaced, uniform
from jaxdiff.diffusion.sample import REMATS

pytestmark = pytest.mark.usefixtures("x64")

VP_ = VP()


def _wavy(x, t):
    """A denoiser that is far from linear."""
    return jnp.tanh(2.0 * jnp.sin(3.0 * x) + t * jnp.roll(x, 1))


@pytest.mark.parametrize("steps", [1, 9, 11])
@pytest.mark.parametrize("make", [ddpm, dpmpp_2m, heun])
def test_remat_changes_neither_values_nor_gradients(make, steps, key):
    x = jax.random.normal(key, (5,))
    run = lambda x, remat: jnp.sum(sample(make(VP_), _wavy, x, uniform(steps), key, remat) ** 2)  # noqa: E731
    plain, *others = (jax.value_and_grad(run)(x, remat) for remat in REMATS)
    for other in others:
        chex.assert_trees_all_close(other, plain, rtol=1e-12)


@pytest.mark.parametrize("remat", REMATS)
def test_gradient_is_exact(remat, key):
    """Reverse mode through a stochastic sampler equals finite differences with the same key."""
    x = jax.random.normal(key, (5,))
    defense = regenerate(VP_, euler_maruyama(VP_), _wavy, uniform(12, 0.3, 1e-3), remat)
    jax.test_util.check_grads(
        lambda x: defense(jnp.asarray(x), key), (x,), order=1, modes="rev", eps=1e-6, rtol=1e-6
    )


def test_regeneration_of_gaussian_data_has_the_known_jacobian(key):
    """Euler-Maruyama is affine there: the Jacobian is alpha(t*) times the product of 1 + dt (beta/2 - beta/v)."""
    ts = uniform(20, 0.1, 1e-3)
    defense = regenerate(VP_, euler_maruyama(VP_), exact_denoiser(VP_), ts, "sqrt")
    jacobian = jax.jacrev(lambda x: defense(x, key))(jnp.array([0.2, -1.0]))
    expected = VP_.alpha(ts[0])
    for t, s in itertools.pairwise(ts):
        beta = 0.1 + 19.9 * t
        expected *= 1 + (t - s) * beta * (0.5 - 1 / variance(VP_, t))
    np.testing.assert_allclose(jacobian, expected * np.eye(2), rtol=1e-9, atol=1e-12)


def test_regeneration_keeps_the_data_distribution(key):
    """Images that follow the data follow it after noise and denoising."""
    x = MEAN + STD * jax.random.normal(key, (20_000,))
    defense = regenerate(VP_, ddpm(VP_), exact_denoiser(VP_), uniform(100, 0.4))
    back = defense(x, jax.random.key(1))
    assert jnp.mean(back) == pytest.approx(MEAN, abs=0.02)
    assert jnp.std(back) == pytest.approx(STD, abs=0.02)
    # It is a defense: the copies forget where they came from as t* grows.
    forgotten = regenerate(VP_, ddpm(VP_), exact_denoiser(VP_), uniform(100, 1.0))(x, jax.random.key(1))
    assert abs(jnp.corrcoef(x, forgotten)[0, 1]) < 0.05 < jnp.corrcoef(x, back)[0, 1]


@pytest.mark.parametrize("make", [ddpm, dpmpp_2m])
def test_trajectory_ends_where_sample_does(make, key):
    x, ts = jax.random.normal(key, (5,)), uniform(7)
    states = trajectory(make(VP_), _wavy, x, ts, key)
    np.testing.assert_array_equal(states[0], x)
    np.testing.assert_allclose(states[-1], sample(make(VP_), _wavy, x, ts, key), rtol=1e-12)
    # A stochastic step depends on its own interval only: the way can be cut where it stands.
    half = sample(make(VP_), _wavy, x, ts[:4], key)
    np.testing.assert_allclose(states[3], half, rtol=1e-12)


def test_batches_are_vmap(key):
    x = jax.random.normal(key, (4, 5))
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(4))
    run = lambda x, key: sample(ddpm(VP_), _wavy, x, uniform(6), key)  # noqa: E731
    looped = jnp.stack([run(x[i], keys[i]) for i in range(4)])
    np.testing.assert_allclose(jax.vmap(run)(x, keys), looped, rtol=1e-12)


def test_no_retracing(key):
    traced = chex.assert_max_traces(lambda x, ts, k: sample(ddpm(VP_), _wavy, x, ts, k, "sqrt"), n=1)
    run = jax.jit(traced)
    for seed, start in (
        (0, 1.0),
        (1, 0.5),
    ):  # neither a new key nor another grid of the same length traces again
        run(jnp.ones(5), uniform(10, start), jax.random.key(seed))


def _gradient_memory(steps: int, remat: str, shape=(64, 64)) -> int:
    """Bytes of temporaries of the compiled gradient through `steps` steps."""
    weights = jnp.ones((shape[1], 512), jnp.float32)

    def denoise(x, t):  # its hidden state is 8 images wide
        return jnp.tanh(jnp.tanh(x @ weights) @ weights.T)

    def loss(x, ts):
        return jnp.sum(sample(ddpm(VP_), denoise, x, ts, jax.random.key(0), remat))

    with jax.enable_x64(False):
        arguments = jax.ShapeDtypeStruct(shape, jnp.float32), jax.ShapeDtypeStruct((steps + 1,), jnp.float32)
        return jax.jit(jax.grad(loss)).lower(*arguments).compile().memory_analysis().temp_size_in_bytes


def test_memory_of_remat():
    """ "step" grows by at most one image a step, "sqrt" as the square root, "none" by the network's states."""
    image = 64 * 64 * 4
    few, many = 64, 256
    growth = {remat: _gradient_memory(many, remat) - _gradient_memory(few, remat) for remat in REMATS}
    assert growth["step"] <= 1.05 * (many - few) * image
    assert growth["sqrt"] <= 2.2 * (many**0.5 - few**0.5) * image
    assert growth["none"] > 5 * growth["step"]


def test_unknown_remat(key):
    with pytest.raises(ValueError, match=r"'all'.*sqrt"):
        sample(ddpm(VP_), _wavy, jnp.ones(2), uniform(2), key, remat="all")


def test_grids():
    np.testing.assert_allclose(uniform(4, 0.8, 0.4), [0.8, 0.7, 0.6, 0.5, 0.4])
    np.testing.assert_allclose(respaced(4, 1000), [1.0, 0.75, 0.5, 0.25, 0.0])
    np.testing.assert_allclose(respaced(4, 1000, "leading"), [0.751, 0.501, 0.251, 0.001, 0.0])
    levels = jax.vmap(VP_.logsnr)(logsnr(VP_, 10, 0.9, 0.01))
    np.testing.assert_allclose(np.diff(levels), (levels[-1] - levels[0]) / 10, rtol=1e-3)
    with pytest.raises(ValueError, match="start > end"):
        uniform(4, 0.2, 0.5)
    with pytest.raises(ValueError, match="at most total"):
        respaced(20, 10)
    with pytest.raises(ValueError, match=r"'even'.*trailing"):
        respaced(4, 10, "even")
