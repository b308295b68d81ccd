"""Likelihoods: the variational bound term by term, the probability-flow ODE, score matching; exact for Gaussian data."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from gaussians import MEAN, STD, exact_denoiser, log_density

from jaxdiff.diffusion import EDM, VE, VP, Cosine, Discrete, SubVP, linear
from jaxdiff.diffusion.bound import decoder_term, variational_bound
from jaxdiff.diffusion.likelihood import bits_per_dim, dequantised, flow_likelihood
from jaxdiff.diffusion.score_matching import implicit, sliced

pytestmark = pytest.mark.usefixtures("x64")

PROCESSES = {"vp": VP(), "sub_vp": SubVP(), "cosine": Cosine(alpha_min=1e-3), "ve": VE(), "edm": EDM()}


@pytest.fixture
def x():
    return jnp.array([-0.5, 0.1, 0.9])


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
def test_the_flow_has_the_exact_likelihood(process, x, key):
    """But for the prior: it is N(0, prior_std^2), and p_1 is nearly so."""
    found = flow_likelihood(process, 1e-3, "exact", 1e-8, 1e-8)(exact_denoiser(process), x, key)
    v = process.alpha(1.0) ** 2 * STD**2 + process.sigma(1.0) ** 2
    end = jnp.sum(jax.scipy.stats.norm.logpdf(found.x_1, process.alpha(1.0) * MEAN, jnp.sqrt(v)))
    prior = jnp.sum(jax.scipy.stats.norm.logpdf(found.x_1, 0.0, process.prior_std))
    np.testing.assert_allclose(found.log_p - prior + end, log_density(process, x, 1e-3), rtol=1e-6)
    assert abs(bits_per_dim(found.log_p, 3) - bits_per_dim(log_density(process, x, 1e-3), 3)) < 0.02


def correlated(process):
    """The denoiser of N(0, C) with correlations, whose divergence probes only estimate."""
    a = jax.random.normal(jax.random.key(3), (4, 4))
    c = a @ a.T / 4 + 0.1 * jnp.eye(4)

    def denoise(x, t):
        alpha = process.alpha(t)
        return alpha * c @ jnp.linalg.solve(alpha**2 * c + process.sigma(t) ** 2 * jnp.eye(4), x)

    return denoise, c


@pytest.mark.parametrize("probe", ["rademacher", "gaussian"])
def test_hutchinson_is_unbiased(probe, key):
    vp = VP()
    denoise, c = correlated(vp)
    x = jnp.array([0.3, -0.2, 0.5, 0.1])
    exact = flow_likelihood(vp, 1e-3, "exact", 1e-6, 1e-6)(denoise, x, key).log_p
    run = jax.jit(jax.vmap(lambda k: flow_likelihood(vp, 1e-3, probe, 1e-6, 1e-6)(denoise, x, k).log_p))
    drawn = run(jax.random.split(key, 2000))
    assert jnp.std(drawn) > 0.01
    assert abs(jnp.mean(drawn) - exact) < 4 * jnp.std(drawn) / 2000**0.5
    truth = scipy.stats.multivariate_normal.logpdf(
        np.asarray(x), cov=np.asarray(vp.alpha(1e-3) ** 2 * c + vp.sigma(1e-3) ** 2 * np.eye(4))
    )
    assert exact == pytest.approx(truth, abs=1e-3)


def test_bits_of_a_uniform_density_are_eight():
    """p = 1/2 in each of d dimensions of [-1, 1]: every one of 256 values takes 8 bits."""
    assert bits_per_dim(7 * np.log(0.5), 7) == pytest.approx(8.0)


def test_dequantised_values_lie_within_their_bins(key):
    levels = jnp.arange(256.0)
    points = jax.vmap(lambda k: dequantised(levels / 255, k))(jax.random.split(key, 200))
    places = (points + 1.0) / 2.0 * 256
    np.testing.assert_array_equal(np.floor(places), np.broadcast_to(levels, places.shape))
    assert jnp.mean(places - levels[None]) == pytest.approx(0.5, abs=0.01)


def test_flow_likelihood_refuses_pure_noise():
    with pytest.raises(ValueError, match="keeps a little signal"):
        flow_likelihood(Cosine(alpha_min=0.0))


def pixels(n):
    """Values of 256 levels in [-1, 1]."""
    return jnp.asarray(2.0 * np.random.default_rng(0).integers(0, 256, n) / 255 - 1.0)


def test_the_bound_by_hand_in_two_steps(key):
    """Betas 0.2 and 0.5, posterior variance: KLs of Gaussians and the mass of the bins, written out."""
    process, x0 = Discrete((0.2, 0.5)), pixels(5)
    denoise = lambda x, t: 0.3 * x + 0.1
    found = variational_bound(process, 2, "posterior")(denoise, x0, key)
    bar = np.array([0.8, 0.4])
    prior = 0.5 * np.sum(bar[1] * x0**2 + (1 - bar[1]) - 1 - np.log(1 - bar[1]))
    x_2 = np.sqrt(bar[1]) * x0 + np.sqrt(1 - bar[1]) * jax.random.normal(jax.random.fold_in(key, 2), (5,))
    var = 0.5 * (1 - bar[0]) / (1 - bar[1])
    coefficient = np.sqrt(bar[0]) * 0.5 / (1 - bar[1])  # Ho et al.'s equation 7
    kl = np.sum((coefficient * (x0 - denoise(x_2, 1.0))) ** 2) / (2 * var)
    x_1 = np.sqrt(bar[0]) * x0 + np.sqrt(1 - bar[0]) * jax.random.normal(jax.random.fold_in(key, 1), (5,))
    mean = np.asarray(denoise(x_1, 0.5))
    edges = np.linspace(-1, 1, 256)[1:] - 1 / 255
    cdf = scipy.stats.norm.cdf(np.concatenate([[-np.inf], edges, [np.inf]])[:, None], mean, np.sqrt(var))
    masses = np.diff(cdf, axis=0)[np.round((np.asarray(x0) + 1) / 2 * 255).astype(int), np.arange(5)]
    np.testing.assert_allclose(found.prior, prior, rtol=1e-9)
    np.testing.assert_allclose(found.steps, [kl], rtol=1e-9)
    np.testing.assert_allclose(found.decoder, -np.log(masses).sum(), rtol=1e-6)
    np.testing.assert_allclose(found.total, prior + kl - np.log(masses).sum(), rtol=1e-6)


def test_the_upper_variance_costs_its_divergence(key):
    """With a perfect denoiser only 1/2 [log(var_p/var_q) + var_q/var_p - 1] is left, 0 for the posterior variance."""
    process, x0 = linear(50), pixels(4)
    perfect = lambda x, t: x0
    none = variational_bound(process, 50, "posterior")(perfect, x0, key)
    np.testing.assert_allclose(none.steps, 0.0, atol=1e-12)
    upper = variational_bound(process, 50, "upper")(perfect, x0, key)
    bar = np.cumprod(1 - np.asarray(process.betas))
    ratio = (1 - bar[1:]) / (1 - bar[:-1])  # var_p / var_q
    np.testing.assert_allclose(upper.steps, 4 * 0.5 * (np.log(ratio) + 1 / ratio - 1), rtol=1e-6)


@pytest.mark.parametrize("share", [0.0, 1.0, 0.3])
def test_a_learned_variance_lies_between(share, key):
    process, x0 = linear(20), pixels(4)
    denoise = lambda x, t: 0.5 * x
    learned = variational_bound(process, 20, lambda x, t: jnp.full_like(x, share))(denoise, x0, key)
    ends = [variational_bound(process, 20, name)(denoise, x0, key).steps for name in ("posterior", "upper")]
    if share in (0.0, 1.0):
        np.testing.assert_allclose(learned.steps, ends[int(share)], rtol=1e-9)
    else:
        assert not np.allclose(learned.steps, ends[0]) and not np.allclose(learned.steps, ends[1])


def test_the_bound_is_above_the_likelihood_and_tight_for_gaussian_data(key):
    """Data N(0, 0.25^2) rounded to 256 levels, the exact denoiser, many steps: with the upper variance, right for data that are
    wider than the noise, the bound is the entropy but for the first step's decoder; the posterior one costs more.
    """
    process, std = linear(1000), 0.25

    def denoise(x, t):
        alpha = process.alpha(t)
        return alpha * std**2 / (alpha**2 * std**2 + process.sigma(t) ** 2) * x

    places = np.round((np.random.default_rng(1).normal(0.0, std, 512) + 1) / 2 * 255).astype(int)
    upper, posterior = (
        variational_bound(process, 1000, name, 128)(denoise, jnp.asarray(2.0 * places / 255 - 1.0), key).total
        for name in ("upper", "posterior")
    )
    edges = np.concatenate([[-np.inf], np.linspace(-1, 1, 256)[1:] - 1 / 255, [np.inf]])
    exact = -np.log(np.diff(scipy.stats.norm.cdf(edges, 0.0, std))[places]).sum()
    assert exact < upper < exact + 0.3 * 512 * np.log(2) and posterior > upper + 0.3 * 512 * np.log(2)


def test_the_decoder_is_a_distribution_in_the_tails_too():
    """The masses of all 256 bins sum to 1, for means far outside too, in float32 without NaN."""
    values = jnp.linspace(-1.0, 1.0, 256)
    for mean, std in ((0.0, 0.1), (-3.0, 0.05), (5.0, 0.2), (0.99, 0.001)):
        mass = jnp.exp(-decoder_term(values, jnp.full(256, mean), std**2))
        assert jnp.sum(mass) == pytest.approx(1.0, abs=1e-6)
        with jax.enable_x64(False):
            low = decoder_term(
                jnp.asarray(values, jnp.float32), jnp.full(256, mean, jnp.float32), jnp.float32(std**2)
            )
            gradient = jax.grad(
                lambda m: decoder_term(jnp.asarray(values, jnp.float32), m, jnp.float32(std**2)).sum()
            )(jnp.full(256, mean, jnp.float32))
            assert not jnp.any(jnp.isnan(low)) and not jnp.any(jnp.isnan(gradient))


def test_score_matching_without_noise_is_the_explicit_loss_but_for_a_constant(key):
    """Of N(0.3, 0.5^2) data and scores a (x - b): the means differ from 1/2 E|s - score|^2 by the same for all a, b."""
    x = MEAN + STD * jax.random.normal(key, (20_000, 2))
    truth = jax.vmap(lambda x: -(x - MEAN) / STD**2)(x)
    gaps = []
    for a, b in ((-4.0, 0.3), (-1.0, 0.0), (2.0, 1.0)):
        s = lambda x, a=a, b=b: a * (x - b)
        explicit = 0.5 * jnp.mean(jnp.sum((jax.vmap(s)(x) - truth) ** 2, axis=1))
        gaps.append(float(explicit - jnp.mean(jax.vmap(lambda x: implicit(s, x))(x))))
    np.testing.assert_allclose(gaps, gaps[0], rtol=0.05)
    np.testing.assert_allclose(gaps[0], 0.5 * 2 / STD**2, rtol=0.05)  # 1/2 E |score|^2


def test_slices_are_unbiased(key):
    a = jax.random.normal(key, (5, 5))
    s, x = (lambda x: jnp.tanh(a @ x)), jnp.linspace(-1.0, 1.0, 5)
    drawn = jax.vmap(lambda k: sliced(s, x, k))(jax.random.split(key, 4000))
    assert abs(jnp.mean(drawn) - implicit(s, x)) < 4 * jnp.std(drawn) / 4000**0.5
    many = sliced(s, x, key, 4000)
    assert abs(many - implicit(s, x)) < 4 * jnp.std(drawn) / 4000**0.5
