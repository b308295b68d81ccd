"""Solvers: one step over an interval, from time t down to s < t.

With x0_hat = denoise(x_t, t) and noise_hat = (x_t - alpha_t x0_hat) / sigma_t, and with

    ratio = SNR(t) / SNR(s) = exp(logsnr_t - logsnr_s)  in (0, 1),

ancestral steps (DDPM, Ho et al. 2020, equations 6 and 7; DDIM, Song et al. 2021, arXiv 2010.02502, equation 12) are

    x_s = alpha_s x0_hat + sigma_s sqrt(1 - eta^2 (1 - ratio)) noise_hat + std z,                    (1)
    posterior std = sigma_s sqrt(1 - ratio),    upper std = sigma_t sqrt(1 - ratio)  (Ho's beta_t).  (2)

The reverse SDE (Song et al. 2021, arXiv 2011.13456, equation 6) by Euler-Maruyama, dt = t - s:

    x_s = x_t - (f x_t - g^2 score) dt + g sqrt(dt) z.                                               (3)

The probability-flow ODE in y = x / alpha over rho = sigma / alpha is dy/drho = noise_hat (Karras et al. 2022,
equation 4): Euler's method on it is (1) with eta = 0, Heun's rule adds half the change of the slope,

    x_s = alpha_s x0_hat + sigma_s noise_hat + alpha_s (rho_s - rho_t)/2 (noise_hat_s - noise_hat).  (4)

In z = x / sigma over 1/rho the same ODE is dz/d(1/rho) = x0_hat, and there the rule is

    x_s = alpha_s x0_hat + sigma_s noise_hat + sigma_s (1/rho_s - 1/rho_t)/2 (x0_hat_s - x0_hat).    (5)

In h = (logsnr_s - logsnr_t) / 2, DPM-Solver++(2M) (Lu et al. 2022, arXiv 2211.01095, algorithm 2) is

    x_s = sigma_s/sigma_t x_t + alpha_s (1 - exp(-h)) [x0_hat + h/(2 h_prev) (x0_hat - x0_hat_prev)].  (6)

Steps are written in x0_hat and noise_hat, so that they have their limits where alpha_t = 0 (zero terminal SNR): there (1), (5)
and (6) begin. All but (3) arrive at x0_hat where sigma_s = 0. (3) does not begin where alpha_t = 0, f and g^2 being infinite,
and arrives at its own mean plus noise, or at the mean alone (`noise_removal`).

The noise z of a step is `jax.random.normal(key, x.shape, x.dtype)`. A denoiser sees images of the type of x; what is computed
from its answer is in the type of the times.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxdiff import checks
from jaxdiff.diffusion.denoiser import score
from jaxdiff.diffusion.grids import TimesLike
from jaxdiff.diffusion.process import Process, concrete
from jaxdiff.floats import wide_dtype
from jaxdiff.types import Denoiser, Image, PRNGKey, Scalar, Time

__all__ = ["ddim", "ddpm", "dpmpp_2m", "euler_maruyama", "heun"]

STEEP = 3.0  # Where noise dominates, (4) over a larger fall of rho is worse than Euler's step: by (rho_t/rho_s - 1)/2.


def _any_grid(ts: TimesLike) -> None:
    """No complaint."""


@dataclass(frozen=True)
class Solver:
    """init(x) -> carry and step(denoise, x, carry, t, s, key) -> (x, carry), one interval of time.

    `check(ts)` raises ValueError for a grid on which the steps do not exist.
    """

    init: Callable[[Image], Any]
    step: Callable[[Denoiser, Image, Any, Time, Time, PRNGKey], tuple[Image, Any]]
    check: Callable[[TimesLike], None] = _any_grid

    def __post_init__(self):
        checks.function("Solver", init=self.init, step=self.step, check=self.check)


def ddim(process: Process, eta: float = 0.0) -> Solver:
    """DDIM, equation (1): deterministic at eta = 0, DDPM with the posterior variance at eta = 1."""
    checks.instance("ddim", Process, "VP()", process=process)
    checks.number("ddim", "[0, 1]", eta=eta)
    return _memoryless(partial(_ancestral, process, eta, "posterior"))


def ddpm(process: Process, variance: str = "posterior") -> Solver:
    """Ancestral sampling (Ho et al. 2020, algorithm 2) with the "posterior" or the "upper" variance, equation (2)."""
    checks.instance("ddpm", Process, "VP()", process=process)
    checks.known("ddpm", STDS, variance=variance)
    return _memoryless(partial(_ancestral, process, 1.0, variance))


def euler_maruyama(process: Process, noise_removal: bool = False) -> Solver:
    """The reverse SDE by Euler and Maruyama, equation (3); what DiffPure uses, to whom the last step is as noisy as the others.

    With `noise_removal` a step to a time without noise (sigma_s = 0) is its mean, as in the samplers of Song et al. 2021,
    after Jolicoeur-Martineau et al. 2021 (arXiv 2009.05475). A grid that begins where alpha = 0 is refused.
    """
    checks.instance("euler_maruyama", Process, "VP()", process=process)
    checks.instance("euler_maruyama", bool, "True", noise_removal=noise_removal)
    return _memoryless(partial(_reverse_sde, process, noise_removal), partial(_finite_drift, process))


def heun(process: Process) -> Solver:
    """Heun's second-order method on the probability-flow ODE, equation (4) (Karras et al. 2022, algorithm 1).

    Where noise dominates (rho_t > 1) and rho falls by more than a factor of 3 in a step, or from infinity, it is equation (5).
    """
    checks.instance("heun", Process, "VP()", process=process)
    return _memoryless(partial(_heun, process))


def dpmpp_2m(process: Process) -> Solver:
    """DPM-Solver++(2M), equation (6): second order with one evaluation a step; its first and last steps are DDIM's."""
    checks.instance("dpmpp_2m", Process, "VP()", process=process)
    return Solver(_nothing_before, partial(_multistep, process))


