"""Students: one step of theirs is two of the teacher's; a consistency model says the same along the flow."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gaussians import MEAN, STD, exact_denoiser, flow

from jaxdiff.diffusion import EDM, VP, Cosine, RectifiedFlow, convert, ddim, grids, renoised, sample
from jaxdiff.diffusion.students import consistency, consistent, of_grid, progressive

pytestmark = pytest.mark.usefixtures("x64")


@pytest.fixture
def x0():
    return 0.8 * jnp.sin(jnp.arange(12.0)).reshape(3, 4)


PROCESSES = {
    "vp": VP(),
    "cosine": Cosine(),
    "cosine to noise": Cosine(alpha_min=0.0),
    "flow": RectifiedFlow(),
}


@pytest.mark.parametrize("name", PROCESSES)
def test_one_step_of_the_student_goes_where_two_of_the_teacher_do(name, key, x0):
    """The loss is quadratic in what a network of kind x0 says: its minimum is read off its gradient at 0."""
    process, steps = PROCESSES[name], 4
    t, keys = jnp.array([1, 2, 4]) / steps, jax.random.split(key, 3)
    teacher = exact_denoiser(process)
    loss = progressive(process, "x0", teacher, steps, "truncated")
    seen = {}

    def total(said):
        def predict(x_t, t):
            seen["x_t"] = x_t
            return said

        return loss(predict, x0, t, keys).sum()

    slope, curvature = jax.grad(total)(0 * x0), jax.grad(total)(0 * x0 + 1.0) - jax.grad(total)(0 * x0)
    wanted = -slope / curvature
    np.testing.assert_allclose(total(wanted), 0.0, atol=1e-12)
    total(0 * x0)
    for x0_hat, x_t, time in zip(wanted, seen["x_t"], t, strict=True):
        one = sample(ddim(process), lambda x, _, x0_hat=x0_hat: x0_hat, x_t, [time, time - 1 / steps], key)
        ts = [time, time - 0.5 / steps, time - 1 / steps]
        np.testing.assert_allclose(one, sample(ddim(process), teacher, x_t, ts, key), atol=1e-9)
    snr = jnp.exp(jax.vmap(process.logsnr)(t))
    np.testing.assert_allclose(curvature[:, 0], 2 * jnp.maximum(snr, 1.0) / 4, rtol=1e-9)


EDM2 = EDM(2.0)
TS = grids.karras(EDM2, 6, sigma_min=0.01, sigma_max=2.0)
T_MIN = float(TS[-2])


def test_a_consistency_model_of_one_image_has_no_loss(key, x0):
    """It says that image wherever it looks; but for its first time, where it says what it sees."""
    kind = consistent(T_MIN)
    image = jnp.full((4, 4), 0.3)

    def predict(x_t, t):
        inner = jnp.maximum(t, T_MIN + 1e-9)
        x0_hat = lambda x, t: convert(EDM2, "x0", kind, jnp.full_like(x, 0.3), x, t)
        return jax.vmap(x0_hat)(x_t, inner)

    losses = consistency(EDM2, kind, TS)(predict, image, TS[:4], jax.random.split(key, 4))
    np.testing.assert_allclose(losses, 0.0, atol=1e-9)
    last = consistency(EDM2, kind, TS)(predict, image[:1], TS[4:5], jax.random.split(key, 1))
    noise = jax.random.normal(jax.random.split(key, 1)[0], (4,), x0.dtype)
    c, square = 0.00054 * 2.0, jnp.sum((0.01 * noise) ** 2)
    gap = float(2.0 * (TS[4] - TS[5]))
    np.testing.assert_allclose(last, [(jnp.sqrt(square + c**2) - c) / gap], rtol=1e-6)


def test_only_the_noisier_end_learns(key, x0):
    kind, keys = consistent(T_MIN), jax.random.split(key, 3)
    loss = lambda near, far: consistency(EDM2, kind, TS)(
        lambda x, t: jnp.where((t == TS[1])[:, None], far, near) * jnp.ones_like(x),
        x0,
        jnp.full(3, TS[1]),
        keys,
    ).sum()
    by_near, by_far = jax.grad(loss, (0, 1))(0.2, 0.3)
    assert by_near == 0.0 and abs(by_far) > 1e-3


def test_the_kind_is_the_image_itself_at_its_first_time(key):
    kind, t = consistent(T_MIN), T_MIN * (1 + 1e-6)
    x = jnp.array([0.3, -2.0])
    np.testing.assert_allclose(convert(EDM2, kind, "x0", jnp.array([5.0, -7.0]), x, t), x, atol=1e-6)


def test_a_step_of_a_consistency_model_has_the_marginals_of_the_process(key):
    """With the flow of Gaussian data for the model."""
    process, ts = VP(), jnp.array([1.0, 0.4, 0.2])
    end = 1e-4
    model = lambda x, t: flow(process, x, t, end) / process.alpha(end)
    v = process.alpha(1.0) ** 2 * STD**2 + process.sigma(1.0) ** 2

    def draw(key):
        start, solve = jax.random.split(key)
        x = process.alpha(1.0) * MEAN + jnp.sqrt(v) * jax.random.normal(start, (5,))
        return sample(renoised(process), model, x, ts, solve)

    x = jax.vmap(draw)(jax.random.split(key, 20_000)).ravel()
    expected = process.alpha(0.2) ** 2 * STD**2 + process.sigma(0.2) ** 2
    assert abs(x.mean() - process.alpha(0.2) * MEAN) < 4 * float(jnp.sqrt(expected / x.size))
    np.testing.assert_allclose(x.var(), expected, rtol=4 * (2 / x.size) ** 0.5)


def test_times_of_a_grid_come_by_their_intervals(key):
    t = of_grid(EDM2, TS, mean=-1.0, std=1.5)(jax.random.split(key, 20_000))
    from scipy.stats import norm

    log_sigma = np.log(2.0 * np.asarray(TS[:-1]))
    expected = -np.diff(norm.cdf((log_sigma + 1.0) / 1.5))
    found = np.array([float((t == at).mean()) for at in TS[:-2]])
    np.testing.assert_allclose(found, expected / expected.sum(), atol=4 * 0.5 / 20_000**0.5)
