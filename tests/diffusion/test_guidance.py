"""Guided denoisers against tilted densities of Gaussian mixtures, for which all is known; and what is known stays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from rows import slow_but

from jaxdiff.diffusion import (
    EDM,
    VP,
    Cosine,
    RectifiedFlow,
    conditions,
    ddim,
    ddpm,
    grids,
    guidance,
    heun,
    sample,
    score,
)

pytestmark = pytest.mark.usefixtures("x64")

PROCESSES = {"vp": VP(), "cosine": Cosine(), "edm": EDM(), "flow": RectifiedFlow()}
MEANS, STDS, SHARES = np.array([[-0.8, 0.2], [0.5, 0.6]]), np.array([0.3, 0.5]), np.array([0.3, 0.7])


def log_joint(process, x, t, y):
    """log of share_y N(x; alpha mean_y, alpha^2 std_y^2 + sigma^2)."""
    v = process.alpha(t) ** 2 * STDS[y] ** 2 + process.sigma(t) ** 2
    square = jnp.sum((x - process.alpha(t) * MEANS[y]) ** 2)
    return jnp.log(SHARES[y]) - 0.5 * square / v - 0.5 * x.size * jnp.log(2 * jnp.pi * v)


def log_density(process, x, t):
    return jax.scipy.special.logsumexp(jnp.stack([log_joint(process, x, t, y) for y in range(2)]))


def tweedie(process, log_p):
    """The denoiser of a density."""
    gradient = jax.grad(log_p)
    return lambda x, t: (x + process.sigma(t) ** 2 * gradient(x, t)) / process.alpha(t)


def conditional(process, y):
    return tweedie(process, lambda x, t: log_joint(process, x, t, y))


def unconditional(process):
    return tweedie(process, lambda x, t: log_density(process, x, t))


@pytest.fixture
def x():
    return jnp.array([0.4, -0.7])


GUIDED = {
    "classifier-free": lambda p, s: guidance.classifier_free(conditional(p, 1), unconditional(p), s),
    "classifier": lambda p, s: guidance.classifier(
        p, unconditional(p), lambda x, t: log_joint(p, x, t, 1) - log_density(p, x, t), s
    ),
}


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
@pytest.mark.parametrize("name", GUIDED)
@pytest.mark.parametrize("scale", [0.0, 1.0, 3.5])
def test_the_guided_score_is_that_of_the_tilted_density_at_every_level(name, process, scale, x):
    """grad [log p(x) + s (log p(x, y) - log p(x))]."""
    for t in (0.02, 0.3, 0.9):
        tilted = lambda x, t=t: (1 - scale) * log_density(process, x, t) + scale * log_joint(process, x, t, 1)
        ours = score(process, GUIDED[name](process, scale))(x, t)
        np.testing.assert_allclose(ours, jax.grad(tilted)(x), rtol=1e-7, atol=1e-9)


def test_scale_one_is_the_conditional_and_the_papers_w_is_one_less(x):
    vp, t = VP(), 0.4
    c, u = conditional(vp, 1)(x, t), unconditional(vp)(x, t)
    for w in (0.0, 0.5, 4.0):
        ours = guidance.classifier_free(conditional(vp, 1), unconditional(vp), 1.0 + w)(x, t)
        np.testing.assert_allclose(ours, (1 + w) * c - w * u, rtol=1e-12)


def test_autoguidance_leads_away_from_the_worse(x):
    better, worse = (lambda x, t: x + 1.0), (lambda x, t: x - 1.0)
    np.testing.assert_allclose(guidance.autoguidance(better, worse, 2.0)(x, 0.5), x + 3.0)


def test_within_its_interval_alone(x):
    guided = guidance.within(lambda x, t: 0 * x, lambda x, t: 0 * x + 1.0, 0.7, 0.3)
    seen = [float(guided(x, t)[0]) for t in (0.9, 0.7, 0.5, 0.3, 0.1)]
    assert seen == [0.0, 1.0, 1.0, 1.0, 0.0]


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
def test_measurement_guidance_is_exact_for_gaussian_data(process):
    """x0 ~ N(m, v I), y = A x0 + noise of variance 0.04, A a row: the posterior of x_t is Gaussian, its score known."""
    m, v, noise, a, y = 0.3, 0.25, 0.04, jnp.array([0.6, -0.8, 0.0]), 0.9
    whole = lambda t: process.alpha(t) ** 2 * v + process.sigma(t) ** 2
    denoise = lambda x, t: m + process.alpha(t) * v / whole(t) * (x - process.alpha(t) * m)
    left = lambda t: noise + v * process.sigma(t) ** 2 / whole(t)  # |a| = 1
    guided = guidance.measurement(process, denoise, lambda x0: a @ x0, y, left)
    x = jnp.array([0.1, -0.4, 0.8])
    covariance = lambda t: whole(t) * jnp.eye(3) - (process.alpha(t) * v) ** 2 / (v + noise) * jnp.outer(a, a)
    mean = lambda t: process.alpha(t) * (m + v / (v + noise) * a * (y - m * a.sum()))
    for t in (0.05, 0.4, 0.9):
        exact = -jnp.linalg.solve(covariance(t), x - mean(t))
        np.testing.assert_allclose(score(process, guided)(x, t), exact, rtol=1e-8)


KNOWN, MASK = np.array([0.9, 0.0, -0.2, 0.0]), np.array([True, False, True, False])


@pytest.mark.parametrize("make", [ddim, ddpm, heun])
def test_known_pixels_are_untouched(make, key):
    """By replacement in the denoiser, and by RePaint, with any solver; what is not known is drawn."""
    vp = VP()
    denoise = lambda x, t: 0.5 * jnp.tanh(x)
    runs = {
        "inpainted": (make(vp), guidance.inpainted(denoise, KNOWN, MASK)),
        "repaint": (guidance.repaint(vp, make(vp), KNOWN, MASK, repeats=3), denoise),
    }
    for solver, denoiser in runs.values():
        one, two = (
            sample(solver, denoiser, jax.random.normal(k, (4,)), grids.uniform(8), k)
            for k in jax.random.split(key)
        )
        np.testing.assert_allclose(one[MASK], KNOWN[MASK], rtol=1e-12)
        assert np.all(np.abs(one - two)[~MASK] > 1e-3)


def test_a_step_of_repaint_by_hand(key):
    """Down to s, known pixels noised to s; up by x_t = (alpha_t/alpha_s) x_s + b z with the forward chain's b; down again."""
    vp, t, s, denoise = VP(), 0.6, 0.5, (lambda x, t: 0.5 * jnp.tanh(x))
    x, down = jax.random.normal(key, (4,)), lambda x: ddim(vp).step(denoise, x, (), t, s, key)[0]
    noise = lambda k: jax.random.normal(k, (4,))

    def replaced(x, k):
        step = jax.random.fold_in(k, 0)
        known = vp.alpha(s) * KNOWN + vp.sigma(s) * noise(jax.random.split(step)[1])
        return jnp.where(MASK, known, down(x))

    ratio = vp.alpha(t) / vp.alpha(s)
    first, last = jax.random.split(key)
    one, up = jax.random.split(jax.random.split(first, 1)[0])
    again = ratio * replaced(x, one) + jnp.sqrt(vp.sigma(t) ** 2 - ratio**2 * vp.sigma(s) ** 2) * noise(up)
    ours, _ = guidance.repaint(vp, ddim(vp), KNOWN, MASK, repeats=2).step(denoise, x, (), t, s, key)
    np.testing.assert_allclose(ours, replaced(again, last), rtol=1e-9)


