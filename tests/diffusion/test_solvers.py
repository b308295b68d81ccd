"""Solvers against exact solutions for Gaussian data: order of convergence, marginals, and each other."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gaussians import MEAN, exact_denoiser, flow, variance
from rows import slow_but
from solver_rows import ALL_SOLVERS, NOISE, ODE_SOLVERS, PROCESSES

from jaxdiff.diffusion import (
    VP,
    Cosine,
    Process,
    convert,
    ddim,
    ddpm,
    denoiser,
    dpmpp_2m,
    dpmpp_2m_sde,
    dpmpp_3m,
    euler_maruyama,
    heun,
    linear,
    sample,
    unipc,
)
from jaxdiff.diffusion.grids import logsnr, uniform

pytestmark = pytest.mark.usefixtures("x64")


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


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
@pytest.mark.parametrize(("make", "order"), [(dpmpp_2m, 2), (dpmpp_3m, 3)])
def test_a_step_of_a_multistep_solver_is_of_its_order(process, make, order, key):
    """With a history that is exact, at unequal steps, the error of one step goes as h^(order + 1). (Of a whole run the first
    step, DDIM's, is order 2 alone.)
    """
    denoise, x, solver = exact_denoiser(process), jnp.array([-1.5, 0.1, 2.0]), make(process)
    middle, errors = process.logsnr(0.45), []
    for h in (0.2, 0.1):
        t2, t1, t, s = (process.time(middle + h * k) for k in (-2.5, -1.2, 0.0, 1.0))
        states = [flow(process, x, 0.45, each) for each in (t2, t1)]
        carry = solver.init(x)
        for state, begin, end in zip(states, (t2, t1), (t1, t), strict=True):
            _, carry = solver.step(denoise, state, carry, begin, end, key)
        solved, _ = solver.step(denoise, x, carry, t, s, key)
        errors.append(jnp.max(jnp.abs(solved - flow(process, x, t, s))))
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order + 1, abs=0.3)


@pytest.mark.parametrize(("make", "order"), ODE_SOLVERS.values(), ids=ODE_SOLVERS)
@pytest.mark.parametrize("kind", slow_but(["x0", "v"], "v"))
def test_order_of_convergence_from_pure_noise(make, order, kind, key):
    """alpha(1) = 0 takes nothing away: the same orders as everywhere, for what a network may predict there."""
    exact, x = exact_denoiser(NOISE), jnp.array([-1.5, 0.1, 2.0])
    net = lambda x, t: convert(NOISE, "x0", kind, exact(x, t), x, t)
    errors = []
    for steps in (40, 80, 160):
        solved = sample(make(NOISE), denoiser(NOISE, kind, net), x, uniform(steps, 1.0, 0.1), key)
        errors.append(jnp.max(jnp.abs(solved - flow(NOISE, x, 1.0, 0.1))))
    measured = np.log2(np.array(errors[:-1]) / np.array(errors[1:]))
    assert measured[-1] > order - 0.25 and errors[-1] < 0.01


@pytest.mark.parametrize(
    "name", slow_but(sorted(set(ALL_SOLVERS) - {"euler_maruyama"}), "ddim", "heun", "dpmpp_2m")
)
def test_pure_noise_is_the_limit_of_little_signal(name, key):
    """alpha_min -> 0 on a coarse grid from t = 1 down to the image: the samples converge to those of alpha_min = 0."""
    x = jax.random.normal(key, (50,))
    run = lambda p: sample(ALL_SOLVERS[name](p), exact_denoiser(p), x, uniform(7), key)
    with jax.disable_jit():
        limit, *near = (run(Cosine(alpha_min=a)) for a in (0.0, 1e-4, 1e-8))
    distances = [float(jnp.max(jnp.abs(x - limit))) for x in near]
    # The second step of a multistep solver goes by h of the first, which grows as the logarithm of 1/alpha_min only.
    remembers = name in ("dpmpp_2m", "dpmpp_2m_sde", "dpmpp_3m", "unipc")
    assert distances[0] < 1e-2 and distances[1] < (0.55 * distances[0] if remembers else 2e-7)


def test_heun_is_better_than_euler_where_the_noise_falls_steeply(key):
    """Equation (4) alone would be off by 9 here, where Euler's step (DDIM) is by 0.15: rho falls from 20,000 to 6 at once."""
    process, x = Cosine(), jnp.array([-1.5, 0.1, 2.0])
    error = lambda make: jnp.max(
        jnp.abs(
            sample(make(process), exact_denoiser(process), x, uniform(10), key) - flow(process, x, 1.0, 0.0)
        )
    )
    assert error(heun) < 0.3 * error(ddim)


TABLE = {1.0: (0.1, 2.0), 0.6: (0.5, 1.0), 0.5: (0.8, 0.5), 0.1: (1.0, 0.2)}


class Tabled(Process):
    """alpha and sigma given as numbers, so that a step can be computed by hand."""

    def alpha(self, t):
        return jnp.asarray(TABLE[float(t)][0])

    def sigma(self, t):
        return jnp.asarray(TABLE[float(t)][1])


def test_dpmpp_2m_by_hand_at_unequal_steps(key):
    """Three steps of Lu et al.'s algorithm 2 (data prediction, their equations for D_i), written out in numbers."""
    solver, x0_hats = dpmpp_2m(Tabled()), {1.0: 0.3, 0.6: -0.2, 0.5: 0.7}
    x, carry = jnp.array(1.5), solver.init(jnp.array(1.5))
    states = []
    for t, s in itertools.pairwise(TABLE):
        x, carry = solver.step(lambda x, t: jnp.asarray(x0_hats[float(t)]), x, carry, t, s, key)
        states.append(float(x))
    # lambda = log(alpha / sigma): -2.99573, -0.69315, 0.47000, 1.60944
    h1, h2, h3 = 2.3025851, 1.1631508, 1.1394343
    first = 1.0 / 2.0 * 1.5 - 0.5 * (np.exp(-h1) - 1) * 0.3
    d2 = -0.2 + h2 / (2 * h1) * (-0.2 - 0.3)
    second = 0.5 / 1.0 * first - 0.8 * (np.exp(-h2) - 1) * d2
    d3 = 0.7 + h3 / (2 * h2) * (0.7 + 0.2)
    third = 0.2 / 0.5 * second - 1.0 * (np.exp(-h3) - 1) * d3
    np.testing.assert_allclose(states, [first, second, third], rtol=1e-6)


def test_heun_by_hand(key):
    """One step in rho (equation 4) and one in 1/rho (equation 5), where rho falls from 20 to 2 under much noise."""
    solver, x0_hats = heun(Tabled()), {1.0: 0.3, 0.6: -0.2, 0.5: 0.7, 0.1: 0.4}
    step = lambda x, t, s: float(
        solver.step(lambda x, t: jnp.asarray(x0_hats[float(t)]), jnp.asarray(x), (), t, s, key)[0]
    )
    noise = (1.5 - 0.8 * 0.7) / 0.5
    euler = 1.0 * 0.7 + 0.2 * noise
    noise_s = (euler - 1.0 * 0.4) / 0.2
    rho_t, rho_s = 0.5 / 0.8, 0.2 / 1.0
    karras = 1.0 * (1.5 / 0.8 + (rho_s - rho_t) * (noise + noise_s) / 2)
    assert step(1.5, 0.5, 0.1) == pytest.approx(karras, rel=1e-12)
    inverse = 1.0 * (1.5 / 2.0 + (0.5 / 1.0 - 0.1 / 2.0) * (0.3 - 0.2) / 2)
    assert step(1.5, 1.0, 0.6) == pytest.approx(inverse, rel=1e-12)


@pytest.mark.parametrize("process", [VP(), linear()], ids=["vp", "linear"])
@pytest.mark.parametrize(("t", "s"), [(0.9, 0.2), (0.5, 0.45), (0.3, 0.001)])
def test_ancestral_noise_at_unequal_steps(process, t, s):
    """Both variances from the forward process: beta = 1 - alpha_t^2/alpha_s^2, and beta sigma_s^2/sigma_t^2."""
    keys, shape = (jax.random.key(1), jax.random.key(2)), (4,)
    z = [jax.random.normal(key, shape) for key in keys]
    denoise = lambda x, t: 0.1 * x
    beta = 1.0 - (process.alpha(t) / process.alpha(s)) ** 2
    wanted = {
        ddpm(process, "upper"): beta,
        ddpm(process): beta * process.sigma(s) ** 2 / process.sigma(t) ** 2,
        ddim(process, 0.3): 0.09 * beta * process.sigma(s) ** 2 / process.sigma(t) ** 2,
    }
    for solver, variance_ in wanted.items():
        one, two = (solver.step(denoise, jnp.ones(shape), (), t, s, key)[0] for key in keys)
        np.testing.assert_allclose((one - two) / (z[0] - z[1]), np.sqrt(variance_), rtol=1e-7)


def test_noise_removal_makes_the_last_step_the_mean(key):
    """x - (f x - g^2 score) dt with beta = 0.1 + 19.9 t; noise g sqrt(dt) z on every other step, and on all by default."""
    vp, x = VP(), jnp.array([0.4, -0.7])
    plain, removing = euler_maruyama(vp), euler_maruyama(vp, noise_removal=True)
    step = lambda solver, t, s: solver.step(exact_denoiser(vp), x, (), t, s, key)[0]
    t, beta = 0.02, 0.1 + 19.9 * 0.02
    score = -(x - vp.alpha(t) * MEAN) / variance(vp, t)
    mean = x + (0.5 * beta * x + beta * score) * t
    np.testing.assert_allclose(step(removing, t, 0.0), mean, rtol=1e-9)
    z = jax.random.normal(key, x.shape)
    np.testing.assert_allclose(step(plain, t, 0.0), mean + np.sqrt(beta * t) * z, rtol=1e-9)
    np.testing.assert_array_equal(step(removing, t, 0.001), step(plain, t, 0.001))


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
        denoise = lambda x, t: (x - process.sigma(t) * eps) / process.alpha(t)
        mean = (x - betas[index] / np.sqrt(1 - alpha_bar[index]) * eps) / np.sqrt(1 - betas[index])
        drawn = solver.step(denoise, x, (), t, s, key)[0]
        noise = np.sqrt(betas[index]) * jax.random.normal(key, (4,)) if index else 0.0
        np.testing.assert_allclose(drawn, mean + noise, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(
    ("make", "first"), [(dpmpp_2m, ddim), (dpmpp_3m, ddim), (unipc, ddim), (dpmpp_2m_sde, ddpm)]
)
def test_the_first_step_of_a_multistep_solver(make, first, key):
    vp, x = VP(), jax.random.normal(key, (7,))
    step = lambda solver: solver.step(exact_denoiser(vp), x, solver.init(x), 0.8, 0.3, key)[0]
    np.testing.assert_allclose(step(make(vp)), step(first(vp)), rtol=1e-10)


def test_ddim_eta_one_is_ddpm(key):
    vp = VP()
    x = jax.random.normal(key, (7,))
    run = lambda solver: sample(solver, exact_denoiser(vp), x, uniform(10), key)
    np.testing.assert_allclose(run(ddim(vp, 1.0)), run(ddpm(vp)), rtol=1e-12)


@pytest.mark.parametrize("make", ALL_SOLVERS.values(), ids=ALL_SOLVERS)
def test_float32_down_to_zero_is_finite_with_finite_gradients(make, key):
    with jax.enable_x64(False):
        vp = VP()
        x = jax.random.normal(key, (6,), jnp.float32)
        run = lambda x: jnp.sum(sample(make(vp), exact_denoiser(vp), x, uniform(20), key))
        value, gradient = jax.value_and_grad(run)(x)
        assert value.dtype == jnp.float32
        assert jnp.isfinite(value) and jnp.all(jnp.isfinite(gradient)) and jnp.all(gradient > 0)
