"""Steps at one noise level and what is composed with them: Langevin, predictor-corrector, churn; and the adaptive ODE."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gaussians import MEAN, STD, exact_denoiser, flow, log_density, variance
from rows import slow_but

from jaxdiff.diffusion import (
    EDM,
    VE,
    VP,
    Cosine,
    Solver,
    adaptive,
    annealed_langevin,
    churned,
    euler_maruyama,
    geometric,
    heun,
    langevin,
    linear,
    reverse_diffusion,
    sample,
    then,
)
from jaxdiff.diffusion.grids import logsnr, uniform

pytestmark = pytest.mark.usefixtures("x64")


@pytest.fixture
def start():
    """Three pixels of float64."""
    return jnp.array([-1.5, 0.1, 2.0])


def score_at(process, x, t):
    return jax.grad(lambda x: log_density(process, x, t))(x)


def test_reverse_diffusion_is_the_forward_chain_turned_round(key, start):
    """Song et al. 2021, appendix E: VE x + (sigma_t^2 - sigma_s^2) score + sqrt(that) z; VP
    (2 - sqrt(1 - beta)) x + beta score + sqrt(beta) z, with the table's own beta.
    """
    z = jax.random.normal(key, start.shape)
    ve, t, s = VE(), 0.6, 0.55
    b2 = ve.sigma(t) ** 2 - ve.sigma(s) ** 2
    ours, _ = reverse_diffusion(ve).step(exact_denoiser(ve), start, (), t, s, key)
    np.testing.assert_allclose(ours, start + b2 * score_at(ve, start, t) + jnp.sqrt(b2) * z, rtol=1e-9)
    vp, i = linear(), 400
    beta = vp.betas[i - 1]
    ours, _ = reverse_diffusion(vp).step(exact_denoiser(vp), start, (), i / 1000, (i - 1) / 1000, key)
    by_hand = (2 - np.sqrt(1 - beta)) * start + beta * score_at(vp, start, i / 1000) + np.sqrt(beta) * z
    np.testing.assert_allclose(ours, by_hand, rtol=1e-9)
    last, _ = reverse_diffusion(vp, noise_removal=True).step(exact_denoiser(vp), start, (), 0.001, 0.0, key)
    np.testing.assert_allclose(
        last, (2 - np.sqrt(1 - 1e-4)) * start + 1e-4 * score_at(vp, start, 0.001), rtol=1e-7
    )


def test_a_corrector_step_by_hand(key, start):
    """eps = 2 (snr |z| / |score|)^2 at the time of arrival, the norms over the image."""
    ve, s = VE(), 0.4
    ours, _ = langevin(ve, snr=0.2).step(exact_denoiser(ve), start, (), 0.9, s, key)
    z, direction = jax.random.normal(jax.random.split(key, 1)[0], start.shape), score_at(ve, start, s)
    eps = 2 * (0.2 * np.linalg.norm(z) / np.linalg.norm(direction)) ** 2
    np.testing.assert_allclose(ours, start + eps * direction + np.sqrt(2 * eps) * z, rtol=1e-9)


def test_a_corrector_is_silent_where_there_is_no_noise(key, start):
    vp = VP()
    with jax.debug_nans(True):
        ours, _ = langevin(vp, steps=3).step(exact_denoiser(vp), start, (), 0.1, 0.0, key)
        gradient = jax.grad(lambda x: langevin(vp).step(exact_denoiser(vp), x, (), 0.1, 0.0, key)[0].sum())(
            start
        )
    np.testing.assert_array_equal(ours, start)
    np.testing.assert_array_equal(gradient, 1.0)


@pytest.mark.parametrize("process", [VP(), VE(), EDM()], ids=["vp", "ve", "edm"])
def test_a_corrector_keeps_the_marginal(process, key):
    """20,000 pixels of p_s stay in p_s under many small steps."""
    s = float(process.time(0.0))
    x = process.alpha(s) * MEAN + jnp.sqrt(variance(process, s)) * jax.random.normal(key, (20_000,))
    moved, _ = langevin(process, snr=0.05, steps=100).step(
        exact_denoiser(process), x, (), 1.0, s, jax.random.key(1)
    )
    assert jnp.mean(moved) == pytest.approx(float(process.alpha(s) * MEAN), abs=0.03)
    assert jnp.std(moved) == pytest.approx(float(variance(process, s)) ** 0.5, rel=0.02)
    assert abs(jnp.corrcoef(x, moved)[0, 1]) < 0.9


def test_then_is_one_after_the_other(key, start):
    """The corrector begins where the predictor has arrived; they draw from keys of their own."""
    ve, denoise = VE(), exact_denoiser(VE())
    predictor, corrector = reverse_diffusion(ve), langevin(ve)
    both = then(predictor, corrector)
    x_s, _ = both.step(denoise, start, both.init(start), 0.9, 0.7, key)
    keys = jax.random.split(key)
    first, _ = predictor.step(denoise, start, (), 0.9, 0.7, keys[0])
    np.testing.assert_allclose(x_s, corrector.step(denoise, first, (), 0.9, 0.7, keys[1])[0], rtol=1e-12)
    with pytest.raises(ValueError, match="cannot begin"):
        to_noise = Cosine(alpha_min=0.0)
        sample(then(heun(to_noise), euler_maruyama(to_noise)), denoise, start, uniform(3), key)


LEVEL_SOLVERS = {
    "predictor-corrector": lambda p: then(reverse_diffusion(p, noise_removal=True), langevin(p, snr=0.1)),
    "churned heun": lambda p: churned(p, heun(p), churn=20.0, steps=100),
}


@pytest.mark.parametrize("process", [VP(), EDM()], ids=["vp", "edm"])
@pytest.mark.parametrize("name", LEVEL_SOLVERS)
def test_samples_follow_the_data(name, process, key):
    """From noise to t = 0: 20,000 independent pixels have mean and standard deviation of the data."""
    ts = jnp.append(logsnr(process, 99, 1.0, float(process.time(9.0))), 0.0)
    x = process.sigma(1.0) * jax.random.normal(key, (20_000,))
    solved = sample(LEVEL_SOLVERS[name](process), exact_denoiser(process), x, ts, jax.random.key(1))
    assert jnp.mean(solved) == pytest.approx(MEAN, abs=0.03)
    assert jnp.std(solved) == pytest.approx(STD, rel=0.06)


WHERE = Solver(lambda x: (), lambda denoise, x, carry, t, s, key: (x, t))  # says where it was asked to begin


@pytest.mark.parametrize("process", [VP(), EDM()], ids=["vp", "edm"])
def test_churn_raises_the_noise_to_what_the_process_has_there(process, key, start):
    """By Karras et al.'s algorithm 2 in y = x / alpha: rho' = (1 + gamma) rho, y + sqrt(rho'^2 - rho^2) z."""
    t = 0.4
    x, raised = churned(process, WHERE, churn=2.0, steps=10).step(
        exact_denoiser(VP()), start, (), t, 0.1, key
    )
    rho = process.sigma(t) / process.alpha(t)
    np.testing.assert_allclose(process.sigma(raised) / process.alpha(raised), 1.2 * rho, rtol=1e-9)
    z = jax.random.normal(jax.random.split(key)[0], start.shape)
    y = start / process.alpha(t) + jnp.sqrt(1.44 - 1) * rho * z
    np.testing.assert_allclose(x / process.alpha(raised), y, rtol=1e-9)


def test_churn_stays_within_its_bounds(key, start):
    edm = EDM()
    begin = lambda t, **more: churned(edm, WHERE, **{"churn": 2.0, "steps": 10} | more).step(
        exact_denoiser(edm), start, (), t, 0.01, key
    )
    for quiet in ({"churn": 0.0}, {"rho_max": 10.0}, {"rho_min": 50.0}):
        x, raised = begin(0.4, **quiet)
        np.testing.assert_allclose(raised, 0.4, rtol=1e-12)
        np.testing.assert_allclose(x, start, rtol=1e-12)
    assert begin(0.4, churn=1000.0)[1] == pytest.approx(
        0.4 * 2**0.5, rel=1e-9
    )  # gamma is at most sqrt(2) - 1
    assert begin(1.0)[1] == 1.0  # no further than the process
    doubled = begin(0.4, noise=2.0)[0] - start
    np.testing.assert_allclose(doubled, 2.0 * (begin(0.4)[0] - start), rtol=1e-9)


def test_annealed_langevin_is_song_and_ermon_s_algorithm_1(key, start):
    """alpha_i = epsilon sigma_i^2 / sigma_L^2; x + alpha_i/2 score + sqrt(alpha_i) z, twice at a level."""
    levels = geometric(10)
    x, _ = annealed_langevin(levels, rate=2e-5 / 0.01**2, steps=2).step(
        exact_denoiser(levels), start, (), 0.8, 0.7, key
    )
    size, by_hand = 2e-5 * float(levels.sigma(0.8)) ** 2 / 0.01**2, start
    for k in jax.random.split(key, 2):
        z = jax.random.normal(k, start.shape)
        by_hand = by_hand + size / 2 * score_at(levels, by_hand, 0.8) + size**0.5 * z
    np.testing.assert_allclose(x, by_hand, rtol=1e-9)


def test_annealed_langevin_ends_with_the_mean_of_what_it_has_found(key, start):
    levels, denoise = geometric(10), exact_denoiser(geometric(10))
    x, _ = annealed_langevin(levels, steps=1).step(
        denoise, start, (), 0.1, 0.05, key
    )  # at the lowest level, and not yet at 0
    last, _ = annealed_langevin(levels, steps=1).step(denoise, start, (), 0.1, 0.0, key)
    np.testing.assert_allclose(last, denoise(x, 0.1), rtol=1e-9)


@pytest.mark.slow
def test_annealed_langevin_finds_the_data(key):
    levels = geometric(10, 0.05, 5.0)
    x = 5.0 * jax.random.normal(key, (20_000,))
    solved = sample(
        annealed_langevin(levels, 0.2, 300), exact_denoiser(levels), x, uniform(10), jax.random.key(1)
    )
    assert jnp.mean(solved) == pytest.approx(MEAN, abs=0.03)
    assert jnp.std(solved) == pytest.approx(STD, rel=0.05)


@pytest.mark.parametrize("name", slow_but(["vp", "ve", "edm"], "vp"))
def test_the_adaptive_ode_is_the_exact_flow_with_exact_gradients(name, key, start):
    process = {"vp": VP(), "ve": VE(), "edm": EDM()}[name]
    ts = [0.9, 0.05]
    run = lambda x: sample(adaptive(process, 1e-8, 1e-8), exact_denoiser(process), x, ts, key)
    np.testing.assert_allclose(run(start), flow(process, start, *ts), rtol=1e-6)
    slope = jax.grad(lambda x: run(x).sum())(start)
    np.testing.assert_allclose(
        slope, jnp.sqrt(variance(process, ts[1]) / variance(process, ts[0])), rtol=1e-5
    )


def test_where_the_adaptive_ode_does_not_exist(key, start):
    with pytest.raises(ValueError, match="cannot end at t = 0"):
        sample(adaptive(VP()), exact_denoiser(VP()), start, [0.9, 0.0], key)


@pytest.mark.parametrize(
    "make",
    [*LEVEL_SOLVERS.values(), lambda p: annealed_langevin(p, steps=2)],
    ids=[*LEVEL_SOLVERS, "annealed"],
)
def test_float32_down_to_zero_is_finite_with_finite_gradients(make, key):
    with jax.enable_x64(False):
        vp, x = VP(), jax.random.normal(key, (6,), jnp.float32)
        run = lambda x: jnp.sum(sample(make(vp), exact_denoiser(vp), x, uniform(10), key))
        value, gradient = jax.value_and_grad(run)(x)
        assert value.dtype == jnp.float32 and jnp.isfinite(value) and jnp.all(jnp.isfinite(gradient))
