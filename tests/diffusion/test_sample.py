"""The scan over time: rematerialisation, exact gradients, trajectories, regeneration, grids."""

import functools
import itertools
import pickle

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gaussians import MEAN, STD, exact_denoiser, variance
from rows import slow_but

from jaxdiff.diffusion import (
    EDM,
    VP,
    Cosine,
    ddim,
    ddpm,
    denoiser,
    dpmpp_2m,
    euler_maruyama,
    heun,
    linear,
    prior,
    regenerate,
    sample,
    time_label,
    trajectory,
)
from jaxdiff.diffusion.grids import karras, logsnr, respaced, uniform
from jaxdiff.diffusion.sample import REMATS

pytestmark = pytest.mark.usefixtures("x64")

VP_ = VP()


def _wavy(x, t):
    """A denoiser that is far from linear."""
    return jnp.tanh(2.0 * jnp.sin(3.0 * x) + t * jnp.roll(x, 1))


@pytest.mark.parametrize("steps", slow_but([1, 9, 11], 11))
@pytest.mark.parametrize("make", slow_but([ddpm, dpmpp_2m, heun], ddpm, dpmpp_2m))
def test_remat_changes_neither_values_nor_gradients(make, steps, key):
    x = jax.random.normal(key, (5,))
    run = lambda x, remat: jnp.sum(sample(make(VP_), _wavy, x, uniform(steps), key, remat) ** 2)
    plain, *others = (jax.value_and_grad(run)(x, remat) for remat in REMATS)
    for other in others:
        chex.assert_trees_all_close(other, plain, rtol=1e-12)


@pytest.mark.parametrize("remat", REMATS)
def test_gradient_is_exact(remat, key):
    """Reverse mode through a stochastic sampler equals finite differences with the same key."""
    x = jax.random.normal(key, (5,))
    defense = regenerate(VP_, euler_maruyama(VP_), _wavy, uniform(12, 0.3, 1e-3), remat)
    jax.test_util.check_grads(
        lambda x: defense(jnp.asarray(x), key), (x,), order=1, modes="rev", eps=1e-6, rtol=1e-6
    )


def test_regeneration_of_gaussian_data_has_the_known_jacobian(key):
    """Euler-Maruyama is affine there: the Jacobian is alpha(t*) times the product of 1 + dt (beta/2 - beta/v)."""
    ts = uniform(20, 0.1, 1e-3)
    defense = regenerate(VP_, euler_maruyama(VP_), exact_denoiser(VP_), ts, "sqrt")
    jacobian = jax.jacrev(lambda x: defense(x, key))(jnp.array([0.2, -1.0]))
    expected = VP_.alpha(ts[0])
    for t, s in itertools.pairwise(ts):
        beta = 0.1 + 19.9 * t
        expected *= 1 + (t - s) * beta * (0.5 - 1 / variance(VP_, t))
    np.testing.assert_allclose(jacobian, expected * np.eye(2), rtol=1e-9, atol=1e-12)


def test_regeneration_keeps_the_data_distribution(key):
    """Images that follow the data follow it after noise and denoising."""
    x = MEAN + STD * jax.random.normal(key, (20_000,))
    defense = regenerate(VP_, ddpm(VP_), exact_denoiser(VP_), uniform(100, 0.4))
    back = defense(x, jax.random.key(1))
    assert jnp.mean(back) == pytest.approx(MEAN, abs=0.02)
    assert jnp.std(back) == pytest.approx(STD, abs=0.02)
    # It is a defense: the copies forget where they came from as t* grows.
    forgotten = regenerate(VP_, ddpm(VP_), exact_denoiser(VP_), uniform(100, 1.0))(x, jax.random.key(1))
    assert abs(jnp.corrcoef(x, forgotten)[0, 1]) < 0.05 < jnp.corrcoef(x, back)[0, 1]