@pytest.mark.parametrize("repeats", slow_but([1, 10], 10))
def test_repaint_draws_what_goes_with_what_is_known(repeats, key):
    """Two pixels of correlation 0.95: the unknown one has mean 0.95 times the known, by repeats more nearly than without."""
    vp, rho, n = VP(), 0.95, 400
    prior = jnp.array([[1.0, rho], [rho, 1.0]])

    def denoise(x, t):
        a2, s2 = vp.alpha(t) ** 2, vp.sigma(t) ** 2
        return vp.alpha(t) * prior @ jnp.linalg.solve(a2 * prior + s2 * jnp.eye(2), x)

    solver = guidance.repaint(vp, ddpm(vp), jnp.array([1.0, 0.0]), jnp.array([True, False]), repeats)
    run = lambda k: sample(
        solver, denoise, jax.random.normal(k, (2,)), grids.uniform(60), jax.random.fold_in(k, 1)
    )
    drawn = jax.vmap(run)(jax.random.split(key, n))[:, 1]
    assert jnp.mean(drawn) == pytest.approx(0.95, abs=0.06 if repeats > 1 else 0.3)
    if repeats > 1:
        assert jnp.std(drawn) == pytest.approx((1 - rho**2) ** 0.5, rel=0.25)


def test_thresholding_by_hand():
    x0 = jnp.array([-4.0, 0.5, 1.0, 2.0])
    says = lambda value: guidance.thresholded(lambda x, t: value, quantile=2 / 3)(x0, 0.5)
    np.testing.assert_allclose(says(x0), [-1.0, 0.25, 0.5, 1.0])  # two thirds of |x0| are at most 2
    np.testing.assert_allclose(says(x0 / 10), x0 / 10)  # what is within [-1, 1] is left


@pytest.mark.parametrize("name", ["classifier-free", "classifier"])
def test_gradients_pass_through_guidance(name, x, key):
    vp = VP()
    run = lambda x: sample(ddim(vp), GUIDED[name](vp, 2.0), x, grids.uniform(5, 0.8, 0.05), key)
    check_grads(run, (x,), order=1, modes="rev", rtol=1e-5)


class Told:
    """A network that can be told a class: `asked` says what it has been."""

    def __init__(self, process):
        self.process, self.asked = process, []

    def given(self, y):
        self.asked.append(y)
        return conditional(self.process, y) if y >= 0 else unconditional(self.process)


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.5])
def test_the_denoiser_of_a_class_is_guided_away_from_none(scale, x):
    told, process = Told(VP()), VP()
    found = guidance.of_class(told, 1, scale)(x, 0.4)
    expected = guidance.classifier_free(conditional(process, 1), unconditional(process), scale)(x, 0.4)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert told.asked == ([1] if scale == 1.0 else [1, conditions.NO_CLASS])
