"""Ancestral and other stochastic solvers of the first order.

With x0_hat, noise_hat and ratio as in `solver`, ancestral steps (DDPM, Ho et al. 2020, equations 6 and 7; DDIM, Song et al.
2021, arXiv 2010.02502, equation 12) are

    x_s = alpha_s x0_hat + sigma_s sqrt(1 - eta^2 (1 - ratio)) noise_hat + std z,                    (1)
    posterior std = sigma_s sqrt(1 - ratio),    upper std = sigma_t sqrt(1 - ratio)  (Ho's beta_t).  (2)

The reverse SDE (Song et al. 2021, arXiv 2011.13456, equation 6) by Euler-Maruyama, dt = t - s:

    x_s = x_t - (f x_t - g^2 score) dt + g sqrt(dt) z.                                               (3)

Their reverse diffusion (appendix E) discretises it as the forward chain goes: with x_t = a x_s + b z, a = alpha_t / alpha_s and
b^2 = sigma_t^2 - a^2 sigma_s^2,

    x_s = (2 - a) x_t + b^2 score + b z.                                                             (4)

(1) is written in x0_hat and noise_hat, so that it has its limit where alpha_t = 0 (zero terminal SNR): it begins there, and
arrives at x0_hat where sigma_s = 0. (3) does not begin where alpha_t = 0, f and g^2 being infinite. It arrives, as (4) does,
at its own mean plus noise, or at the mean alone (`noise_removal`).

Multistep consistency sampling (Song et al. 2023, arXiv 2303.01469, algorithm 1) keeps nothing of the noise,

    x_s = alpha_s x0_hat + sigma_s z,                                                (5)

which is right where x0_hat is an image, as that of a consistency model is, and not the mean of images.
"""

from functools import partial

import jax
import jax.numpy as jnp

from jaxdiff import checks
from jaxdiff.diffusion.denoiser import score
from jaxdiff.diffusion.process import Process
from jaxdiff.diffusion.solvers.solver import Solver, both, finite_drift, memoryless
from jaxdiff.diffusion.variance import Share, between
from jaxdiff.types import Denoiser, Image, Scalar, Time

__all__ = ["ddim", "ddpm", "euler_maruyama", "renoised", "reverse_diffusion"]


def ddim(process: Process, eta: float = 0.0) -> Solver:
    """DDIM, equation (1): deterministic at eta = 0, DDPM with the posterior variance at eta = 1."""
    checks.instance("ddim", Process, "VP()", process=process)
    checks.number("ddim", "[0, 1]", eta=eta)
    return memoryless(partial(_ancestral, process, eta, "posterior"))


def ddpm(process: Process, variance: str | Share = "posterior") -> Solver:
    """Ancestral sampling (Ho et al. 2020, algorithm 2) with the "posterior" or the "upper" variance, equation (2), or with
    learned ones: a function (x_t, t) -> v of `variance` (Nichol and Dhariwal 2021), such as that of a `ScoreModel`.
    """
    checks.instance("ddpm", Process, "VP()", process=process)
    if callable(variance):
        return memoryless(partial(_learned, process, variance))
    checks.known("ddpm", STDS, variance=variance)
    return memoryless(partial(_ancestral, process, 1.0, variance))


def euler_maruyama(process: Process, noise_removal: bool = False) -> Solver:
    """The reverse SDE by Euler and Maruyama, equation (3); what DiffPure uses, to whom the last step is as noisy as the others.

    With `noise_removal` a step to a time without noise (sigma_s = 0) is its mean, as in the samplers of Song et al. 2021,
    after Jolicoeur-Martineau et al. 2021 (arXiv 2009.05475). A grid that begins where alpha = 0 is refused.
    """
    checks.instance("euler_maruyama", Process, "VP()", process=process)
    checks.instance("euler_maruyama", bool, "True", noise_removal=noise_removal)
    return memoryless(
        partial(_reverse_sde, process, noise_removal), partial(finite_drift, "euler_maruyama", process)
    )


