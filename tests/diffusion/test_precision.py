"""Every solver, process, kind, loss and grid in every floating point type: the result has the type of the image, the network
sees that type alone, and the numbers are those of float64 as far as the type can tell.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rows import slow_but

from jaxdiff.diffusion import (
    KINDS,
    VP,
    Cosine,
    convert,
    ddim,
    ddpm,
    denoiser,
    denoising,
    dpmpp_2m,
    euler_maruyama,
    heun,
    linear,
    noise_levels,
    prior,
    regenerate,
    sample,
)
from jaxdiff.diffusion.grids import logsnr, respaced, uniform
from jaxdiff.diffusion.weights import elbo, simple

pytestmark = pytest.mark.usefixtures("x64")

DTYPES = ("bfloat16", "float16", "float32", "float64")
SOLVERS = {
    "ddim": ddim,
    "ddpm": ddpm,
    "ddpm_upper": lambda process: ddpm(process, "upper"),
    "euler_maruyama": euler_maruyama,
    "heun": heun,
    "dpmpp_2m": dpmpp_2m,
}
PROCESSES = {"vp": VP(), "cosine": Cosine(), "to_noise": Cosine(alpha_min=0.0), "linear": linear()}
X = np.array([0.5, -0.875, 0.25, 0.125])  # exact in every type
NORMAL = jax.random.normal


@pytest.fixture
def drawn_as(monkeypatch):
    """dtype -> from now on all noise is what that type would draw, so that types can be compared; the types asked for."""

    def use(dtype):
        asked = set()

        def same(key, shape=(), d=float):
            asked.add(jnp.dtype(d).name)
            return NORMAL(key, shape, dtype).astype(d)

        monkeypatch.setattr(jax.random, "normal", same)
        return asked

    return use


def _net(process, kind, seen):
    """A network of a kind whose denoiser is smooth; `seen` collects the types of its images; its times are wider."""

    def net(x, t):
        assert jnp.asarray(t).dtype == jnp.promote_types(x.dtype, "float32")
        seen.append(x.dtype)
        wide, dtype = x.astype(float), x.dtype
        x0_hat = jnp.tanh(0.5 * wide + jnp.roll(wide, 1))
        return convert(process, "x0", kind, x0_hat, wide, jnp.asarray(t, float)).astype(dtype)

    return net


def _close(ours, exact, dtype, factor):
    """Equal but for `factor` roundings of the type."""
    np.testing.assert_allclose(
        np.asarray(ours, np.float64), exact, rtol=0, atol=factor * float(jnp.finfo(dtype).eps)
    )


@pytest.mark.parametrize("dtype", slow_but(DTYPES, "bfloat16"))
@pytest.mark.parametrize("name", SOLVERS)
def test_solvers(name, dtype, drawn_as, key):
    """For every kind of network; the scan itself must accept the carry. Of float64 only the types can fail."""
    drawn_as(dtype)
    process, solver = VP(), SOLVERS[name](VP())
    for kind in KINDS:
        seen = []
        run = lambda x, kind=kind, seen=seen: sample(
            solver, denoiser(process, kind, _net(process, kind, seen)), x, uniform(3, 0.6, 0.15), key
        )
        assert jax.eval_shape(run, jax.ShapeDtypeStruct((4,), dtype)).dtype == jnp.dtype(dtype)
        with jax.disable_jit():
            ours, exact = run(jnp.asarray(X, dtype)), run(jnp.asarray(X))
        assert ours.dtype == jnp.dtype(dtype) and set(seen) <= {jnp.dtype(dtype), jnp.dtype(float)}
        _close(ours, exact, dtype, 20)


@pytest.mark.parametrize("dtype", slow_but(DTYPES, "bfloat16"))
@pytest.mark.parametrize("name", PROCESSES)
def test_processes_and_regeneration(name, dtype, drawn_as, key):
    """Of float64 only the types can fail."""
    drawn_as(dtype)
    process, x = PROCESSES[name], jnp.asarray(X, dtype)
    for t in (0.3, np.float32(0.3), jnp.asarray(0.3)):
        noised = process.perturb(x, x[::-1], t)
        assert noised.dtype == jnp.dtype(dtype)
        _close(noised, process.perturb(jnp.asarray(X), jnp.asarray(X[::-1]), t), dtype, 1)
    seen = []
    denoise = denoiser(process, "v", _net(process, "v", seen))
    defend = regenerate(process, dpmpp_2m(process), denoise, uniform(3, 0.6, 0.1))
    with jax.disable_jit():
        ours, exact = defend(x, key), defend(jnp.asarray(X), key)
    assert ours.dtype == jnp.dtype(dtype) and jnp.dtype(dtype) in seen
    _close(ours, exact, dtype, 20)
    assert prior(process, uniform(3), (2,), key, dtype).dtype == jnp.dtype(dtype)


@pytest.mark.parametrize("dtype", slow_but(DTYPES, "bfloat16"))
@pytest.mark.parametrize(
    "weight",
    [simple(), pytest.param(elbo(), marks=pytest.mark.slow), elbo(10)],
    ids=["simple", "elbo", "elbo_10"],
)
def test_losses(weight, dtype, drawn_as, key):
    """Of float32 at least, which a sum of squares needs; the network and the noise are of the type of the images."""
    asked = drawn_as(dtype)
    keys = jax.random.split(key, 2)
    drawn = noise_levels.discrete(10)(keys)
    for kind, t in zip(KINDS, [drawn, jnp.array([0.25, 0.75], dtype)] * 3, strict=True):
        seen = []
        losses = lambda d, t=t, kind=kind, seen=seen: denoising(VP(), kind, weight)(
            lambda x, t: (seen.append(x.dtype), 0.5 * x)[1], jnp.asarray(np.stack([X, X]), d), t, keys
        )
        ours, exact = losses(dtype), losses(float)
        assert ours.dtype == jnp.promote_types(dtype, "float32")
        assert [d.name for d in seen] == [dtype, "float64"] and asked == {dtype, "float64"}
        # Weights go by the signal-to-noise ratio, whose logarithm is large, and so are its rounding errors.
        _close(ours / exact, 1.0, dtype, 100)


@pytest.mark.parametrize("wide", [False, True])
def test_grids_and_times_have_the_default_type(wide, key):
    with jax.enable_x64(wide):
        expected = jnp.result_type(float)
        grids = [uniform(3), respaced(3, 9), logsnr(VP(), 3), logsnr(linear(), 3)]
        assert {g.dtype for g in grids} == {expected}
        drawn = [
            noise_levels.uniform(),
            noise_levels.discrete(),
            noise_levels.log_normal(VP()),
            noise_levels.stratified(),
        ]
        assert {draw(key[None]).dtype for draw in drawn} == {expected}