def _memoryless(step: Callable, check: Callable[[TimesLike], None] = _any_grid) -> Solver:
    """A solver whose steps carry nothing from one to the next."""
    return Solver(_no_carry, partial(_carrying_nothing, step), check)


def _no_carry(x: Image) -> tuple[()]:
    return ()


def _carrying_nothing(step: Callable, denoise: Denoiser, x, carry, t, s, key):
    return step(denoise, x, t, s, key), carry


def _both(process: Process, denoise: Denoiser, x: Image, t: Time) -> tuple[Image, Image]:
    """(x0_hat, noise_hat) at time t > 0."""
    x0_hat = denoise(x, t)
    return x0_hat, (x - process.alpha(t) * x0_hat) / process.sigma(t)


def _posterior_std(process: Process, t: Time, s: Time, lost: Scalar) -> Scalar:
    return process.sigma(s) * jnp.sqrt(lost)


def _upper_std(process: Process, t: Time, s: Time, lost: Scalar) -> Scalar:
    # The last step, to s = 0, is the mean in both (algorithm 2, z = 0 at t = 1).
    return jnp.where(process.sigma(s) > 0, process.sigma(t) * jnp.sqrt(lost), 0.0)


STDS = {"posterior": _posterior_std, "upper": _upper_std}


def _ancestral(process: Process, eta: float, variance: str, denoise: Denoiser, x, t, s, key) -> Image:
    """Equation (1), with lost = 1 - ratio."""
    x0_hat, noise_hat = _both(process, denoise, x, t)
    lost = -jnp.expm1(process.logsnr(t) - process.logsnr(s))
    kept = process.sigma(s) * jnp.sqrt(1.0 - eta**2 * lost)
    mean = process.alpha(s) * x0_hat + kept * noise_hat
    if eta == 0.0:
        return mean
    return mean + eta * STDS[variance](process, t, s, lost) * jax.random.normal(key, x.shape, x.dtype)


def _reverse_sde(process: Process, noise_removal: bool, denoise: Denoiser, x, t, s, key) -> Image:
    """Equation (3)."""
    drift = process.f(t) * x - process.g2(t) * score(process, denoise)(x, t)
    std = jnp.sqrt(process.g2(t) * (t - s))
    if noise_removal:
        std = jnp.where(process.sigma(s) > 0, std, 0.0)
    return x - drift * (t - s) + std * jax.random.normal(key, x.shape, x.dtype)


def _finite_drift(process: Process, ts: TimesLike) -> None:
    start = ts[0]
    if concrete(process.alpha, start) == 0.0:
        raise ValueError(
            f"euler_maruyama cannot begin at t = {float(start):g}, where alpha = 0 and the drift is infinite. Begin the grid a "
            "little later, end the process with a little signal (such as Cosine(alpha_min=5e-5)), or use ddpm or ddim."
        )


def _heun(process: Process, denoise: Denoiser, x, t, s, key) -> Image:
    x0_hat, noise_hat = _both(process, denoise, x, t)
    alpha_t, sigma_t, alpha_s, sigma_s = (
        process.alpha(t),
        process.sigma(t),
        process.alpha(s),
        process.sigma(s),
    )
    euler = alpha_s * x0_hat + sigma_s * noise_hat
    last = sigma_s == 0.0
    end = jnp.where(last, t, s)  # any time with sigma > 0: the value is not used
    x0_hat_s, noise_hat_s = _both(process, denoise, euler.astype(x.dtype), end)
    steep = (sigma_t > alpha_t) & (sigma_t * alpha_s > STEEP * alpha_t * sigma_s)
    rho_t = sigma_t / jnp.where(steep, 1.0, alpha_t)
    in_rho = (sigma_s - alpha_s * rho_t) * (noise_hat_s - noise_hat)
    in_inverse = (alpha_s - sigma_s * alpha_t / sigma_t) * (x0_hat_s - x0_hat)
    return euler + jnp.where(last, 0.0, 0.5 * jnp.where(steep, in_inverse, in_rho))


def _nothing_before(x: Image) -> tuple[Image, Scalar]:
    """(x0_hat, h) of the step before; h = 0: none yet."""
    dtype = wide_dtype(x.dtype)
    return jnp.zeros(x.shape, dtype), jnp.zeros((), dtype)


def _multistep(process: Process, denoise: Denoiser, x, carry, t, s, key) -> tuple[Image, Any]:
    """Equation (6)."""
    x0_prev, h_prev = carry
    x0_hat = denoise(x, t).astype(x0_prev.dtype)
    h = (0.5 * (process.logsnr(s) - process.logsnr(t))).astype(h_prev.dtype)
    second_order = (h_prev > 0.0) & jnp.isfinite(h)
    slope = jnp.where(second_order, h, 0.0) / (2.0 * jnp.where(second_order, h_prev, 1.0))
    x0_mid = x0_hat + slope * (x0_hat - x0_prev)
    x_s = process.sigma(s) / process.sigma(t) * x - process.alpha(s) * jnp.expm1(-h) * x0_mid
    return x_s, (x0_hat, h)
