"""Predictions and denoisers against exact Gaussian posteriors."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gaussians import exact_denoiser, log_density

from jaxdiff.diffusion import (
    EDM,
    KINDS,
    VE,
    VP,
    Cosine,
    RectifiedFlow,
    SubVP,
    convert,
    denoiser,
    edm_kind,
    geometric,
    linear,
    preconditioned,
    score,
    target,
    time_label,
)
from jaxdiff.diffusion.prediction import error_scale

pytestmark = pytest.mark.usefixtures("x64")

PROCESSES = [VP(), SubVP(), Cosine(), linear(), VE(), EDM(), geometric(), RectifiedFlow()]


@pytest.mark.parametrize("process", PROCESSES, ids=lambda process: type(process).__name__)
@pytest.mark.parametrize("t", [0.02, 0.4, 0.95])
def test_score_is_the_gradient_of_the_log_density(process, t):
    x = jnp.array([-1.0, 0.2, 3.0])
    exact = jax.grad(lambda x: log_density(process, x, t))(x)
    np.testing.assert_allclose(score(process, exact_denoiser(process))(x, t), exact, rtol=1e-9)


@pytest.mark.parametrize("process", PROCESSES, ids=lambda process: type(process).__name__)
@pytest.mark.parametrize(("source", "destination"), list(itertools.product(KINDS, KINDS)))
def test_kinds_say_the_same(process, source, destination, key):
    """Converting a target gives the other kind's target: absolute, for x0 and noise are known."""
    t = 0.3
    x0, noise = jax.random.normal(key, (2, 5))
    x_t = process.perturb(x0, noise, t)
    converted = convert(process, source, destination, target(process, source, x0, noise, t), x_t, t)
    np.testing.assert_allclose(converted, target(process, destination, x0, noise, t), rtol=1e-9, atol=1e-12)


def test_targets_are_the_papers(key):
    vp, t = VP(), 0.3
    x0, noise = jax.random.normal(key, (2, 5))
    alpha, sigma = vp.alpha(t), vp.sigma(t)
    np.testing.assert_allclose(target(vp, "eps", x0, noise, t), noise)
    np.testing.assert_allclose(target(vp, "v", x0, noise, t), alpha * noise - sigma * x0)
    conditional = lambda x_t: -0.5 * jnp.sum((x_t - alpha * x0) ** 2) / sigma**2
    np.testing.assert_allclose(
        target(vp, "score", x0, noise, t), jax.grad(conditional)(vp.perturb(x0, noise, t)), rtol=1e-10
    )


def test_velocity_is_the_slope_of_the_path(key):
    x0, noise = jax.random.normal(key, (2, 5))
    for process in PROCESSES:
        slope = (process.perturb(x0, noise, 0.31234) - process.perturb(x0, noise, 0.31232)) / 0.00002
        np.testing.assert_allclose(
            target(process, "velocity", x0, noise, 0.31233), slope, rtol=1e-5, atol=1e-7
        )
    np.testing.assert_allclose(target(RectifiedFlow(), "velocity", x0, noise, 0.3), noise - x0, rtol=1e-12)


@pytest.mark.parametrize("sigma_data", [0.5, 1.3])
def test_karras_preconditioning_by_hand(sigma_data, key):
    """Their table 1 for D(x; sigma) with EDM's own process; F of another process sees the same image at the same ratio."""
    x0, noise = jax.random.normal(key, (2, 5))
    network, kind = (lambda x, label: jnp.tanh(x) + label), edm_kind(sigma_data)
    for sigma in (0.05, 0.7, 20.0):
        process = EDM()
        t, x = process.time(-2 * jnp.log(sigma)), x0 + sigma * noise
        whole = sigma**2 + sigma_data**2
        c_skip, c_out = sigma_data**2 / whole, sigma * sigma_data / whole**0.5
        by_hand = c_skip * x + c_out * network(x / whole**0.5, jnp.log(sigma) / 4)
        ours = lambda p: denoiser(p, kind, preconditioned(network, p, sigma_data))
        np.testing.assert_allclose(ours(process)(x, t), by_hand, rtol=1e-9)
        vp = VP()
        t = vp.time(-2 * jnp.log(sigma))
        np.testing.assert_allclose(ours(vp)(vp.alpha(t) * x, t), by_hand, rtol=1e-9)
        batch = preconditioned(network, vp, sigma_data)
        rows = preconditioned(lambda x, label: jnp.tanh(x) + label[:, None], vp, sigma_data)(
            jnp.stack([x, 2 * x]), jnp.stack([t, 0.5 * t])
        )
        np.testing.assert_allclose(rows, jnp.stack([batch(x, t), batch(2 * x, 0.5 * t)]), rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_error_scale_is_the_squared_slope(kind, key):
    """A changed x0_hat at a fixed x_t changes the output by sqrt(error_scale)."""
    vp, t = VP(), 0.3
    x_t, x0, x0_hat = jax.random.normal(key, (3, 5))
    outputs = [convert(vp, "x0", kind, x, x_t, t) for x in (x0, x0_hat)]
    ratio = jnp.sum((outputs[0] - outputs[1]) ** 2) / jnp.sum((x0 - x0_hat) ** 2)
    np.testing.assert_allclose(ratio, error_scale(vp, kind, t), rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_denoiser_of_any_kind_is_the_posterior_mean(kind):
    vp = VP()
    exact = exact_denoiser(vp)
    x_t = jnp.array([-1.0, 0.2, 3.0])
    net = lambda x, t: convert(vp, "x0", kind, exact(x, t), x, t)
    np.testing.assert_allclose(denoiser(vp, kind, net)(x_t, 0.4), exact(x_t, 0.4), rtol=1e-9)
    clipped = denoiser(vp, kind, net, clip=0.4)(x_t, 0.4)
    np.testing.assert_allclose(clipped, np.clip(exact(x_t, 0.4), -0.4, 0.4), rtol=1e-9)


def test_time_label():
    seen = time_label(lambda x, t: x * 0 + t, scale=1000.0, offset=-1.0)(jnp.zeros(1), 0.25)
    assert seen[0] == 249.0


@pytest.mark.parametrize("kind", ["x0", "v"])
def test_what_pure_noise_still_tells(kind):
    """Where alpha = 0: x0 itself, and v = -x0; eps and score of a known x0 are those of the noise."""
    process, x0, noise = Cosine(alpha_min=0.0), jnp.array([0.3, -0.2]), jnp.array([1.5, 0.1])
    output = target(process, kind, x0, noise, 1.0)
    np.testing.assert_allclose(output, {"x0": x0, "v": -x0}[kind])
    for other, expected in {"x0": x0, "v": -x0, "eps": noise, "score": -noise}.items():
        np.testing.assert_allclose(convert(process, kind, other, output, noise, 1.0), expected, rtol=1e-12)
    # Of a kind that tells nothing there, a denoiser is still exact below.
    net = lambda x, t: convert(process, "x0", "eps", exact_denoiser(process)(x, t), x, t)
    below = denoiser(process, "eps", net, start=0.9)(noise, 0.9)
    np.testing.assert_allclose(below, exact_denoiser(process)(noise, 0.9), rtol=1e-9)