@pytest.mark.parametrize("make", [ddpm, dpmpp_2m])
def test_trajectory_ends_where_sample_does(make, key):
    x, ts = jax.random.normal(key, (5,)), uniform(7)
    states = trajectory(make(VP_), _wavy, x, ts, key)
    np.testing.assert_array_equal(states[0], x)
    np.testing.assert_allclose(states[-1], sample(make(VP_), _wavy, x, ts, key), rtol=1e-12)
    # A stochastic step depends on its own interval only: the way can be cut where it stands.
    half = sample(make(VP_), _wavy, x, ts[:4], key)
    np.testing.assert_allclose(states[3], half, rtol=1e-12)


def test_batches_are_vmap(key):
    x = jax.random.normal(key, (4, 5))
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(4))
    run = lambda x, key: sample(ddpm(VP_), _wavy, x, uniform(6), key)
    looped = jnp.stack([run(x[i], keys[i]) for i in range(4)])
    np.testing.assert_allclose(jax.vmap(run)(x, keys), looped, rtol=1e-12)


def test_no_retracing(key):
    traced = chex.assert_max_traces(lambda x, ts, k: sample(ddpm(VP_), _wavy, x, ts, k, "sqrt"), n=1)
    run = jax.jit(traced)
    for seed, start in (
        (0, 1.0),
        (1, 0.5),
    ):  # neither a new key nor another grid of the same length traces again
        run(jnp.ones(5), uniform(10, start), jax.random.key(seed))


def _gradient_memory(steps: int, remat: str, shape=(64, 64)) -> int:
    """Bytes of temporaries of the compiled gradient through `steps` steps."""
    weights = jnp.ones((shape[1], 512), jnp.float32)

    def denoise(x, t):  # its hidden state is 8 images wide
        return jnp.tanh(jnp.tanh(x @ weights) @ weights.T)

    def loss(x, ts):
        return jnp.sum(sample(ddpm(VP_), denoise, x, ts, jax.random.key(0), remat))

    with jax.enable_x64(False):
        arguments = jax.ShapeDtypeStruct(shape, jnp.float32), jax.ShapeDtypeStruct((steps + 1,), jnp.float32)
        return jax.jit(jax.grad(loss)).lower(*arguments).compile().memory_analysis().temp_size_in_bytes


@pytest.mark.slow
def test_memory_of_remat():
    """ "step" grows by at most one image a step, "sqrt" as the square root, "none" by the network's states."""
    image = 64 * 64 * 4
    few, many = 64, 256
    growth = {remat: _gradient_memory(many, remat) - _gradient_memory(few, remat) for remat in REMATS}
    assert growth["step"] <= 1.05 * (many - few) * image
    assert growth["sqrt"] <= 2.2 * (many**0.5 - few**0.5) * image
    assert growth["none"] > 5 * growth["step"]


@pytest.mark.parametrize(
    "make",
    [
        list,
        np.asarray,
        lambda ts: np.asarray(ts, np.float16),
        pytest.param(tuple, marks=pytest.mark.slow),
    ],
)
def test_grids_and_images_come_as_lists_or_numpy_too(make, key):
    x, ts = np.array([0.5, -1.0, 2.0]), [1.0, 0.5, 0.125, 0.0]
    for run in (sample, trajectory):
        expected = run(heun(VP_), _wavy, jnp.asarray(x), jnp.asarray(ts), key)
        np.testing.assert_array_equal(run(heun(VP_), _wavy, x, make(ts), key), expected)
    traced = jax.jit(lambda t: sample(heun(VP_), _wavy, x, [t, 0.5, 0.0], key))(1.0)
    np.testing.assert_allclose(traced, sample(heun(VP_), _wavy, x, [1.0, 0.5, 0.0], key), rtol=1e-6)
    defended = regenerate(VP_, heun(VP_), _wavy, make(ts))(x, key)
    np.testing.assert_array_equal(defended, regenerate(VP_, heun(VP_), _wavy, jnp.asarray(ts))(x, key))


