"""The one scan over time: sampling, trajectories, and regeneration (noise to t*, then denoise back).

The noise of step i comes from `fold_in(key, i)`, so a rematerialised step draws the same noise again and gradients through
a sampler are exact. Memory of a gradient through T steps, where a step's network holds A and an image holds S:

    remat = "none"   T A          every intermediate of every step is stored
    remat = "step"   T S + A      one image a step; each step is computed twice
    remat = "sqrt"   2 sqrt(T) S + A    one image a block of sqrt(T) steps; each step is computed three times
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxdiff.diffusion.grids import Times
from jaxdiff.diffusion.process import Process
from jaxdiff.diffusion.solvers import Solver
from jaxdiff.types import Defense, Denoiser, Image, Images, PRNGKey

REMATS = ("none", "step", "sqrt")


def sample(
    solver: Solver, denoise: Denoiser, x: Image, ts: Times, key: PRNGKey, remat: str = "none"
) -> Image:
    """The image at time ts[-1], solved from x at time ts[0] down the grid `ts`."""
    step = _grid_step(solver, denoise, ts, key)
    state, steps = (x, solver.init(x)), jnp.arange(len(ts) - 1)
    if remat == "none":
        return _scan(step, state, steps)[0]
    step = jax.checkpoint(step, prevent_cse=False)
    if remat == "step":
        return _scan(step, state, steps)[0]
    if remat != "sqrt":
        raise ValueError(f"Unknown remat {remat!r}. Known: {list(REMATS)}.")
    length = math.isqrt(len(steps))
    whole = length * (len(steps) // length)
    block = jax.checkpoint(lambda state, block_steps: _scan(step, state, block_steps), prevent_cse=False)
    state = _scan(block, state, steps[:whole].reshape(-1, length))
    return _scan(step, state, steps[whole:])[0]


def trajectory(solver: Solver, denoise: Denoiser, x: Image, ts: Times, key: PRNGKey) -> Images:
    """All states of `sample`, [len(ts), *shape], from x itself to the image at ts[-1]."""
    step = _grid_step(solver, denoise, ts, key)

    def recorded(state, i):
        state = step(state, i)
        return state, state[0]

    _, states = jax.lax.scan(recorded, (x, solver.init(x)), jnp.arange(len(ts) - 1))
    return jnp.concatenate([x[None], states])


def regenerate(
    process: Process, solver: Solver, denoise: Denoiser, ts: Times, remat: str = "none"
) -> Defense:
    """(x, key) -> x noised to time ts[0], then solved back to ts[-1]: SDEdit, image-to-image, and DiffPure's core."""

    def defend(x, key):
        noise_key, solve_key = jax.random.split(key)
        noise = jax.random.normal(noise_key, x.shape, x.dtype)
        x_t = process.perturb(x, noise, ts[0]).astype(x.dtype)
        return sample(solver, denoise, x_t, ts, solve_key, remat)

    return defend


def _grid_step(solver: Solver, denoise: Denoiser, ts: Times, key: PRNGKey) -> Callable:
    """(state, i) -> state: the solver's step over the i-th interval of the grid."""

    def step(state, i):
        x, carry = state
        x_s, carry = solver.step(denoise, x, carry, ts[i], ts[i + 1], jax.random.fold_in(key, i))
        return x_s.astype(x.dtype), carry

    return step


def _scan(step: Callable, state, steps):
    return jax.lax.scan(lambda state, i: (step(state, i), None), state, steps)[0]
