"""A process that loses resolution as it gains noise, and the cascade of denoisers that grows it back.

Level k of K works on images shrunk by 2^k, means of 2^k x 2^k pixels, P_k x0, at times from t_k to t_{k+1}, where t_0 = 0 and
t_K = 1:

    x_t = alpha(t) P_k x0 + sigma(t) noise,    t_k < t <= t_{k+1}.                   (1)

Forward, at t_{k+1}, x is shrunk once more. Means of four have a quarter of the variance of the noise; the rest is added,

    x' = P x + sqrt(3)/2 sigma noise,                                                (2)

so that x' is (1) at the next level. Backward, with noise_hat = (x' - alpha x0_hat)/sigma of the coarse denoiser and U, which
repeats a pixel 2 x 2 times, the fine noise has noise_hat/2 for its means, and is drawn anew about them:

    x = alpha U x0_hat + sigma (U noise_hat / 2 + (I - U P) noise).                  (3)

Of an image as smooth as U P x0 that the coarse denoiser knows, x is (1) at the finer level. What is finer is drowned in noise
where sigma/alpha is large, and the finer denoiser adds it. The loss is the sum of those of the levels, each with a weight w_k.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdiff import checks
from jaxdiff.diffusion.grids import TimesLike, times
from jaxdiff.diffusion.process import Process
from jaxdiff.diffusion.sample import prior, sample
from jaxdiff.diffusion.solvers import Solver
from jaxdiff.diffusion.solvers.solver import both
from jaxdiff.types import Denoiser, PRNGKey, PRNGKeys, Time

Square = Float[Array, "height width channels"]
Resized = Float[Array, "height2 width2 channels"]
__all__ = ["Level", "cascade", "grown", "losses", "shrunk", "to_next"]


@dataclass(frozen=True)
class Level:
    """What solves one level: a denoiser of images shrunk by 2^k, down the grid `ts` from t_{k+1} to t_k."""

    solver: Solver
    denoise: Denoiser
    ts: TimesLike


def shrunk(x: Square, factor: int = 2) -> Resized:
    """Means of factor x factor pixels of an image [h, w, c]; ValueError if these do not divide its sides."""
    height, width, channels = x.shape
    if height % factor or width % factor:
        raise ValueError(f"shrunk needs sides that {factor} divides; got {height} x {width}.")
    return x.reshape(height // factor, factor, width // factor, factor, channels).mean((1, 3))


def to_next(process: Process, x: Square, t: Time, key: PRNGKey) -> Resized:
    """Equation (2)."""
    small = shrunk(x)
    rest = jnp.sqrt(0.75) * process.sigma(t) * jax.random.normal(key, small.shape, small.dtype)
    return (small + rest).astype(x.dtype)


def grown(process: Process, denoise: Denoiser, x: Square, t: Time, key: PRNGKey) -> Resized:
    """Equation (3): twice the sides, at the same time; `denoise` is that of the coarse level."""
    x0_hat, noise_hat = both(process, denoise, x, t)
    larger = lambda x: x.repeat(2, 0).repeat(2, 1)
    noise = jax.random.normal(key, (2 * x.shape[0], 2 * x.shape[1], x.shape[2]), x.dtype)
    details = noise - larger(shrunk(noise))
    fine = process.alpha(t) * larger(x0_hat) + process.sigma(t) * (0.5 * larger(noise_hat) + details)
    return fine.astype(x.dtype)


def cascade(process: Process, levels: Sequence[Level], shape: Sequence[int], key: PRNGKey) -> Square:
    """An image of this shape from noise, through the levels, the finest first in `levels`, the coarsest solved first.

    ValueError unless the grids meet: that of each level begins where that of the next coarser one ends.
    """
    checks.instance("cascade", Process, "VP()", process=process)
    checks.instance("cascade", Sequence, "[Level(solver, denoise, ts)]", levels=levels)
    grids = [times("cascade", level.ts) for level in levels]
    for k, (fine, coarse) in enumerate(itertools.pairwise(grids)):
        if abs(float(fine[0]) - float(coarse[-1])) > 1e-6:
            raise ValueError(
                f"cascade: the grid of level {k} begins at t = {float(fine[0]):g}, and that of level {k + 1} ends at "
                f"{float(coarse[-1]):g}; they have to meet."
            )
    height, width, channels = shape
    least = 2 ** (len(levels) - 1)
    if height % least or width % least:
        raise ValueError(
            f"A cascade of {len(levels)} levels needs sides that {least} divides; got {height} x {width}."
        )
    coarsest = (height // least, width // least, channels)
    x = prior(process, grids[-1], coarsest, jax.random.fold_in(key, 0))
    for k in range(len(levels) - 1, -1, -1):
        step_key, grow_key = jax.random.split(jax.random.fold_in(key, k + 1))
        x = sample(levels[k].solver, levels[k].denoise, x, grids[k], step_key)
        if k:
            x = grown(process, levels[k].denoise, x, grids[k][-1], grow_key)
    return x


def losses(
    loss: Callable,
    ends: Sequence[float],
    weights: Sequence[float],
    predicts: Sequence[Callable],
    x0: Any,
    keys: PRNGKeys,
) -> Any:
    """The weighted sum over the levels of the losses [B] of images x0 [B, h, w, c], each at a time of its own.

    `loss(predict, x0, t, keys)` is that of `denoising`, `predicts` are the batched networks of the levels, `ends` the times
    t_1 ... t_K = 1. ValueError unless there is one weight and one network a level.
    """
    if not len(ends) == len(weights) == len(predicts):
        raise ValueError(
            f"Every level has an end, a weight and a network; got {len(ends)}, {len(weights)}, {len(predicts)}."
        )
    begins, total = (0.0, *ends[:-1]), 0.0
    for k, (predict, weight) in enumerate(zip(predicts, weights, strict=True)):
        own = jax.vmap(lambda key, k=k: jax.random.fold_in(key, k))(keys)
        share = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, 1)))(own)
        t = ends[k] - share * (ends[k] - begins[k])
        small = jax.vmap(lambda x, k=k: shrunk(x, 2**k))(x0)
        total = total + weight * loss(predict, small, t, own)
    return total
