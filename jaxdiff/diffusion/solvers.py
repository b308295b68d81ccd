"""Solvers: one step over an interval, from time t down to s < t.

With x0_hat = denoise(x_t, t) and noise_hat = (x_t - alpha_t x0_hat) / sigma_t, and with

    ratio = SNR(t) / SNR(s) = exp(logsnr_t - logsnr_s)  in (0, 1),

ancestral steps (DDPM, Ho et al. 2020, equations 6 and 7; DDIM, Song et al. 2021, arXiv 2010.02502, equation 12) are

    x_s = alpha_s x0_hat + sigma_s sqrt(1 - eta^2 (1 - ratio)) noise_hat + std z,                    (1)
    posterior std = sigma_s sqrt(1 - ratio),    upper std = sigma_t sqrt(1 - ratio)  (Ho's beta_t).  (2)

The reverse SDE (Song et al. 2021, arXiv 2011.13456, equation 6) by Euler-Maruyama, dt = t - s:

    x_s = x_t - (f x_t - g^2 score) dt + g sqrt(dt) z.                                               (3)

The probability-flow ODE in y = x / alpha over rho = sigma / alpha is dy/drho = noise_hat (Karras et al. 2022,
equation 4): Euler's method on it is (1) with eta = 0, Heun's is `heun`. In h = (logsnr_s - logsnr_t) / 2, DPM-Solver++(2M)
(Lu et al. 2022, arXiv 2211.01095, algorithm 2) is

    x_s = sigma_s/sigma_t x_t + alpha_s (1 - exp(-h)) [x0_hat + h/(2 h_prev) (x0_hat - x0_hat_prev)].  (4)

All of them arrive at x0_hat where sigma_s = 0. The noise z of a step is `jax.random.normal(key, x.shape)`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdiff.diffusion.denoiser import score
from jaxdiff.diffusion.process import Process
from jaxdiff.types import Denoiser, Image, PRNGKey, Time

__all__ = ["ddim", "ddpm", "dpmpp_2m", "euler_maruyama", "heun"]


class Solver(NamedTuple):
    """init(x) -> carry and step(denoise, x, carry, t, s, key) -> (x, carry), one interval of time."""

    init: Callable[[Image], Any]
    step: Callable[[Denoiser, Image, Any, Time, Time, PRNGKey], tuple[Image, Any]]


def _memoryless(step) -> Solver:
    """A solver whose steps carry nothing from one to the next."""
    return Solver(
        init=lambda x: (),
        step=lambda denoise, x, carry, t, s, key: (step(denoise, x, t, s, key), carry),
    )


def _noise_hat(process: Process, x: Image, x0_hat: Image, t: Time) -> Image:
    return (x - process.alpha(t) * x0_hat) / process.sigma(t)


def _ancestral(process: Process, eta: float, std: Callable | None) -> Solver:
    """Equation (1); `std(t, s, lost)` with lost = 1 - ratio, or None for a deterministic step."""

    def step(denoise, x, t, s, key):
        x0_hat = denoise(x, t)
        lost = -jnp.expm1(process.logsnr(t) - process.logsnr(s))
        kept_noise = process.sigma(s) * jnp.sqrt(1.0 - eta**2 * lost)
        x_s = process.alpha(s) * x0_hat + kept_noise * _noise_hat(process, x, x0_hat, t)
        if std is None:
            return x_s
        return x_s + std(t, s, lost) * jax.random.normal(key, x.shape, x.dtype)

    return _memoryless(step)


def ddim(process: Process, eta: float = 0.0) -> Solver:
    """DDIM, equation (1): deterministic at eta = 0, DDPM with the posterior variance at eta = 1."""
    if not 0.0 <= eta <= 1.0:
        raise ValueError(f"ddim needs eta in [0, 1]; got {eta}.")
    std = lambda t, s, lost: eta * process.sigma(s) * jnp.sqrt(lost)  # noqa: E731
    return _ancestral(process, eta, None if eta == 0.0 else std)


def ddpm(process: Process, variance: str = "posterior") -> Solver:
    """Ancestral sampling (Ho et al. 2020, algorithm 2) with the "posterior" or the "upper" variance, equation (2)."""
    stds = {
        "posterior": lambda t, s, lost: process.sigma(s) * jnp.sqrt(lost),
        # The last step, to s = 0, is the mean in both (algorithm 2, z = 0 at t = 1).
        "upper": lambda t, s, lost: jnp.where(process.sigma(s) > 0, process.sigma(t) * jnp.sqrt(lost), 0.0),
    }
    if variance not in stds:
        raise ValueError(f"Unknown variance {variance!r}. Known: {sorted(stds)}.")
    return _ancestral(process, 1.0, stds[variance])


def euler_maruyama(process: Process) -> Solver:
    """The reverse SDE by Euler and Maruyama, equation (3); what DiffPure uses."""

    def step(denoise, x, t, s, key):
        drift = process.f(t) * x - process.g2(t) * score(process, denoise)(x, t)
        z = jax.random.normal(key, x.shape, x.dtype)
        return x - drift * (t - s) + jnp.sqrt(process.g2(t) * (t - s)) * z

    return _memoryless(step)


def heun(process: Process) -> Solver:
    """Heun's second-order method on the probability-flow ODE (Karras et al. 2022, algorithm 1)."""

    def step(denoise, x, t, s, key):
        rho_t, rho_s = process.sigma(t) / process.alpha(t), process.sigma(s) / process.alpha(s)
        slope = _noise_hat(process, x, denoise(x, t), t)
        euler = process.alpha(s) * (x / process.alpha(t) + (rho_s - rho_t) * slope)
        last = rho_s == 0.0
        end = jnp.where(last, t, s)  # any time with sigma > 0: the value is not used
        slope_s = jnp.where(last, slope, _noise_hat(process, euler, denoise(euler, end), end))
        return process.alpha(s) * (x / process.alpha(t) + (rho_s - rho_t) * 0.5 * (slope + slope_s))

    return _memoryless(step)


def dpmpp_2m(process: Process) -> Solver:
    """DPM-Solver++(2M), equation (4): second order with one evaluation a step; its first and last steps are DDIM's."""

    def init(x):
        return jnp.zeros_like(x), jnp.asarray(0.0, x.dtype)  # (x0_hat, h) of the step before; h = 0: none yet

    def step(denoise, x, carry, t, s, key):
        x0_prev, h_prev = carry
        x0_hat = denoise(x, t)
        h = (0.5 * (process.logsnr(s) - process.logsnr(t))).astype(x.dtype)
        second_order = (h_prev > 0.0) & jnp.isfinite(h)
        slope = jnp.where(second_order, h, 0.0) / (2.0 * jnp.where(second_order, h_prev, 1.0))
        x0_mid = x0_hat + slope * (x0_hat - x0_prev)
        x_s = process.sigma(s) / process.sigma(t) * x - process.alpha(s) * jnp.expm1(-h) * x0_mid
        return x_s, (x0_hat, h)

    return Solver(init, step)
