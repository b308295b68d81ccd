"""Solvers of the probability-flow ODE: Heun's, and one with steps of its own.

In y = x / alpha over rho = sigma / alpha it is dy/drho = noise_hat (Karras et al. 2022, equation 4): Euler's method on it is
DDIM (equation (1) of `ancestral` with eta = 0), Heun's rule adds half the change of the slope,

    x_s = alpha_s x0_hat + sigma_s noise_hat + alpha_s (rho_s - rho_t)/2 (noise_hat_s - noise_hat).  (1)

In z = x / sigma over 1/rho the same ODE is dz/d(1/rho) = x0_hat, and there the rule is

    x_s = alpha_s x0_hat + sigma_s noise_hat + sigma_s (1/rho_s - 1/rho_t)/2 (x0_hat_s - x0_hat).    (2)

Over t it is (Song et al. 2021, arXiv 2011.13456, equation 13)

    dx/dt = f x - 1/2 g^2 score.                                                                     (3)

(1) and (2) begin where alpha_t = 0 and arrive at x0_hat where sigma_s = 0.
"""

import importlib.util
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxdiff import checks
from jaxdiff.diffusion.denoiser import score
from jaxdiff.diffusion.grids import TimesLike
from jaxdiff.diffusion.process import Process, concrete
from jaxdiff.diffusion.solvers.solver import Solver, both, finite_drift, memoryless
from jaxdiff.types import Denoiser, Image, Time

__all__ = ["adaptive", "heun"]

STEEP = 3.0  # Where noise dominates, (1) over a larger fall of rho is worse than Euler's step: by (rho_t/rho_s - 1)/2.


def heun(process: Process) -> Solver:
    """Heun's second-order method on the probability-flow ODE, equation (1) (Karras et al. 2022, algorithm 1).

    Where noise dominates (rho_t > 1) and rho falls by more than a factor of 3 in a step, or from infinity, it is equation (2).
    """
    checks.instance("heun", Process, "VP()", process=process)
    return memoryless(partial(_heun, process))


def adaptive(process: Process, rtol: float = 1e-5, atol: float = 1e-5, max_steps: int = 1000) -> Solver:
    """Equation (3) by Tsitouras' method of order 5 with steps of its own (diffrax), exact gradients by checkpoints.

    A grid of two times is enough. ValueError for a grid that begins where alpha = 0 or ends where sigma = 0, where the slope is
    not known (end at 1e-3, say), and if diffrax is not installed.
    """
    checks.instance("adaptive", Process, "VP()", process=process)
    checks.number("adaptive", "(0, 1)", rtol=rtol, atol=atol)
    checks.count("adaptive", max_steps=max_steps)
    needs_diffrax("adaptive")
    return memoryless(partial(_adaptive, process, rtol, atol, max_steps), partial(_between, process))


def probability_flow(process: Process, denoise: Denoiser, x: Image, t: Time) -> Image:
    """The slope dx/dt of equation (3)."""
    return process.f(t) * x - 0.5 * process.g2(t) * score(process, denoise)(x, t)


def needs_diffrax(who: str) -> None:
    """ValueError unless diffrax is installed."""
    if importlib.util.find_spec("diffrax") is None:
        raise ValueError(f"{who} needs the package diffrax, which is not installed: pip install diffrax")


def integrated(
    slope: Callable[[Time, Any], Any], t: Time, s: Time, state: Any, rtol: float, atol: float, max_steps: int
) -> tuple[Any, Array]:
    """The state at s of d state/dt = slope(t, state), begun at t, by Tsitouras' method; and how many steps it took."""
    import diffrax

    found = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, state, _: slope(t, state)),
        diffrax.Tsit5(),
        t,
        s,
        None,
        state,
        stepsize_controller=diffrax.PIDController(rtol=rtol, atol=atol),
        adjoint=diffrax.RecursiveCheckpointAdjoint(),
        max_steps=max_steps,
    )
    return jax.tree.map(lambda each: each[-1], found.ys), found.stats["num_steps"]


def _adaptive(
    process: Process, rtol: float, atol: float, max_steps: int, denoise: Denoiser, x, t, s, key
) -> Image:
    slope = lambda t, x: probability_flow(process, denoise, x, t)
    return integrated(slope, t, s, x, rtol, atol, max_steps)[0]


def _between(process: Process, ts: TimesLike) -> None:
    finite_drift("adaptive", process, ts)
    if concrete(process.sigma, ts[-1]) == 0.0:
        raise ValueError(
            f"adaptive cannot end at t = {float(ts[-1]):g}, where sigma = 0 and the slope is not known. End the grid a little "
            "earlier, such as jnp.array([1.0, 1e-3])."
        )


def _heun(process: Process, denoise: Denoiser, x, t, s, key) -> Image:
    x0_hat, noise_hat = both(process, denoise, x, t)
    alpha_t, sigma_t, alpha_s, sigma_s = (
        process.alpha(t),
        process.sigma(t),
        process.alpha(s),
        process.sigma(s),
    )
    euler = alpha_s * x0_hat + sigma_s * noise_hat
    last = sigma_s == 0.0
    end = jnp.where(last, t, s)  # any time with sigma > 0: the value is not used
    x0_hat_s, noise_hat_s = both(process, denoise, euler.astype(x.dtype), end)
    steep = (sigma_t > alpha_t) & (sigma_t * alpha_s > STEEP * alpha_t * sigma_s)
    rho_t = sigma_t / jnp.where(steep, 1.0, alpha_t)
    in_rho = (sigma_s - alpha_s * rho_t) * (noise_hat_s - noise_hat)
    in_inverse = (alpha_s - sigma_s * alpha_t / sigma_t) * (x0_hat_s - x0_hat)
    return euler + jnp.where(last, 0.0, 0.5 * jnp.where(steep, in_inverse, in_rho))
