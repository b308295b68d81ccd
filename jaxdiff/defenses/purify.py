"""Adversarial purification: defenses that regenerate an image with a diffusion model before it is classified.

DiffPure (Nie et al. 2022, arXiv 2205.07460, equations 3 to 5): noise x to time t*, then solve the reverse process back,

    x(t*) = alpha(t*) x + sigma(t*) noise,    x_hat = x(0).                                        (1)

Only the image counts for the gradient, which runs exactly through every step of the solver. Images are in [0, 1] outside and
in [-1, 1] inside (2x - 1); the result is not clipped, as in the paper.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from jaxdiff import checks
from jaxdiff.defenses.adjoint import adjoint_regenerate
from jaxdiff.defenses.gradients import Purifier
from jaxdiff.diffusion import regenerate
from jaxdiff.diffusion.grids import Times, TimesLike
from jaxdiff.diffusion.pixels import from_network, to_network
from jaxdiff.diffusion.process import Process
from jaxdiff.diffusion.sample import ImageLike, regenerable
from jaxdiff.diffusion.solvers import Solver
from jaxdiff.types import Defense, Denoiser, Image, PRNGKey


def diffpure(
    process: Process,
    solver: Solver,
    denoise: Denoiser,
    ts: TimesLike,
    remat: str = "none",
    surrogate_steps: int | None = None,
) -> Purifier:
    """(x in [0, 1], key) -> the purified image, equation (1), with t* = ts[0].

    For attackers it carries the views "adjoint" (`adjoint_regenerate`) and, given `surrogate_steps`, "surrogate": the same
    noising, then that many steps of the same solver over times of `ts`, with noise of their own. ValueError for integers, and
    for pixels outside [0, 1] where they are not traced: attackers may look a little outside.
    """
    ts = regenerable("diffpure", process, solver, denoise, ts)
    parts = (process, solver, denoise)
    views = {"adjoint": partial(_on_pixels, adjoint_regenerate, *parts, ts)}
    if surrogate_steps is not None:
        views["surrogate"] = partial(_on_pixels, regenerate, *parts, coarser(ts, surrogate_steps), remat)
    return Purifier(_on_pixels(regenerate, *parts, ts, remat), views)


def coarser(ts: Times | np.ndarray, steps: int) -> Times | np.ndarray:
    """`steps` intervals from ts[0] to ts[-1] between times of `ts`, evenly spread; ValueError if `ts` has fewer."""
    checks.count(f"A surrogate of {len(ts) - 1} steps", 1, len(ts) - 1, surrogate_steps=steps)
    return ts[np.round(np.linspace(0, len(ts) - 1, steps + 1)).astype(int)]


def _on_pixels(make: Callable[..., Defense], *parts) -> Defense:
    """The defense make(*parts), which is for images in [-1, 1], for images in [0, 1]."""
    return partial(_purified, make(*parts))


def _purified(purify: Defense, x: ImageLike, key: PRNGKey) -> Image:
    return from_network(purify(to_network(checks.image("diffpure", x)), key))
