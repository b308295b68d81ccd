"""Adversarial purification: defenses that regenerate an image with a diffusion model before it is classified.

DiffPure (Nie et al. 2022, arXiv 2205.07460, equations 3 to 5): noise x to time t*, then solve the reverse process back,

    x(t*) = alpha(t*) x + sigma(t*) noise,    x_hat = x(0).                                        (1)

Only the image counts for the gradient, which runs exactly through every step of the solver. Images are in [0, 1] outside and
in [-1, 1] inside (2x - 1); the result is not clipped, as in the paper.
"""

import numpy as np
from jaxtyping import Array, Float

from jaxdiff.defenses.adjoint import adjoint_regenerate
from jaxdiff.defenses.gradients import Purifier
from jaxdiff.diffusion import regenerate
from jaxdiff.diffusion.grids import Times
from jaxdiff.diffusion.process import Process
from jaxdiff.diffusion.solvers import Solver
from jaxdiff.types import Defense, Denoiser


def diffpure(
    process: Process,
    solver: Solver,
    denoise: Denoiser,
    ts: Times,
    remat: str = "none",
    surrogate_steps: int | None = None,
) -> Purifier:
    """(x in [0, 1], key) -> the purified image, equation (1), with t* = ts[0].

    For attackers it carries the views "adjoint" (`adjoint_regenerate`) and, given `surrogate_steps`, "surrogate": the same
    noising, then that many steps of the same solver over times of `ts`, with noise of their own.
    """
    views = {"adjoint": lambda: _on_pixels(adjoint_regenerate(process, solver, denoise, ts))}
    if surrogate_steps is not None:
        coarse = coarser(ts, surrogate_steps)
        views["surrogate"] = lambda: _on_pixels(regenerate(process, solver, denoise, coarse, remat))
    return Purifier(_on_pixels(regenerate(process, solver, denoise, ts, remat)), views)


def coarser(ts: Times, steps: int) -> Float[Array, " fewer"]:
    """`steps` intervals from ts[0] to ts[-1] between times of `ts`, evenly spread; ValueError if `ts` has fewer."""
    if not 1 <= steps < len(ts):
        raise ValueError(f"A surrogate of {len(ts) - 1} steps has between 1 and as many steps; got {steps}.")
    return ts[np.round(np.linspace(0, len(ts) - 1, steps + 1)).astype(int)]


def _on_pixels(purify: Defense) -> Defense:
    """The defense for images in [0, 1] from one for images in [-1, 1]."""
    return lambda x, key: 0.5 * (purify(2.0 * x - 1.0, key) + 1.0)
