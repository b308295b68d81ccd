"""The one scan over time: sampling, trajectories, and regeneration (noise to t*, then denoise back).

The noise of step i comes from `fold_in(key, i)`, so a rematerialised step draws the same noise again and gradients through
a sampler are exact. Memory of a gradient through T steps, where a step's network holds A and an image holds S:

    remat = "none"   T A          every intermediate of every step is stored
    remat = "step"   T S + A      one image a step; each step is computed twice
    remat = "sqrt"   2 sqrt(T) S + A    one image a block of sqrt(T) steps; each step is computed three times
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxdiff import checks
from jaxdiff.diffusion.denoiser import same_shape
from jaxdiff.diffusion.grids import Times, TimesLike, times
from jaxdiff.diffusion.process import Process, concrete
from jaxdiff.diffusion.solvers import Solver
from jaxdiff.floats import wide_dtype
from jaxdiff.types import Defense, Denoiser, Image, Images, PRNGKey

ImageLike = Float[Array | np.ndarray, "*shape"] | Sequence[Any]
Grid = Times | np.ndarray
REMATS = ("none", "step", "sqrt")


def sample(
    solver: Solver, denoise: Denoiser, x: ImageLike, ts: TimesLike, key: PRNGKey, remat: str = "none"
) -> Image:
    """The image at time ts[-1], solved from x at time ts[0] down the grid `ts`, in the type of x.

    ValueError unless the times fall within [0, 1] and x holds floats. See `prior` for an x to begin with.
    """
    step, state, steps = _begin("sample", solver, denoise, x, ts, key, remat)
    if remat == "none":
        return _scan(step, state, steps)[0]
    step = jax.checkpoint(step, prevent_cse=False)
    if remat == "step":
        return _scan(step, state, steps)[0]
    length = math.isqrt(len(steps))
    whole = length * (len(steps) // length)
    block = jax.checkpoint(lambda state, block_steps: _scan(step, state, block_steps), prevent_cse=False)
    state = _scan(block, state, steps[:whole].reshape(-1, length))
    return _scan(step, state, steps[whole:])[0]


def trajectory(solver: Solver, denoise: Denoiser, x: ImageLike, ts: TimesLike, key: PRNGKey) -> Images:
    """All states of `sample`, [len(ts), *shape], from x itself to the image at ts[-1]."""
    step, state, steps = _begin("trajectory", solver, denoise, x, ts, key)

    def recorded(state, i):
        state = step(state, i)
        return state, state[0]

    _, states = jax.lax.scan(recorded, state, steps)
    return jnp.concatenate([state[0][None], states])


def prior(
    process: Process,
    ts: TimesLike,
    shape: Sequence[int],
    key: PRNGKey,
    dtype: Any = jnp.float32,
    signal: float = 0.05,
) -> Image:
    """Where a grid for pure noise begins: sigma(ts[0]) z, which stands for x at ts[0] if hardly any image is left there.

    ValueError if alpha/sigma is more than `signal` at ts[0]: samples begun there have less contrast than the data.
    """
    checks.instance("prior", Process, "VP()", process=process)
    checks.number("prior", "(0, inf]", signal=signal)
    ts, key = times("prior", ts, wide_dtype(dtype)), checks.key("prior", key)
    alpha, sigma = concrete(process.alpha, ts[0]), concrete(process.sigma, ts[0])
    if alpha is not None and alpha > signal * sigma:
        raise ValueError(
            f"The grid begins at t = {float(ts[0]):g}, where x is not noise: alpha = {alpha:.3g}. Sampling from pure noise "
            "needs a grid that begins near t = 1, such as grids.uniform(50) or respaced(50, spacing='trailing'), and a process "
            "that ends in noise. (`regenerate` begins from an image.)"
        )
    return (process.sigma(ts[0]) * jax.random.normal(key, shape, dtype)).astype(dtype)


def regenerate(
    process: Process, solver: Solver, denoise: Denoiser, ts: TimesLike, remat: str = "none"
) -> Defense:
    """(x, key) -> x noised to time ts[0], then solved back to ts[-1]: SDEdit, image-to-image, and DiffPure's core."""
    ts = regenerable("regenerate", process, solver, denoise, ts)
    checks.known("regenerate", REMATS, remat=remat)
    return partial(_regenerated, process, solver, denoise, ts, remat)


def noised(process: Process, x: Image, t: Any, key: PRNGKey) -> tuple[Image, PRNGKey]:
    """x perturbed to time t, with the key that is left to solve it back."""
    noise_key, solve_key = jax.random.split(key)
    noise = jax.random.normal(noise_key, x.shape, x.dtype)
    return process.perturb(x, noise, jnp.asarray(t).astype(wide_dtype(x.dtype))), solve_key


def regenerable(who: str, process: Process, solver: Solver, denoise: Denoiser, ts: TimesLike) -> Grid:
    """The grid of a regeneration; ValueError unless these are a process, a solver, a denoiser and falling times."""
    checks.instance(who, Process, "VP()", process=process)
    checks.instance(who, Solver, "ddpm(process)", solver=solver)
    checks.function(who, denoise=denoise)
    ts = times(who, ts)
    solver.check(ts)
    return ts


def _regenerated(process, solver, denoise, ts, remat, x: ImageLike, key: PRNGKey) -> Image:
    x, key = checks.floats("regenerate", x), checks.key("regenerate", key)
    x_t, solve_key = noised(process, x, ts[0], key)
    return sample(solver, denoise, x_t, ts, solve_key, remat)


def _begin(who: str, solver, denoise, x, ts, key, remat: str = "none") -> tuple[Callable, Any, Array]:
    """((state, i) -> state, state, the steps i): the solver's step over the i-th interval of the grid, all of it checked."""
    checks.instance(who, Solver, "ddpm(process)", solver=solver)
    checks.function(who, denoise=denoise)
    checks.known(who, REMATS, remat=remat)
    x, key = checks.floats(who, x), checks.key(who, key)
    ts = times(who, ts, wide_dtype(x.dtype))
    solver.check(ts)
    ts = jnp.asarray(ts)
    shaped = lambda x, t: same_shape(who, denoise(x, t), x)

    def step(state, i):
        x, carry = state
        x_s, carry = solver.step(shaped, x, carry, ts[i], ts[i + 1], jax.random.fold_in(key, i))
        return x_s.astype(x.dtype), carry

    return step, (x, solver.init(x)), jnp.arange(len(ts) - 1)


def _scan(step: Callable, state, steps):
    return jax.lax.scan(lambda state, i: (step(state, i), None), state, steps)[0]
