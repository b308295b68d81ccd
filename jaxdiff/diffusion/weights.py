"""Weights of a denoising loss over noise levels.

A weight w(process, kind, t) multiplies the squared error of what a network of this kind predicts (see `losses`).

L_simple (Ho et al. 2020, equation 14) is kind "eps" with w = 1, and so is the sum over levels of sigma_j^2 times the score
matching loss at sigma_j (Song and Ermon 2019). The bound on the likelihood (Ho et al.'s equation 12) is eps with

    lambda_t = beta_t^2 / (2 var_t alpha_t (1 - alpha_bar_t)),                                  (1)

which for a step from t to s is, in this library's terms and for any process,

    lambda = (1 - ratio)^2 sigma_s^2 / (2 var ratio),    ratio = SNR(t) / SNR(s),               (2)

with var the posterior variance sigma_s^2 (1 - ratio) or the upper one sigma_t^2 (1 - ratio). As the steps get small, T times
(2) becomes -1/2 d/dt logsnr (Kingma et al. 2021, equation 17). Written for the squared error of x0, which is 1/SNR(t) times
that of the noise, these weights are

    T/2 (SNR(s) - SNR(t)),    T/2 (1 - ratio) (alpha_s/sigma_t)^2,    -1/2 d/dt SNR,            (3)

which stay finite where alpha_t = 0. They are translated to the kind in use, so that a weight means the same whatever the
network predicts; where alpha_t = 0 an error of eps or score says nothing of x0, and their weight is not finite.

In these terms, written for the squared error of x0 again,

    min-SNR   min(SNR(t), gamma)                                  (Hang et al. 2023)                (4)
    EDM       S^2 / (sigma sigma_data)^2,  S as in `prediction`   (Karras et al. 2022, table 1)     (5)

(5) is w = 1 of the kind "edm". The weighting by g^2 of the score's error, under which the loss bounds the likelihood (Song et
al. 2021, arXiv 2101.09258, equation 7), is the last of (3).
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from jaxdiff import checks
from jaxdiff.diffusion.prediction import SIGMA_DATA, Kind, edm_scale, error_scale
from jaxdiff.diffusion.process import Process
from jaxdiff.types import Scalar, Time

__all__ = ["edm", "elbo", "min_snr", "simple"]

Weight = Callable[[Process, Kind, Time], Scalar]


def simple() -> Weight:
    """w = 1 on the squared error of what the network predicts; with kind "eps", Ho et al.'s L_simple."""
    return _one


def _one(process: Process, kind: Kind, t: Time) -> Scalar:
    return jnp.ones_like(t)


def elbo(steps: int | None = None, variance: str = "upper") -> Weight:
    """The weight of the bound on the likelihood in nats: equation (2) times `steps`, or its limit if `steps` is None.

    The mean over uniform t of the weighted loss is the sum of the bound's T terms, per pixel. The first step (s = 0)
    has a finite weight only with the "upper" variance, as in Ho et al.
    """
    checks.known("elbo", ("posterior", "upper"), variance=variance)
    if steps is not None:
        checks.count("elbo", steps=steps)
    return partial(_elbo, steps, variance)


def _elbo(steps: int | None, variance: str, process: Process, kind: Kind, t: Time) -> Scalar:
    return _x0_weight(process, t, steps, variance) / error_scale(process, kind, t)


def _x0_weight(process: Process, t: Time, steps: int | None, variance: str) -> Scalar:
    """Equation (3)."""
    snr = lambda t: jnp.square(process.alpha(t) / process.sigma(t))
    if steps is None:
        return -0.5 * jax.grad(snr)(t)
    s = t - 1.0 / steps
    if variance == "posterior":
        return 0.5 * steps * (snr(s) - snr(t))
    lost = process.lost(t, s)
    return 0.5 * steps * lost * jnp.square(process.alpha(s) / process.sigma(t))


def min_snr(gamma: float = 5.0) -> Weight:
    """Equation (4): steps of much signal count no more than those of SNR = gamma."""
    checks.number("min_snr", "(0, inf)", gamma=gamma)
    return partial(_min_snr, gamma)


def _min_snr(gamma: float, process: Process, kind: Kind, t: Time) -> Scalar:
    return jnp.minimum(jnp.exp(process.logsnr(t)), gamma) / error_scale(process, kind, t)


def edm(sigma_data: float = SIGMA_DATA) -> Weight:
    """Equation (5), whatever the network predicts."""
    checks.number("edm", "(0, inf)", sigma_data=sigma_data)
    return partial(_edm, sigma_data)


def _edm(sigma_data: float, process: Process, kind: Kind, t: Time) -> Scalar:
    inverse = edm_scale(process, sigma_data, t) / (process.sigma(t) * sigma_data)
    return jnp.square(inverse) / error_scale(process, kind, t)
