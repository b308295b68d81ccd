"""Learned variances: between the two of DDPM in solver, bound and loss; what the hybrid loss teaches to whom."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.diffusion import VP, Cosine, ddpm, denoising, grids, linear, sample, weights
from jaxdiff.diffusion.bound import variational_bound
from jaxdiff.diffusion.bound_losses import hybrid, vlb
from jaxdiff.diffusion.variance import halves, posterior_variance, predicted_half, share_half, upper_variance

pytestmark = pytest.mark.usefixtures("x64")


@pytest.fixture
def x0():
    return 0.8 * jnp.sin(jnp.arange(12.0)).reshape(3, 2, 2, 1)


PROCESSES = {"vp": VP(), "cosine": Cosine(), "linear": linear(100)}
STEPS = 20


def says(value):
    return lambda x, t: jnp.full_like(x, value)


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
@pytest.mark.parametrize(("share", "variance"), [(0.0, "posterior"), (1.0, "upper")])
def test_the_ends_of_a_learned_variance_are_those_of_ddpm(process, share, variance, key):
    x, denoise = jax.random.normal(key, (2, 2, 1)), lambda x, t: jnp.tanh(x)
    learned, fixed = (
        sample(ddpm(process, v), denoise, x, grids.uniform(5), key) for v in (says(share), variance)
    )
    np.testing.assert_allclose(learned, fixed, rtol=1e-10)


def test_a_share_is_one_of_logarithms_and_of_each_pixel(key):
    """The noise of a step, its mean taken away, over z."""
    process, x, t, s = VP(), jnp.zeros((2, 2, 1)), 0.6, 0.4
    share = jnp.array([0.0, 0.25, 0.5, 1.0]).reshape(2, 2, 1)
    step = lambda variance: ddpm(process, variance).step(lambda x, t: 0.0 * x, x, (), t, s, key)[0]
    std = step(lambda x, t: share) / jax.random.normal(key, x.shape, x.dtype)
    low, high = posterior_variance(process, t, s), upper_variance(process, t, s)
    np.testing.assert_allclose(std**2, low ** (1 - share) * high**share, rtol=1e-10)


def network(predicted, said):
    """A batched network that says the same everywhere."""
    return lambda x_t, t: jnp.concatenate([predicted + 0 * x_t, said + 0 * x_t], axis=-1)


@pytest.mark.parametrize("variance", ["learned", "posterior", "upper"])
@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
def test_the_mean_of_the_terms_is_the_bound(process, variance, key, x0):
    """A network that ignores its input has terms without noise: their mean over all steps is the bound but for L_T."""
    t = jnp.arange(1, STEPS + 1) / STEPS
    x0 = jnp.broadcast_to(x0[0], (STEPS, 2, 2, 1))
    predict = network(0.3, 0.4) if variance == "learned" else says(0.3)
    found = vlb(process, "x0", STEPS, variance)(predict, x0, t, jax.random.split(key, STEPS))
    bound = variational_bound(process, STEPS, says(0.7) if variance == "learned" else variance)(
        says(0.3), x0[0], key
    )
    expected = (bound.total - bound.prior) / (4 * np.log(2))
    np.testing.assert_allclose(jnp.mean(found), expected, rtol=1e-9)
    np.testing.assert_allclose(found[0], STEPS * bound.decoder / (4 * np.log(2)), rtol=1e-9)
    np.testing.assert_allclose(found[1:], STEPS * bound.steps / (4 * np.log(2)), rtol=1e-9)


def test_the_hybrid_loss_is_the_sum_and_teaches_each_half_its_own(key, x0):
    """What is predicted learns from L_simple alone, the shares from the bound alone (Nichol and Dhariwal 2021, section 3.1)."""
    process, share = VP(), 0.05
    t, keys = jnp.array([1, 7, STEPS]) / STEPS, jax.random.split(key, 3)

    def parts(predicted, said):
        run = lambda loss: loss(network(predicted, said), x0, t, keys).sum()
        simple = denoising(process, "eps", weights.simple())(says(predicted), x0, t, keys).sum()
        whole, bound = run(hybrid(process, "eps", STEPS, share)), run(vlb(process, "eps", STEPS))
        return jnp.stack([whole, simple, share * bound])

    whole, simple, bound = parts(0.3, 0.4)
    np.testing.assert_allclose(whole, simple + bound, rtol=1e-10)
    by_predicted, by_said = jax.jacobian(parts, (0, 1))(0.3, 0.4)
    np.testing.assert_allclose(by_predicted[0], by_predicted[1], rtol=1e-10)
    np.testing.assert_allclose(by_said[0], by_said[2], rtol=1e-10)
    assert abs(by_predicted[2]) > 1e-3 and abs(by_said[0]) > 1e-3


def test_gradients_are_finite_at_the_first_and_the_last_step(key, x0):
    t = jnp.array([1, 2, STEPS]) / STEPS
    loss = lambda p: hybrid(VP(), "eps", STEPS)(network(p[0], p[1]), x0, t, jax.random.split(key, 3)).sum()
    assert np.isfinite(jax.grad(loss)(jnp.array([0.3, 0.4]))).all()


def test_halves_are_channels(key, x0):
    output = jnp.concatenate([x0, 2.0 * x0 - 1.0], axis=-1)
    predicted, share = halves(output)
    np.testing.assert_array_equal(predicted, x0)
    np.testing.assert_allclose(share, x0, atol=1e-12)
    net = lambda x, t: output[0]
    np.testing.assert_array_equal(predicted_half(net)(x0[0], 0.5), x0[0])
    np.testing.assert_allclose(share_half(net)(x0[0], 0.5), x0[0], atol=1e-12)


def test_a_network_without_variances_is_told(key, x0):
    with pytest.raises(ValueError, match=r"twice the channels.*out_channels=2"):
        vlb(VP(), "eps", STEPS)(says(0.0), x0, jnp.full(3, 0.5), jax.random.split(key, 3))
