"""Losses and weights against their definitions for Gaussian data and against Ho et al.'s table."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gaussians import MEAN, STD, exact_denoiser, variance

from jaxdiff.diffusion import (
    EDM,
    KINDS,
    VP,
    Cosine,
    Discrete,
    convert,
    denoising,
    edm_kind,
    linear,
    noise_levels,
)
from jaxdiff.diffusion.prediction import error_scale
from jaxdiff.diffusion.weights import edm, elbo, min_snr, simple

pytestmark = pytest.mark.usefixtures("x64")


def _predict(process, kind):
    """The optimal network of a kind, batched."""
    exact = exact_denoiser(process)
    return jax.vmap(lambda x, t: convert(process, "x0", kind, exact(x, t), x, t))


def _data(key, batch=64, pixels=500):
    x0 = MEAN + STD * jax.random.normal(key, (batch, pixels))
    return x0, jax.random.split(jax.random.key(1), batch)


def test_epsilon_loss_of_the_optimal_network(key):
    """min over networks of L_simple at t is alpha^2 std^2 / v: what noise cannot be told from data."""
    vp, (x0, keys) = VP(), _data(key)
    for t in (0.1, 0.5):
        losses = denoising(vp, "eps", simple())(_predict(vp, "eps"), x0, jnp.full(64, t), keys)
        floor = vp.alpha(t) ** 2 * STD**2 / variance(vp, t)
        assert jnp.mean(losses) == pytest.approx(float(floor), rel=0.03)


def test_simple_is_the_squared_error_of_the_noise(key):
    """A network that always says 0 has the loss E |noise|^2 = 1, one that says the truth has none."""
    vp, (x0, keys) = VP(), _data(key)
    loss = denoising(vp, "eps", simple())
    t = jnp.full(64, 0.3)
    assert jnp.mean(loss(lambda x, t: 0 * x, x0, t, keys)) == pytest.approx(1.0, abs=0.03)
    oracle = lambda x_t, t: (x_t - vp.alpha(0.3) * x0) / vp.sigma(0.3)
    np.testing.assert_allclose(loss(oracle, x0, t, keys), 0.0, atol=1e-20)


@pytest.mark.parametrize("kind", KINDS)
def test_a_weight_means_the_same_for_every_kind(kind, key):
    """With the ELBO weight the loss of a denoiser does not depend on what its network predicts."""
    vp, (x0, keys) = VP(), _data(key, batch=8, pixels=20)
    t = jnp.linspace(0.1, 0.9, 8)
    losses = [denoising(vp, k, elbo())(_predict(vp, k), x0, t, keys) for k in ("eps", kind)]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-8)


@pytest.mark.parametrize("variance_name", ["posterior", "upper"])
def test_elbo_weight_is_ho_et_al_s_lambda(variance_name):
    betas = np.linspace(1e-4, 0.02, 1000)
    alpha_bar = np.cumprod(1 - betas)
    previous = np.append(1.0, alpha_bar[:-1])
    var = betas if variance_name == "upper" else betas * (1 - previous) / (1 - alpha_bar)
    first = 0 if variance_name == "upper" else 1
    expected = (betas**2 / (2 * np.where(var > 0, var, 1) * (1 - betas) * (1 - alpha_bar)))[first:]
    weight = elbo(steps=1000, variance=variance_name)
    t = jnp.arange(1 + first, 1001) / 1000
    ours = jax.vmap(lambda t: weight(linear(), "eps", t))(t) / 1000
    np.testing.assert_allclose(ours, expected, rtol=1e-7)


def test_elbo_weight_has_its_continuous_limit():
    vp, t = VP(), jnp.asarray(0.4)
    np.testing.assert_allclose(
        elbo(steps=100_000, variance="posterior")(vp, "eps", t), elbo()(vp, "eps", t), rtol=1e-3
    )


@pytest.mark.parametrize("kind", ["x0", "v"])
@pytest.mark.parametrize("variance_name", ["posterior", "upper"])
def test_elbo_weight_has_its_limit_at_pure_noise(kind, variance_name):
    """T/2 (SNR_s - SNR_t) |x0 - x0_hat|^2 with SNR_t = 0 (Kingma et al. 2021, equation 14); for alpha = 0 and sigma = 1 the
    error of v is that of x0, and both variances are 1 - alpha_s^2 over sigma_t^2 or sigma_s^2.
    """
    process, steps, t = Cosine(alpha_min=0.0), 10, jnp.asarray(1.0)
    s = 0.9
    snr = process.alpha(s) ** 2 / process.sigma(s) ** 2
    expected = 0.5 * steps * (snr if variance_name == "posterior" else process.alpha(s) ** 2)
    np.testing.assert_allclose(elbo(steps, variance_name)(process, kind, t), expected, rtol=1e-9)
    for ends in (process, Discrete((0.1, 0.2, 1.0))):  # the derivative of an SNR that ends as (1 - t)^2
        np.testing.assert_allclose(elbo()(ends, kind, t), 0.0, atol=1e-12)
    near = elbo(steps, variance_name)(process, kind, jnp.asarray(1.0 - 1e-7))
    np.testing.assert_allclose(near, expected, rtol=1e-5)


WEIGHTS = {"elbo": elbo(), "min_snr": min_snr(), "edm": edm()}


@pytest.mark.parametrize("weight", WEIGHTS.values(), ids=WEIGHTS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_weight_is_of_the_image(weight, kind):
    """Times the scale of the error it is the weight of the squared error of x0, the same for every kind."""
    for t in (0.1, 0.4, 0.9):
        t = jnp.asarray(t)
        np.testing.assert_allclose(
            weight(VP(), kind, t) * error_scale(VP(), kind, t), weight(VP(), "x0", t), rtol=1e-9
        )


def test_min_snr_is_hang_et_al_s():
    """For eps min(SNR, 5)/SNR, for v min(SNR, 5)/(SNR + 1), for x0 min(SNR, 5)."""
    for t in (0.05, 0.3, 0.8):
        vp, t = VP(), jnp.asarray(t)
        snr = (vp.alpha(t) / vp.sigma(t)) ** 2
        least = jnp.minimum(snr, 5.0)
        ours = [min_snr()(vp, kind, t) for kind in ("eps", "v", "x0")]
        np.testing.assert_allclose(ours, [least / snr, least / (snr + 1), least], rtol=1e-9)


def test_edm_weight_is_karras_and_one_for_his_own_kind():
    """(sigma^2 + sigma_data^2) / (sigma sigma_data)^2 for his denoiser."""
    process = EDM()
    for sigma, sigma_data in ((0.03, 0.5), (0.7, 0.5), (40.0, 1.2)):
        t = process.time(-2 * jnp.log(sigma))
        expected = (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2
        np.testing.assert_allclose(edm(sigma_data)(process, "x0", t), expected, rtol=1e-9)
        for p in (process, VP()):
            np.testing.assert_allclose(
                edm(sigma_data)(p, edm_kind(sigma_data), jnp.asarray(0.3)), 1.0, rtol=1e-9
            )


def test_the_bound_s_weight_is_g2_of_the_score_s_error():
    """Song et al. 2021: 1/2 g^2 |score error|^2, for any process."""
    for process in (VP(), Cosine(), EDM()):
        t = jnp.asarray(0.31)
        np.testing.assert_allclose(elbo()(process, "score", t), 0.5 * process.g2(t), rtol=1e-7)


def test_losses_at_pure_noise_are_finite():
    """The noise is the whole of x_t there: a network of v that knows x0 has no error, one that says 0 that of x0."""
    process, x0 = Cosine(alpha_min=0.0), jnp.full((1, 3), 0.6)
    loss = lambda predict: denoising(process, "v", simple())(
        predict, x0, jnp.ones(1), jax.random.split(jax.random.key(0), 1)
    )
    np.testing.assert_allclose(loss(lambda x, t: 0 * x), 0.36, rtol=1e-12)
    np.testing.assert_allclose(loss(lambda x, t: -x0), 0.0, atol=1e-12)


def test_noise_of_an_example_is_its_own(key):
    """Order and company of an example do not change its loss."""
    vp, (x0, keys) = VP(), _data(key, batch=6, pixels=9)
    t = jnp.linspace(0.1, 0.9, 6)
    loss = denoising(vp, "v", simple())
    order = np.array([3, 0, 5])
    whole = loss(_predict(vp, "v"), x0, t, keys)
    part = loss(_predict(vp, "v"), x0[order], t[order], keys[order])
    np.testing.assert_allclose(part, whole[order], rtol=1e-12)


def test_times(key):
    keys = jax.random.split(key, 20_000)
    t = noise_levels.uniform(0.2)(keys)
    assert jnp.min(t) >= 0.2 and jnp.max(t) <= 1.0
    assert jnp.mean(t) == pytest.approx(0.6, abs=0.01)
    counts = np.bincount(np.round(np.array(noise_levels.discrete(4)(keys)) * 4).astype(int), minlength=5)
    assert counts[0] == 0
    np.testing.assert_allclose(counts[1:], 5000, rtol=0.05)


def test_log_normal_levels_are_karras(key):
    for process in (EDM(), VP()):
        t = noise_levels.log_normal(process, -1.2, 1.2)(jax.random.split(key, 20_000))
        levels = -0.5 * jax.vmap(process.logsnr)(t)
        assert jnp.mean(levels) == pytest.approx(-1.2, abs=0.03) and jnp.std(levels) == pytest.approx(
            1.2, rel=0.02
        )


def test_stratified_times_lie_apart_and_are_uniform(key):
    """One in each of B equal parts; over many batches uniform."""
    draw = noise_levels.stratified(0.1)
    t = jax.vmap(draw)(jax.random.split(key, (500, 8)))
    parts = np.floor((np.asarray(t) - 0.1) / 0.9 * 8 + 1e-9).astype(int) % 8
    assert all(set(row) == set(range(8)) for row in parts)
    counts, _ = np.histogram(t, 10, (0.1, 1.0))
    np.testing.assert_allclose(counts, 400, rtol=0.2)
    # The mean of B even places goes with their common offset alone, which is uniform within 0.9 / B.
    assert jnp.std(t.mean(1)) == pytest.approx(0.9 / 8 / 12**0.5, rel=0.1)