def test_regeneration_is_noise_then_sampling(key):
    """By hand: alpha x + sigma noise with the first half of the key, the solver with the second."""
    x, ts = jnp.array([0.3, -0.8, 0.1]), uniform(5, 0.4)
    noise_key, solve_key = jax.random.split(key)
    alpha = np.exp(-0.5 * (0.1 * 0.4 + 9.95 * 0.16))
    noised = alpha * x + np.sqrt(1 - alpha**2) * jax.random.normal(noise_key, (3,))
    expected = sample(ddpm(VP_), _wavy, noised, ts, solve_key)
    np.testing.assert_allclose(regenerate(VP_, ddpm(VP_), _wavy, ts)(x, key), expected, rtol=1e-12)


def test_step_i_draws_from_fold_in_i(key):
    """Two steps by hand, so that step 1 has the noise of fold_in(key, 1) and nothing else."""
    x, ts, solver = jnp.array([0.3, -0.8]), jnp.array([0.7, 0.4, 0.3]), ddpm(VP_)
    for i in range(2):
        x = solver.step(_wavy, x, (), ts[i], ts[i + 1], jax.random.fold_in(key, i))[0]
    np.testing.assert_allclose(sample(solver, _wavy, jnp.array([0.3, -0.8]), ts, key), x, rtol=1e-12)


def test_prior_is_noise_of_the_size_at_the_start(key):
    class Larger(VP):
        def sigma(self, t):
            return 3.0 * super().sigma(t)

    z = jax.random.normal(key, (2, 3), jnp.float32)
    x = prior(Larger(), uniform(5), (2, 3), key)
    assert x.dtype == jnp.float32
    batch = jax.jit(jax.vmap(lambda key: prior(Larger(), uniform(5), (2, 3), key)))(key[None])
    np.testing.assert_allclose(batch[0], x, rtol=1e-6)
    np.testing.assert_allclose(x, 3.0 * np.sqrt(1 - np.exp(-10.05)) * z, rtol=1e-6)


def test_prior_refuses_a_grid_that_begins_on_an_image(key):
    """Two leading steps of 1000 begin at t = 0.501, where alpha is 0.28: samples begun in noise there are too flat."""
    with pytest.raises(ValueError, match=r"t = 0\.501.*alpha = 0\.279.*near t = 1"):
        prior(linear(), respaced(2, 1000, "leading"), (2,), key)
    assert prior(linear(), respaced(10, 1000, "leading"), (2,), key).shape == (
        2,
    )  # alpha = 0.017, as published
    assert prior(VP_, uniform(4, 0.5), (2,), key, signal=0.5).shape == (2,)

    class Louder(VP):  # a signal of 0.28 against noise of 20 is none
        def sigma(self, t):
            return jnp.asarray(20.0)

    assert prior(Louder(), uniform(4, 0.5), (2,), key).shape == (2,)


def test_what_is_returned_can_be_compiled_compared_and_pickled(key):
    """Solvers, denoisers and defenses are hashable, as static arguments must be, and pickle if their parts do."""
    net = time_label(_wavy, 999.0)
    denoise = denoiser(VP_, "v", net, clip=1.0)
    defense = regenerate(VP_, dpmpp_2m(VP_), denoise, uniform(3, 0.5))
    x = jnp.array([0.3, -0.8])
    expected = defense(x, key)
    for run in (jax.jit(defense), jax.checkpoint(defense), pickle.loads(pickle.dumps(defense))):
        np.testing.assert_allclose(run(x, key), expected, rtol=1e-12)

    @functools.partial(jax.jit, static_argnums=(0, 1))
    @chex.assert_max_traces(n=1)
    def run(solver, denoise, x):
        return sample(solver, denoise, x, uniform(3), key)

    solver = heun(VP_)
    for _ in range(2):
        assert run(solver, denoise, x).shape == (2,)
    assert pickle.loads(pickle.dumps(solver)).check(uniform(3)) is None


