"""Solvers against exact solutions for Gaussian data: order of convergence, marginals, and each other."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gaussians import MEAN, STD, exact_denoiser, flow, variance

from jaxdiff.diffusion import VP, Cosine, ddim, ddpm, dpmpp_2m, euler_maruyama, heun, linear, sample
from jaxdiff.diffusion.grids import logsnr, uniform

pytestmark = pytest.mark.usefixtures("x64")

PROCESSES = {"vp": VP(), "cosine": Cosine()}
ODE_SOLVERS = {"ddim": (ddim, 1), "heun": (heun, 2), "dpmpp_2m": (dpmpp_2m, 2)}
SDE_SOLVERS = {
    "ddpm": ddpm,
    "ddpm_upper": lambda process: ddpm(process, "upper"),
    "ddim_eta1": lambda process: ddim(process, 1.0),
    "ddim_eta0.5": lambda process: ddim(process, 0.5),
    "euler_maruyama": euler_maruyama,
}
ALL_SOLVERS = SDE_SOLVERS | {name: make for name, (make, _) in ODE_SOLVERS.items()}


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
@pytest.mark.parametrize(("make", "order"), ODE_SOLVERS.values(), ids=ODE_SOLVERS)
def test_order_of_convergence(process, make, order, key):
    """Halving the steps divides the error by 2^order, on the exact flow of Gaussian data."""
    x = jnp.array([-1.5, 0.1, 2.0])
    start, end = 0.9, 0.1
    errors = []
    for steps in (80, 160, 320):
        ts = logsnr(process, steps, start, end)
        solved = sample(make(process), exact_denoiser(process), x, ts, key)
        errors.append(jnp.max(jnp.abs(solved - flow(process, x, start, end))))
    measured = np.log2(np.array(errors[:-1]) / np.array(errors[1:]))
    np.testing.assert_allclose(measured[-1], order, atol=0.1)


def _law(process, make, steps, start, end):
    """Exact mean and variance of a stochastic solver's output on Gaussian data.

    Every step is affine: x_s = a x_t + b + c z, with z = normal(key, shape) by the solvers' contract; a, b, c are read off
    from three calls, and the recursions of mean and variance follow.
    """
    solver, denoise = make(process), exact_denoiser(process)
    ts = uniform(steps, start, end)
    mean, var = process.alpha(start) * MEAN, variance(process, start)
    shape, keys = (50,), (jax.random.key(1), jax.random.key(2))
    z = [jax.random.normal(k, shape) for k in keys]
    step = jax.jit(lambda x, t, s, k: solver.step(denoise, x, solver.init(x), t, s, k)[0])
    for t, s in itertools.pairwise(ts):
        zero, other = (step(jnp.zeros(shape), t, s, k) for k in keys)
        c = (zero - other) / (z[0] - z[1])
        np.testing.assert_allclose(c, c[0], rtol=1e-6, atol=1e-9)
        a = step(jnp.ones(shape), t, s, keys[0])[0] - zero[0]
        b = zero[0] - c[0] * z[0][0]
        mean, var = a * mean + b, a**2 * var + c[0] ** 2
    return mean, var


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
@pytest.mark.parametrize("make", SDE_SOLVERS.values(), ids=SDE_SOLVERS)
def test_stochastic_marginals_converge_with_order_one(process, make):
    start, end = 0.8, 0.1
    errors = []
    for steps in (40, 80):
        mean, var = _law(process, make, steps, start, end)
        errors.append([abs(mean - process.alpha(end) * MEAN), abs(var - variance(process, end))])
    errors = np.array(errors)
    assert np.all(errors[1] < 0.03)
    assert np.log2(errors[0][1] / errors[1][1]) == pytest.approx(1.0, abs=0.25)
    assert errors[1][0] < 1e-9 or np.log2(errors[0][0] / errors[1][0]) == pytest.approx(1.0, abs=0.3)


@pytest.mark.parametrize("make", ALL_SOLVERS.values(), ids=ALL_SOLVERS)
def test_samples_follow_the_data(make, key):
    """From pure noise to t = 0, 20,000 independent pixels have the mean and the standard deviation of the data."""
    vp = VP()
    x = jax.random.normal(key, (20_000,))
    solved = sample(make(vp), exact_denoiser(vp), x, uniform(400), jax.random.key(1))
    assert jnp.mean(solved) == pytest.approx(MEAN, abs=5 * STD / 20_000**0.5 + 0.005)
    assert jnp.std(solved) == pytest.approx(STD, abs=0.03)


def test_posterior_is_bayes_rule(key):
    """For a known x0 a DDPM step draws from q(x_s | x_t, x0), the product of two Gaussians."""
    vp, t, s = VP(), 0.6, 0.5
    x0, x_t = 0.7, jnp.full((100_000,), -0.4)
    ratio = vp.alpha(t) / vp.alpha(s)
    forward_var = vp.sigma(t) ** 2 - ratio**2 * vp.sigma(s) ** 2  # q(x_t | x_s)
    precision = 1 / vp.sigma(s) ** 2 + ratio**2 / forward_var
    mean = (vp.alpha(s) * x0 / vp.sigma(s) ** 2 + ratio * x_t[0] / forward_var) / precision
    drawn = sample(ddpm(vp), lambda x, t: jnp.full_like(x, x0), x_t, jnp.array([t, s]), key)
    assert jnp.mean(drawn) == pytest.approx(float(mean), abs=float(5 * precision**-0.5 / 100_000**0.5))
    assert jnp.var(drawn) == pytest.approx(float(1 / precision), rel=0.03)
    upper = sample(ddpm(vp, "upper"), lambda x, t: jnp.full_like(x, x0), x_t, jnp.array([t, s]), key)
    assert jnp.mean(upper) == pytest.approx(float(mean), abs=float(5 * forward_var**0.5 / 100_000**0.5))
    assert jnp.var(upper) == pytest.approx(float(forward_var), rel=0.03)


def test_ddpm_is_algorithm_2(key):
    """mean = (x_t - beta/sqrt(1 - abar) eps) / sqrt(1 - beta) in Ho et al.'s indexing, and no noise at the last step."""
    betas = np.linspace(1e-4, 0.02, 1000)
    alpha_bar = np.cumprod(1 - betas)
    process, solver = linear(), ddpm(linear(), "upper")
    eps = jax.random.normal(jax.random.key(3), (4,))
    for index in (0, 1, 500, 999):
        t, s = (index + 1) / 1000, index / 1000
        x = jax.random.normal(jax.random.key(index), (4,))
        denoise = lambda x, t: (x - process.sigma(t) * eps) / process.alpha(t)  # noqa: E731
        mean = (x - betas[index] / np.sqrt(1 - alpha_bar[index]) * eps) / np.sqrt(1 - betas[index])
        drawn = solver.step(denoise, x, (), t, s, key)[0]
        noise = np.sqrt(betas[index]) * jax.random.normal(key, (4,)) if index else 0.0
        np.testing.assert_allclose(drawn, mean + noise, rtol=1e-7, atol=1e-9)


def test_ddim_eta_one_is_ddpm(key):
    vp = VP()
    x = jax.random.normal(key, (7,))
    run = lambda solver: sample(solver, exact_denoiser(vp), x, uniform(10), key)  # noqa: E731
    np.testing.assert_allclose(run(ddim(vp, 1.0)), run(ddpm(vp)), rtol=1e-12)


@pytest.mark.parametrize("make", ALL_SOLVERS.values(), ids=ALL_SOLVERS)
def test_float32_down_to_zero_is_finite_with_finite_gradients(make, key):
    with jax.enable_x64(False):
        vp = VP()
        x = jax.random.normal(key, (6,), jnp.float32)
        run = lambda x: jnp.sum(sample(make(vp), exact_denoiser(vp), x, uniform(20), key))  # noqa: E731
        value, gradient = jax.value_and_grad(run)(x)
        assert value.dtype == jnp.float32
        assert jnp.isfinite(value) and jnp.all(jnp.isfinite(gradient)) and jnp.all(gradient > 0)


def test_bad_arguments():
    with pytest.raises(ValueError, match="eta"):
        ddim(VP(), eta=1.5)
    with pytest.raises(ValueError, match=r"'lower'.*posterior"):
        ddpm(VP(), variance="lower")