def reverse_diffusion(process: Process, noise_removal: bool = False) -> Solver:
    """The reverse SDE in the steps of the forward chain, equation (4); `noise_removal` as in `euler_maruyama`."""
    checks.instance("reverse_diffusion", Process, "VE()", process=process)
    checks.instance("reverse_diffusion", bool, "True", noise_removal=noise_removal)
    return memoryless(partial(_reverse_diffusion, process, noise_removal))


def renoised(process: Process) -> Solver:
    """Equation (5), for the few steps of a consistency model."""
    checks.instance("renoised", Process, "EDM()", process=process)
    return memoryless(partial(_renoised, process))


def _renoised(process: Process, denoise: Denoiser, x, t, s, key) -> Image:
    return process.alpha(s) * denoise(x, t) + process.sigma(s) * jax.random.normal(key, x.shape, x.dtype)


def _posterior_std(process: Process, t: Time, s: Time, lost: Scalar) -> Scalar:
    return process.sigma(s) * jnp.sqrt(lost)


def _upper_std(process: Process, t: Time, s: Time, lost: Scalar) -> Scalar:
    # The last step, to s = 0, is the mean in both (algorithm 2, z = 0 at t = 1).
    return jnp.where(process.sigma(s) > 0, process.sigma(t) * jnp.sqrt(lost), 0.0)


STDS = {"posterior": _posterior_std, "upper": _upper_std}


def _ancestral(process: Process, eta: float, variance: str, denoise: Denoiser, x, t, s, key) -> Image:
    """Equation (1)."""
    mean = _mean(process, eta, denoise, x, t, s)
    if eta == 0.0:
        return mean
    std = STDS[variance](process, t, s, process.lost(t, s))
    return mean + eta * std * jax.random.normal(key, x.shape, x.dtype)


def _mean(process: Process, eta: float, denoise: Denoiser, x, t, s) -> Image:
    """Equation (1) without its noise."""
    x0_hat, noise_hat = both(process, denoise, x, t)
    kept = process.sigma(s) * jnp.sqrt(1.0 - eta**2 * process.lost(t, s))
    return process.alpha(s) * x0_hat + kept * noise_hat


def _learned(process: Process, share: Share, denoise: Denoiser, x, t, s, key) -> Image:
    """Equation (1) at eta = 1 with a std between those of equation (2)."""
    tiny = jnp.finfo(jnp.result_type(float, t)).tiny  # of the last step, to s = 0, which is the mean
    std = jnp.sqrt(between(process, share(x, t), t, s, first=tiny))
    std = jnp.where(process.sigma(s) > 0, std, 0.0)
    return _mean(process, 1.0, denoise, x, t, s) + std * jax.random.normal(key, x.shape, x.dtype)


def _reverse_sde(process: Process, noise_removal: bool, denoise: Denoiser, x, t, s, key) -> Image:
    """Equation (3)."""
    drift = process.f(t) * x - process.g2(t) * score(process, denoise)(x, t)
    std = jnp.sqrt(process.g2(t) * (t - s))
    return (
        x
        - drift * (t - s)
        + _last_removed(noise_removal, process, s, std) * jax.random.normal(key, x.shape, x.dtype)
    )


def _reverse_diffusion(process: Process, noise_removal: bool, denoise: Denoiser, x, t, s, key) -> Image:
    """Equation (4)."""
    a, b = process.transition(t, s)
    mean = (2.0 - a) * x + b**2 * score(process, denoise)(x, t)
    return mean + _last_removed(noise_removal, process, s, b) * jax.random.normal(key, x.shape, x.dtype)


def _last_removed(noise_removal: bool, process: Process, s: Time, std: Scalar) -> Scalar:
    """std, or 0 where the step ends without noise and that is asked for."""
    return jnp.where(process.sigma(s) > 0, std, 0.0) if noise_removal else std
