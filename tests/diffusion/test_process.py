"""Processes: marginals, coefficients of the SDE, published tables."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.diffusion import VP, Cosine, Discrete, linear
from jaxdiff.diffusion.process import Process

pytestmark = pytest.mark.usefixtures("x64")

PROCESSES = {
    "vp": VP(),
    "cosine": Cosine(),
    "linear": linear(),
    "short": Discrete((0.1, 0.2, 0.4)),
}
TIMES = [1.23e-3, 0.1234, 0.5004, 0.7705, 0.9992]  # between the steps of every table


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
@pytest.mark.parametrize("t", TIMES)
def test_sde_has_the_marginals(process, t):
    """d/dt of mean and variance of dx = f x dt + g dw are f alpha and 2 f sigma^2 + g^2."""
    h = 1e-6
    slope = lambda fn: (fn(t + h) - fn(t - h)) / (2 * h)  # noqa: E731
    np.testing.assert_allclose(slope(process.alpha), process.f(t) * process.alpha(t), rtol=1e-5, atol=1e-8)
    growth = 2 * process.f(t) * process.sigma(t) ** 2 + process.g2(t)
    np.testing.assert_allclose(slope(lambda t: process.sigma(t) ** 2), growth, rtol=1e-5, atol=1e-7)
    assert process.g2(t) > 0


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
def test_runs_from_image_to_noise(process):
    ts = jnp.linspace(0, 1, 101)
    alpha, sigma = jax.vmap(process.alpha)(ts), jax.vmap(process.sigma)(ts)
    np.testing.assert_allclose(alpha**2 + sigma**2, 1.0, rtol=1e-12)
    assert alpha[0] == 1.0 and sigma[0] == 0.0
    assert np.all(np.diff(alpha) < 0) and np.all(np.diff(sigma) >= 0)
    assert np.all(np.diff(jax.vmap(process.logsnr)(ts)) < 0)


def test_derived_coefficients_equal_the_closed_forms():
    """The general formulas (2) and (3) agree with the variance-preserving shortcut."""
    for t in TIMES:
        for process in (VP(), Cosine()):
            np.testing.assert_allclose(Process.f(process, t), process.f(t), rtol=1e-9)
            np.testing.assert_allclose(Process.g2(process, t), process.g2(t), rtol=1e-7)
        np.testing.assert_allclose(VP().g2(t), 0.1 + 19.9 * t, rtol=1e-12)  # g^2 = beta(t)


def test_published_numbers():
    """Values of public implementations: DDPM's table, Score-SDE's VP, DiffPure's t* = 0.075, 0.1, 0.125."""
    ddpm, vp = linear(), VP()
    np.testing.assert_allclose(ddpm.alpha(1.0) ** 2, 4.0358e-5, rtol=1e-4)
    for t, alpha_bar in ((0.075, 0.9391), (0.1, 0.8970), (0.125, 0.8462)):
        np.testing.assert_allclose(ddpm.alpha(t) ** 2, alpha_bar, atol=5e-5)
    np.testing.assert_allclose(ddpm.sigma(1e-3) / ddpm.alpha(1e-3), 0.0100005, rtol=1e-5)
    np.testing.assert_allclose(ddpm.sigma(1.0) / ddpm.alpha(1.0), 157.407, rtol=1e-5)
    np.testing.assert_allclose(vp.alpha(1.0), 0.006572, rtol=1e-3)
    np.testing.assert_allclose(vp.sigma(1e-3), 0.010486, rtol=1e-3)


def test_discrete_follows_its_table():
    betas = np.linspace(1e-4, 0.02, 1000)
    alpha_bar = np.cumprod(1.0 - betas)
    ours = jax.vmap(linear().alpha)(jnp.arange(1, 1001) / 1000) ** 2
    np.testing.assert_allclose(ours, alpha_bar, rtol=1e-10)


def test_cosine_is_the_paper_s():
    t = np.linspace(0.0, 0.99, 34)
    level = lambda t: np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2  # noqa: E731
    ours = jax.vmap(Cosine(alpha_min=0.0).alpha)(jnp.asarray(t)) ** 2
    np.testing.assert_allclose(ours, level(t) / level(0.0), rtol=1e-10)


@pytest.mark.parametrize("process", [VP(), Cosine(), linear()], ids=["vp", "cosine", "linear"])
def test_float32_is_accurate_where_noise_is_small(process):
    exact = process.sigma(np.float64(2e-3))
    with jax.enable_x64(False):
        np.testing.assert_allclose(process.sigma(np.float32(2e-3)), exact, rtol=1e-5)


@pytest.mark.parametrize(
    "make", [lambda: VP(beta_min=0.0), lambda: Cosine(offset=-1.0), lambda: Discrete((0.5, 1.5))]
)
def test_bad_arguments(make):
    with pytest.raises(ValueError, match="needs"):
        make()
