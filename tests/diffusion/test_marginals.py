"""Mean and variance of what stochastic solvers draw, exactly, on Gaussian data."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gaussians import MEAN, STD, exact_denoiser, variance
from rows import slow_but
from solver_rows import ALL_SOLVERS, NOISE, PROCESSES, SDE_SOLVERS

from jaxdiff.diffusion import (
    VP,
    Discrete,
    sample,
)
from jaxdiff.diffusion.grids import logsnr, uniform

pytestmark = pytest.mark.usefixtures("x64")


def _law(process, make, ts):
    """Exact mean and variance of a stochastic solver's output on Gaussian data.

    Every step is affine: x_s = a x_t + b + c z, with z = normal(key, shape) by the solvers' contract; a, b, c are read off
    from three calls, and the recursions of mean and variance follow.
    """
    solver, denoise = make(process), exact_denoiser(process)
    mean, var = process.alpha(ts[0]) * MEAN, variance(process, ts[0])
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


MARGINALS = list(itertools.product(PROCESSES, SDE_SOLVERS))
# Every solver once.
QUICK_MARGINALS = [
    ("vp", "ddpm"),
    ("cosine", "ddpm_upper"),
    ("vp", "ddim_eta1"),
    ("cosine", "ddim_eta0.5"),
    ("vp", "euler_maruyama"),
    ("edm", "reverse_diffusion"),
    ("vp", "dpmpp_2m_sde"),
]


@pytest.mark.parametrize(("process", "name"), slow_but(MARGINALS, *QUICK_MARGINALS))
def test_stochastic_marginals_converge_with_order_one(process, name):
    process, make, start, end = PROCESSES[process], SDE_SOLVERS[name], 0.8, 0.1
    errors = []
    for steps in (40, 80):
        mean, var = _law(process, make, logsnr(process, steps, start, end))
        errors.append([abs(mean - process.alpha(end) * MEAN), abs(var - variance(process, end))])
    errors = np.array(errors)
    assert np.all(errors[1] < 0.06 * max(0.5, variance(process, end)))
    assert np.log2(errors[0][1] / errors[1][1]) > 0.75
    assert errors[1][0] < 1e-9 or np.log2(errors[0][0] / errors[1][0]) > 0.7


FROM_NOISE = {"cosine": NOISE, "table": Discrete((0.1, 0.2, 0.4, 1.0))}
WITHOUT_DRIFT = sorted(set(SDE_SOLVERS) - {"euler_maruyama", "reverse_diffusion"})


@pytest.mark.parametrize(
    ("process", "name"),
    slow_but(
        itertools.product(FROM_NOISE, WITHOUT_DRIFT),
        *(("cosine", name) for name in WITHOUT_DRIFT),
        ("table", "ddpm"),
    ),
)
def test_stochastic_marginals_from_pure_noise(process, name):
    """From N(0, 1) at t = 1 exactly, where alpha = 0, mean and variance come out as those of the data at the end."""
    process, end = FROM_NOISE[process], 0.1
    mean, var = _law(process, SDE_SOLVERS[name], uniform(80, 1.0, end))
    np.testing.assert_allclose(mean, process.alpha(end) * MEAN, atol=1e-9)
    np.testing.assert_allclose(var, variance(process, end), atol=0.03)


@pytest.mark.parametrize("name", slow_but(ALL_SOLVERS, "ddim", "heun", "dpmpp_2m", "euler_maruyama"))
def test_samples_follow_the_data(name, key):
    """From pure noise to t = 0, 20,000 independent pixels have the mean and the standard deviation of the data."""
    vp = VP()
    x = jax.random.normal(key, (20_000,))
    solved = sample(ALL_SOLVERS[name](vp), exact_denoiser(vp), x, uniform(400), jax.random.key(1))
    assert jnp.mean(solved) == pytest.approx(MEAN, abs=5 * STD / 20_000**0.5 + 0.005)
    assert jnp.std(solved) == pytest.approx(STD, abs=0.03)