def test_a_known_grid_is_checked_while_something_else_is_traced(key):
    """Under jit the grid is closed over: it is still refused, where it rises and where the solver has no step."""
    for process, solver, ts, words in (
        (VP_, ddpm, uniform(4)[::-1], "rise"),
        (Cosine(alpha_min=0.0), euler_maruyama, uniform(4), "drift is infinite"),
    ):
        with pytest.raises(ValueError, match=words):
            jax.jit(lambda x, p=process, s=solver, ts=ts: sample(s(p), _wavy, x, ts, key))(jnp.ones(2))
    # A traced grid has no values to check, and passes.
    assert jax.jit(lambda ts: sample(ddim(VP_), _wavy, jnp.ones(2), ts, key))(uniform(4)[::-1]).shape == (2,)


def test_grids():
    np.testing.assert_allclose(uniform(4, 0.8, 0.4), [0.8, 0.7, 0.6, 0.5, 0.4])
    np.testing.assert_allclose(respaced(4, 1000), [1.0, 0.75, 0.5, 0.25, 0.0])
    np.testing.assert_allclose(respaced(3, 10), [1.0, 0.7, 0.3, 0.0])  # 10, 6.67, 3.33
    np.testing.assert_allclose(respaced(4, 1000, "leading"), [0.751, 0.501, 0.251, 0.001, 0.0])
    np.testing.assert_allclose(respaced(4, 10, "leading"), [1.0, 0.7, 0.4, 0.1, 0.0])  # every third
    levels = jax.vmap(VP_.logsnr)(logsnr(VP_, 10, 0.9, 0.01))
    np.testing.assert_allclose(np.diff(levels), (levels[-1] - levels[0]) / 10, rtol=1e-3)


def test_karras_levels_are_his_in_any_process():
    """Equation 5 with rho = 7: the seventh roots are even; sigma/alpha of the grid are these levels, then comes 0."""
    for process in (EDM(), linear(), VP()):
        ts = karras(process, 18, 0.02, 70.0 if process != linear() else 150.0)
        most = 70.0 if process != linear() else 150.0
        i = np.arange(18)
        expected = (most ** (1 / 7) + i / 17 * (0.02 ** (1 / 7) - most ** (1 / 7))) ** 7
        levels = jax.vmap(lambda t: process.sigma(t) / process.alpha(t))(ts)
        np.testing.assert_allclose(levels[:-1], expected, rtol=1e-6)
        assert ts[-1] == 0.0 and np.all(np.diff(ts) < 0)
    assert karras(EDM(), 18)[0] == 1.0


def test_respaced_grids_that_do_not_divide():
    """Every number of steps: as many as asked for, on the table, from t = 1 (trailing) or within one stride of it (leading)."""
    for total, steps in [(n, k + 1) for n in (7, 12, 25) for k in range(n)]:
        places = np.asarray(respaced(steps, total)) * total
        np.testing.assert_allclose(places, np.round(places), atol=1e-9)
        assert len(places) == steps + 1 and places[0] == total and places[-1] == 0
        assert np.all(np.abs(np.diff(places) + total / steps) < 1 + 1e-9) and np.all(np.diff(places) < 0)
        strides = [k for k in range(1, total + 1) if len(range(0, total, k)) == steps]
        if not strides:
            with pytest.raises(ValueError, match=rf"not {steps}\."):
                respaced(steps, total, "leading")
            continue
        places = np.asarray(respaced(steps, total, "leading")) * total
        np.testing.assert_allclose(places[:-1][::-1], 1 + np.arange(0, total, strides[0]))


def test_respacing_says_which_numbers_of_steps_there_are():
    """501 of 1000 began at t = 0.501, in the middle of the noise."""
    with pytest.raises(ValueError, match="500 or 1000 of them, not 501"):
        respaced(501, 1000, "leading")
