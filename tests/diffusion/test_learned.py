"""A learned signal-to-noise ratio: a process like any other, and a bound that is the entropy for an exact denoiser."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.diffusion import noise_levels
from jaxdiff.diffusion.bound import prior_term
from jaxdiff.diffusion.learned import decoder, monotone, scalar, vdm

pytestmark = pytest.mark.usefixtures("x64")


def made(trainable, seed=0):
    return trainable.make(trainable.init(jax.random.key(seed)))


def bent():
    """A monotone process with weights of both signs, far from linear."""
    trainable = monotone(-6.0, 8.0, features=16)
    params = trainable.init(jax.random.key(1))
    draw = lambda i, scale: scale * jax.random.normal(jax.random.key(i), (16,))
    return trainable.make(
        {**params, "hidden": {"weight": draw(2, 20.0), "bias": draw(3, 5.0)}, "out": draw(4, 1.0)}
    )


PROCESSES = {
    "scalar": lambda: made(scalar(-6.0, 8.0)),
    "monotone": lambda: made(monotone(-6.0, 8.0, 16)),
    "bent": bent,
}


@pytest.mark.parametrize("name", PROCESSES)
def test_gamma_rises_between_its_ends(name):
    process, t = PROCESSES[name](), jnp.linspace(0.0, 1.0, 101)
    gamma = -jax.vmap(process.logsnr)(t)
    np.testing.assert_allclose(gamma[jnp.array([0, -1])], [-6.0, 8.0], atol=1e-6)
    assert (jnp.diff(gamma) > 0).all()
    np.testing.assert_allclose(
        jax.vmap(process.alpha)(t) ** 2 + jax.vmap(process.sigma)(t) ** 2, 1.0, rtol=1e-9
    )
    np.testing.assert_allclose(jax.vmap(process.alpha)(t) ** 2, jax.nn.sigmoid(-gamma), rtol=1e-9)
    np.testing.assert_allclose(jax.vmap(process.time)(-gamma), t, atol=1e-6)


def test_bent_is_bent():
    t = jnp.linspace(0.0, 1.0, 11)
    apart = jax.vmap(bent().logsnr)(t) - jax.vmap(PROCESSES["scalar"]().logsnr)(t)
    assert jnp.abs(apart).max() > 1.0


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_the_decoder_is_a_distribution_over_levels(levels):
    values = jnp.linspace(-1.0, 1.0, levels)
    process, x_0 = made(scalar(-2.0, 5.0)), jnp.full(levels, 0.37)
    np.testing.assert_allclose(jnp.exp(-decoder(process, values, x_0, levels)).sum(), 1.0, rtol=1e-9)
    nearest = int(jnp.argmin(decoder(process, values, x_0, levels)))
    assert abs(values[nearest] - 0.37 / process.alpha(0.0)) <= 1.0 / (levels - 1) + 1e-9


P = 0.3  # of a pixel 1, else -1


def exact_eps(process):
    """The noise that the posterior mean of such a pixel says: a batched network."""

    def one(x_t, t):
        alpha, sigma = process.alpha(t), process.sigma(t)
        x0_hat = jnp.tanh(alpha * x_t / sigma**2 + 0.5 * np.log(P / (1 - P)))
        return (x_t - alpha * x0_hat) / sigma

    return jax.vmap(one)


@pytest.mark.parametrize("name", PROCESSES)
def test_the_bound_of_an_exact_denoiser_is_the_entropy(name, key):
    """Whatever the rise: in continuous time the reverse process is exact. What is left is the prior's term."""
    process, n = PROCESSES[name](), 160_000
    keys = jax.random.split(key, n)
    x0 = jnp.where(jnp.arange(n) < P * n, 1.0, -1.0)[jax.random.permutation(key, n), None]
    t = noise_levels.stratified(1e-6)(keys)
    losses = vdm(process, "eps", levels=2)(exact_eps(process), x0, t, keys)
    entropy = -(P * np.log2(P) + (1 - P) * np.log2(1 - P))
    prior = float(prior_term(process, jnp.ones(1))) / np.log(2)
    assert abs(losses.mean() - entropy - prior) < 4 * losses.std() / n**0.5
    assert losses.std() / n**0.5 < 0.03 and prior < 1e-3


def test_the_ends_and_the_rise_have_gradients(key):
    trainable = monotone(-6.0, 8.0, features=4)
    keys = jax.random.split(key, 8)
    x0 = jnp.sign(jax.random.normal(key, (8, 3)))

    def loss(params):
        return vdm(trainable.make(params), "eps", 2)(
            lambda x, t: 0.5 * x, x0, jnp.linspace(0.1, 0.9, 8), keys
        ).mean()

    slopes = jax.grad(loss)(trainable.init(key))
    assert all(np.isfinite(leaf).all() and np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(slopes))
