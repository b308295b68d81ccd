"""Images as latent noise, and back: DDIM inversion and interpolation (Song et al. 2021, arXiv 2010.02502, sections 4.3, 5.3).

A step of the probability-flow ODE up from s to t, by DDIM's equation the other way round,

    x_t = alpha_t x0_hat + sigma_t noise_hat,    both as the denoiser sees them at (x_s, s),         (1)

is undone by the step down only as far as both see the same. With (x_t, t) in the place of (x_s, s) it is undone exactly; that
equation is implicit, and is solved by iterating it from (1).
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxdiff import checks
from jaxdiff.diffusion.denoiser import same_shape
from jaxdiff.diffusion.grids import TimesLike, times
from jaxdiff.diffusion.process import Process, concrete
from jaxdiff.diffusion.sample import sample
from jaxdiff.diffusion.solvers import Solver
from jaxdiff.diffusion.solvers.solver import both
from jaxdiff.floats import wide_dtype
from jaxdiff.types import Denoiser, Image, PRNGKey, Time

__all__ = ["interpolated", "inverted", "slerp"]


def inverted(process: Process, denoise: Denoiser, x: Any, ts: TimesLike, refine: int = 0) -> Image:
    """The latent at time ts[0] from which DDIM comes down the grid `ts` to x, which is an image at time ts[-1].

    Equation (1), then `refine` iterations of the implicit one a step. ValueError where there is no noise at ts[-1], such as
    t = 0, at which no denoiser says what the noise was: end the grid a little later, at 1e-3.
    """
    checks.instance("inverted", Process, "VP()", process=process)
    checks.function("inverted", denoise=denoise)
    checks.count("inverted", 0, refine=refine)
    x = checks.floats("inverted", x)
    ts = jnp.asarray(times("inverted", ts, wide_dtype(x.dtype)))
    if concrete(process.sigma, ts[-1]) == 0.0:
        raise ValueError(
            f"inverted needs noise at the end of its grid, t = {float(ts[-1]):g}: end it a little later, as "
            "grids.uniform(50, end=1e-3) does."
        )
    shaped = lambda x, t: same_shape("inverted", denoise(x, t), x)

    def up(x_s: Image, i: Any) -> tuple[Image, None]:
        t, s = ts[i], ts[i + 1]
        x_t = _moved(process, shaped, x_s, s, s, t, x_s)
        for _ in range(refine):
            x_t = _moved(process, shaped, x_t, t, s, t, x_s)
        return x_t.astype(x.dtype), None

    return jax.lax.scan(up, x, jnp.arange(len(ts) - 2, -1, -1))[0]


def slerp(a: Any, b: Any, share: Any) -> Image:
    """From noise a (share 0) to b (share 1) along a great circle, which keeps noise noise (their equation 17).

    sin((1 - share) angle) / sin(angle) a + sin(share angle) / sin(angle) b, or the chord where they are parallel.
    """
    a, b = checks.floats("slerp", a), checks.floats("slerp", b)
    cos = jnp.sum(a * b) / jnp.maximum(jnp.linalg.norm(a.ravel()) * jnp.linalg.norm(b.ravel()), 1e-30)
    angle = jnp.arccos(jnp.clip(cos, -1.0, 1.0))
    flat = jnp.sin(angle) < 1e-3
    sine = jnp.where(flat, 1.0, jnp.sin(angle))
    left = jnp.where(flat, 1.0 - share, jnp.sin((1.0 - share) * angle) / sine)
    right = jnp.where(flat, share, jnp.sin(share * angle) / sine)
    return (left * a + right * b).astype(a.dtype)


def interpolated(
    process: Process,
    solver: Solver,
    denoise: Denoiser,
    ts: TimesLike,
    a: Any,
    b: Any,
    share: Any,
    key: PRNGKey,
) -> Image:
    """The image between a and b: both inverted up to ts[0], `slerp`, solved back down by a deterministic solver."""
    up = partial(inverted, process, denoise, ts=ts)
    return sample(solver, denoise, slerp(up(x=a), up(x=b), share), ts, key)


def _moved(process: Process, denoise: Denoiser, x: Image, at: Time, s: Time, t: Time, x_s: Image) -> Image:
    """x_t such that x_s lies on the line that the denoiser sees from (x, at): in its noise, by which iterations contract."""
    _, noise_hat = both(process, denoise, x, at)
    x0_hat = (x_s - process.sigma(s) * noise_hat) / process.alpha(s)
    return process.alpha(t) * x0_hat + process.sigma(t) * noise_hat
