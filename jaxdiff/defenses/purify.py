"""Adversarial purification: defenses that regenerate an image with a diffusion model before it is classified.

DiffPure (Nie et al. 2022, arXiv 2205.07460, equations 3 to 5): noise x to time t*, then solve the reverse process back,

    x(t*) = alpha(t*) x + sigma(t*) noise,    x_hat = x(0).                                        (1)

Only the image counts for the gradient, which runs exactly through every step of the solver. Images are in [0, 1] outside and
in [-1, 1] inside (2x - 1); the result is not clipped, as in the paper.
"""

from jaxdiff.diffusion import regenerate
from jaxdiff.diffusion.grids import Times
from jaxdiff.diffusion.process import Process
from jaxdiff.diffusion.solvers import Solver
from jaxdiff.types import Defense, Denoiser


def diffpure(process: Process, solver: Solver, denoise: Denoiser, ts: Times, remat: str = "none") -> Defense:
    """(x in [0, 1], key) -> the purified image, equation (1), with t* = ts[0]."""
    purify = regenerate(process, solver, denoise, ts, remat)
    return lambda x, key: 0.5 * (purify(2.0 * x - 1.0, key) + 1.0)
