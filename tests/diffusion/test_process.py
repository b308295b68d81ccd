"""Processes: marginals, coefficients of the SDE, published tables."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rows import slow_but

from jaxdiff.diffusion import (
    EDM,
    VE,
    VP,
    Cosine,
    Discrete,
    Levels,
    RectifiedFlow,
    SubVP,
    cosine_table,
    geometric,
    linear,
    quadratic,
    sigmoid,
)
from jaxdiff.diffusion.process import Process

pytestmark = pytest.mark.usefixtures("x64")

PRESERVING = {
    "vp": VP(),
    "cosine": Cosine(),
    "linear": linear(),
    "quadratic": quadratic(),
    "sigmoid": sigmoid(),
    "cosine_table": cosine_table(),
    "short": Discrete((0.1, 0.2, 0.4)),
}
TO_NOISE = {"cosine_to_noise": Cosine(alpha_min=0.0), "short_to_noise": Discrete((0.1, 0.2, 0.4, 1.0))}
PRESERVING |= TO_NOISE
EXPLODING = {"ve": VE(), "edm": EDM(), "ncsn": geometric(), "two levels": Levels((0.1, 0.7))}
PROCESSES = PRESERVING | EXPLODING | {"sub_vp": SubVP(), "flow": RectifiedFlow()}
TIMES = [1.23e-3, 0.1234, 0.5004, 0.7705, 0.9992]  # between the steps of every table


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
@pytest.mark.parametrize("t", TIMES)
def test_sde_has_the_marginals(process, t):
    """d/dt of mean and variance of dx = f x dt + g dw are f alpha and 2 f sigma^2 + g^2."""
    h = 1e-6
    slope = lambda fn: (fn(t + h) - fn(t - h)) / (2 * h)
    np.testing.assert_allclose(slope(process.alpha), process.f(t) * process.alpha(t), rtol=1e-5, atol=1e-8)
    growth = 2 * process.f(t) * process.sigma(t) ** 2 + process.g2(t)
    np.testing.assert_allclose(slope(lambda t: process.sigma(t) ** 2), growth, rtol=1e-5, atol=1e-7)
    assert process.g2(t) > 0


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
def test_runs_from_image_to_noise(process):
    ts = jnp.linspace(0, 1, 101)
    alpha, sigma = jax.vmap(process.alpha)(ts), jax.vmap(process.sigma)(ts)
    assert alpha[0] == 1.0 and sigma[0] == (0.01 if isinstance(process, VE) else 0.0)
    assert np.all(np.diff(alpha) <= 0) and np.all(np.diff(sigma) >= 0)
    assert np.all(np.diff(jax.vmap(process.logsnr)(ts)) < 0)


@pytest.mark.parametrize("process", PRESERVING.values(), ids=PRESERVING)
def test_variance_is_preserved(process):
    ts = jnp.linspace(0, 1, 101)
    alpha, sigma = jax.vmap(process.alpha)(ts), jax.vmap(process.sigma)(ts)
    np.testing.assert_allclose(alpha**2 + sigma**2, 1.0, rtol=1e-12)
    assert np.all(np.diff(alpha) < 0)


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
@pytest.mark.parametrize("wide", slow_but([False, True], True))
def test_the_time_of_a_ratio_is_where_the_process_has_it(process, wide):
    """Also by halving, as a process without a closed form has it; beyond the ends it is the end."""
    with jax.enable_x64(wide):
        ts = jnp.array([0.0, *TIMES, 1.0])
        levels = jax.vmap(process.logsnr)(ts)
        for found in (
            jax.vmap(process.time)(levels),
            jax.vmap(lambda level: Process._time(process, level))(levels[1:-1]),
        ):
            there = ts if len(found) == len(ts) else ts[1:-1]
            np.testing.assert_allclose(
                found, there, rtol=1e-9 if wide else 2e-4, atol=1e-12 if wide else 1e-7
            )
        ends = jax.vmap(process.time)(jnp.array([jnp.inf, -jnp.inf, 1e4, -1e4]))
        np.testing.assert_array_equal(ends[:2], [0.0, 1.0])
        np.testing.assert_allclose(ends[2:], [0.0, 1.0], atol=1e-6)  # where the ends are infinite, near them


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
def test_the_slope_of_the_time_is_that_of_the_ratio_upside_down(process):
    for t in TIMES[1:3]:
        level, slope = process.logsnr(t), jax.grad(process.logsnr)(t)
        np.testing.assert_allclose(jax.grad(process.time)(level) * slope, 1.0, rtol=1e-6)
        np.testing.assert_allclose(
            jax.grad(lambda v: Process._time(process, v))(level) * slope, 1.0, rtol=1e-9
        )


@pytest.mark.parametrize("process", TO_NOISE.values(), ids=TO_NOISE)
@pytest.mark.parametrize("wide", [False, True])
def test_pure_noise_is_exact_and_what_is_infinite_there_is_no_nan(process, wide):
    with jax.enable_x64(wide):
        quantities = process.alpha, process.sigma, process.logsnr, process.f, process.g2
        np.testing.assert_array_equal([q(1.0) for q in quantities], [0.0, 1.0, -np.inf, -np.inf, np.inf])
        compiled = jax.jit(lambda t: [jax.vmap(q)(t) for q in quantities])(jnp.array([0.999, 1.0]))
        np.testing.assert_array_equal([q[1] for q in compiled], [0.0, 1.0, -np.inf, -np.inf, np.inf])
        assert all(jnp.isfinite(q[0]) for q in compiled)


def test_rescaled_table_ends_in_noise():
    """Lin et al. 2023, algorithm 1, by hand: sqrt(alpha_bar) is shifted so that its last is 0 and scaled to keep its first."""
    root = np.sqrt(np.cumprod(1 - np.linspace(1e-4, 0.02, 50)))
    root = (root - root[-1]) * root[0] / (root[0] - root[-1])
    alpha_bar = root**2
    process = Discrete(1 - alpha_bar / np.append(1.0, alpha_bar[:-1]))
    ours = jax.vmap(process.alpha)(jnp.arange(1, 51) / 50)
    np.testing.assert_allclose(ours, root, rtol=1e-10, atol=1e-15)
    # On the last step log alpha cannot be linear; alpha is.
    between = jax.vmap(process.alpha)((49 + jnp.array([0.25, 0.5])) / 50)
    np.testing.assert_allclose(between, [0.75 * root[48], 0.5 * root[48]], rtol=1e-10)


@pytest.mark.parametrize("alpha_min", [0.0, 1e-6])
def test_cosine_is_accurate_where_alpha_is_small(alpha_min):
    """In float32 too, relative to alpha itself, on which x0_hat of a predicted noise depends."""
    angle = lambda t: start + t * (np.arccos(alpha_min * np.cos(start)) - start)
    start = 0.5 * np.pi * 0.008 / 1.008
    t = np.array([0.4, 0.6, 0.99, 0.999, 0.9999], np.float32)
    exact = np.cos(angle(t.astype(np.float64))) / np.cos(start)
    with jax.enable_x64(False):
        ours = jax.vmap(Cosine(alpha_min=alpha_min).alpha)(jnp.asarray(t))
    np.testing.assert_allclose(ours, exact, rtol=2e-6, atol=1e-9)


def test_slope_of_cosine_where_its_formulas_meet():
    f = -0.5 * np.pi / 1.008 * np.tan(0.5 * np.pi * (0.5 + 0.008) / 1.008)
    np.testing.assert_allclose(Cosine(alpha_min=0.0).f(0.5), f, rtol=1e-12)


def test_equal_processes_are_equal():
    """As values: their hashes agree, so that a compiled function that takes one as a static argument is found again."""
    betas = np.linspace(1e-4, 0.02, 1000)
    tables = [linear(), Discrete(betas), Discrete(betas.tolist()), pickle.loads(pickle.dumps(linear()))]
    assert all(t == tables[0] and hash(t) == hash(tables[0]) for t in tables)
    assert Discrete(betas[:-1]) != tables[0] and Cosine() != Cosine(alpha_min=0.0)
    np.testing.assert_array_equal(tables[3].alpha(0.5), tables[0].alpha(0.5))


def test_derived_coefficients_equal_the_closed_forms():
    """The general formulas (2) and (3) agree with the variance-preserving shortcut."""
    for t in TIMES:
        for process in (VP(), Cosine(), SubVP(), VE(), EDM(), RectifiedFlow()):
            np.testing.assert_allclose(Process.f(process, t), process.f(t), rtol=1e-9)
            np.testing.assert_allclose(Process.g2(process, t), process.g2(t), rtol=1e-7)
            np.testing.assert_allclose(Process.logsnr(process, t), process.logsnr(t), rtol=1e-9, atol=1e-12)
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
    level = lambda t: np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2
    ours = jax.vmap(Cosine(alpha_min=0.0).alpha)(jnp.asarray(t)) ** 2
    np.testing.assert_allclose(ours, level(t) / level(0.0), rtol=1e-10)


@pytest.mark.parametrize("process", [VP(), Cosine(), linear()], ids=["vp", "cosine", "linear"])
def test_float32_is_accurate_where_noise_is_small(process):
    exact = process.sigma(np.float64(2e-3))
    with jax.enable_x64(False):
        np.testing.assert_allclose(process.sigma(np.float32(2e-3)), exact, rtol=1e-5)


def test_tables_by_hand():
    """Of three steps; sigmoid(-6), sigmoid(0), sigmoid(6) are 0.0024726, 0.5 and 0.9975274."""
    np.testing.assert_allclose(quadratic(3, 0.01, 0.09).betas, [0.01, 0.04, 0.09], rtol=1e-12)
    np.testing.assert_allclose(
        sigmoid(3, 0.1, 0.3).betas, [0.1 + 0.2 * s for s in (0.0024726, 0.5, 0.9975274)], rtol=1e-6
    )
    level = lambda t: np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2
    betas = [
        1 - level(1 / 4) / level(0),
        1 - level(2 / 4) / level(1 / 4),
        1 - level(3 / 4) / level(2 / 4),
        0.999,
    ]
    np.testing.assert_allclose(cosine_table(4).betas, betas, rtol=1e-12)


def test_levels_lie_on_their_steps_and_songs_variances_are_his():
    ours = jax.vmap(geometric(10).sigma)(jnp.arange(1, 11) / 10)
    np.testing.assert_allclose(ours, [0.01 * 100 ** (j / 9) for j in range(10)], rtol=1e-12)
    for t in TIMES:
        beta = 0.1 * t + 9.95 * t**2
        np.testing.assert_allclose(SubVP().sigma(t), 1 - np.exp(-beta), rtol=1e-12)
        np.testing.assert_allclose(SubVP().g2(t), (0.1 + 19.9 * t) * (1 - np.exp(-2 * beta)), rtol=1e-12)
        np.testing.assert_allclose(VE().sigma(t), 0.01 * 5000**t, rtol=1e-12)
        np.testing.assert_allclose(VE().g2(t), VE().sigma(t) ** 2 * 2 * np.log(5000), rtol=1e-9)


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
def test_the_forward_chain_leads_from_marginal_to_marginal(process):
    for t, s in ((0.9992, 0.5004), (0.5004, 0.4), (0.1234, 1.23e-3)):
        a, b = process.transition(t, s)
        np.testing.assert_allclose(a * process.alpha(s), process.alpha(t), rtol=1e-10)
        np.testing.assert_allclose(a**2 * process.sigma(s) ** 2 + b**2, process.sigma(t) ** 2, rtol=1e-9)
