"""Solvers that remember: an order more for an evaluation a step.

In h = (logsnr_s - logsnr_t) / 2, with D the x0_hat of this step, D' and D'' those before and h', h'' their steps, DPM-Solver++
(Lu et al. 2022, arXiv 2211.01095, algorithm 2 and appendix) is

    2M      x_s = sigma_s/sigma_t x_t + alpha_s (1 - exp(-h)) [D + h/(2 h') (D - D')],                       (1)
    2M SDE  x_s = sigma_s/sigma_t exp(-h) x_t + alpha_s (1 - exp(-2h)) [D + h/(2 h') (D - D')]
                  + sigma_s sqrt(1 - exp(-2h)) z,                                                            (2)
    3M      x_s = sigma_s/sigma_t x_t + alpha_s [-e1 D + (e1/h + 1) D1 - ((e1 + h)/h^2 - 1/2) D2],           (3)

with e1 = exp(-h) - 1, and D1, D2 the first and second derivative (times h, h^2) of the parabola through D, D', D''. (The
programs in use take half of D2, which leaves a term of the second order.)

UniPC (Zhao et al. 2023, arXiv 2302.04867, algorithm with B(h) = exp(-h) - 1, order 2) corrects the state at t by what was just
seen there before it goes on: with P = sigma_t/sigma' x' - alpha_t (exp(-h') - 1) D' the step that led to t,

    x_t <- P - alpha_t (exp(-h') - 1) [r1 (D'' - D')/r + r2 (D - D')],    r = -h''/h',                       (4)

r1 + r2 = b1, r r1 + r2 = b2, b1 = (e1'/(-h') - 1)/e1', b2 = 2 ((e1'/(-h') - 1)/(-h') - 1/2)/e1'; then (1).

First steps are of the order that they can be, and so is the last, over an infinite h, to sigma = 0. After an infinite first
step, from alpha = 0, the next ones are the limits of those after a long one.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxdiff import checks
from jaxdiff.diffusion.process import Process
from jaxdiff.diffusion.solvers.solver import Solver
from jaxdiff.floats import wide_dtype
from jaxdiff.types import Denoiser, Image, Scalar, Time

__all__ = ["dpmpp_2m", "dpmpp_2m_sde", "dpmpp_3m", "unipc"]


def dpmpp_2m(process: Process) -> Solver:
    """DPM-Solver++(2M), equation (1): second order with one evaluation a step; its first and last steps are DDIM's."""
    checks.instance("dpmpp_2m", Process, "VP()", process=process)
    return Solver(_nothing_before, partial(_second_order, process))


def dpmpp_2m_sde(process: Process) -> Solver:
    """SDE-DPM-Solver++(2M), equation (2): the reverse SDE; its first and last steps are DDPM's."""
    checks.instance("dpmpp_2m_sde", Process, "VP()", process=process)
    return Solver(_nothing_before, partial(_second_order_sde, process))


def dpmpp_3m(process: Process) -> Solver:
    """DPM-Solver++(3M), equation (3): steps of third order with one evaluation each, after one of DDIM's and one of (1)."""
    checks.instance("dpmpp_3m", Process, "VP()", process=process)
    return Solver(_nothing_before_twice, partial(_third_order, process))


def unipc(process: Process) -> Solver:
    """UniPC of order 2, equations (4) and (1): third order with one evaluation a step, for the corrector adds one."""
    checks.instance("unipc", Process, "VP()", process=process)
    return Solver(_nothing_corrected, partial(_predict_correct, process))


def _nothing_before(x: Image) -> tuple[Image, Scalar]:
    """(x0_hat, h) of the step before; h = 0: none yet."""
    dtype = wide_dtype(x.dtype)
    return jnp.zeros(x.shape, dtype), jnp.zeros((), dtype)


def _nothing_before_twice(x: Image) -> tuple[Image, Scalar, Image, Scalar]:
    return _nothing_before(x) + _nothing_before(x)


def _nothing_corrected(x: Image) -> tuple[Any, ...]:
    """The state and its sigma at the step before, and (x0_hat, h) of two steps before."""
    dtype = wide_dtype(x.dtype)
    return (jnp.zeros(x.shape, dtype), jnp.ones((), dtype), *_nothing_before_twice(x))


def _step_in_logsnr(process: Process, t: Time, s: Time, dtype: Any) -> Scalar:
    return (0.5 * (process.logsnr(s) - process.logsnr(t))).astype(dtype)


def _slope(h: Scalar, h_prev: Scalar, x0_hat: Image, x0_prev: Image) -> Image:
    """h/h' (D - D'); 0 without a step before, or over an infinite one."""
    there = (h_prev > 0.0) & jnp.isfinite(h_prev) & jnp.isfinite(h)
    return jnp.where(there, h, 0.0) / jnp.where(there, h_prev, 1.0) * (x0_hat - x0_prev)


def _second_order(process: Process, denoise: Denoiser, x, carry, t, s, key) -> tuple[Image, Any]:
    """Equation (1)."""
    x0_prev, h_prev = carry
    x0_hat = denoise(x, t).astype(x0_prev.dtype)
    h = _step_in_logsnr(process, t, s, h_prev.dtype)
    x0_mid = x0_hat + 0.5 * _slope(h, h_prev, x0_hat, x0_prev)
    x_s = process.sigma(s) / process.sigma(t) * x - process.alpha(s) * jnp.expm1(-h) * x0_mid
    return x_s, (x0_hat, h)


def _second_order_sde(process: Process, denoise: Denoiser, x, carry, t, s, key) -> tuple[Image, Any]:
    """Equation (2)."""
    x0_prev, h_prev = carry
    x0_hat = denoise(x, t).astype(x0_prev.dtype)
    h = _step_in_logsnr(process, t, s, h_prev.dtype)
    x0_mid = x0_hat + 0.5 * _slope(h, h_prev, x0_hat, x0_prev)
    lost = -jnp.expm1(-2.0 * h)
    mean = process.sigma(s) / process.sigma(t) * jnp.exp(-h) * x + process.alpha(s) * lost * x0_mid
    std = process.sigma(s) * jnp.sqrt(lost)
    return mean + std * jax.random.normal(key, x.shape, x.dtype), (x0_hat, h)


def _third_order(process: Process, denoise: Denoiser, x, carry, t, s, key) -> tuple[Image, Any]:
    """Equation (3)."""
    x0_prev, h_prev, x0_before, h_before = carry
    x0_hat = denoise(x, t).astype(x0_prev.dtype)
    h = _step_in_logsnr(process, t, s, h_prev.dtype)
    near, far = _slope(h, h_prev, x0_hat, x0_prev), _slope(h, h_before, x0_prev, x0_before)
    whole = (h_prev > 0.0) & (h_before > 0.0) & jnp.isfinite(h) & jnp.isfinite(h_prev)
    h_, near_h, far_h = (jnp.where(whole, each, 1.0) for each in (h, h_prev, h_before))
    first = near + near_h / (near_h + far_h) * (near - far)
    second = 2.0 * h_ / (near_h + far_h) * (near - far)
    lost = jnp.expm1(-h)
    e1 = jnp.expm1(-h_)
    third = (e1 / h_ + 1.0) * first - ((e1 + h_) / h_**2 - 0.5) * second
    added = jnp.where(whole, third, -0.5 * lost * near)
    x_s = process.sigma(s) / process.sigma(t) * x + process.alpha(s) * (added - lost * x0_hat)
    return x_s, (x0_hat, h, x0_prev, h_prev)


def _predict_correct(process: Process, denoise: Denoiser, x, carry, t, s, key) -> tuple[Image, Any]:
    """Equations (4) and (1)."""
    x_prev, sigma_prev, x0_prev, h_prev, x0_before, h_before = carry
    x0_hat, sigma_t = denoise(x, t).astype(x0_prev.dtype), process.sigma(t)
    h = _step_in_logsnr(process, t, s, h_prev.dtype)
    corrects = h_prev > 0.0
    twice = corrects & (h_before > 0.0)
    step = jnp.where(corrects, h_prev, 1.0)
    e1, ratio = jnp.expm1(-step), jnp.where(twice, -h_before / step, -1.0)
    b1 = (e1 / -step - 1.0) / e1
    b2 = 2.0 * ((e1 / -step - 1.0) / -step - 0.5) / e1
    r1 = jnp.where(twice, (b1 - b2) / (1.0 - ratio), 0.0)
    r2 = jnp.where(twice, b1 - r1, 0.5)
    bend = r1 * (x0_before - x0_prev) / ratio + r2 * (x0_hat - x0_prev)
    corrected = sigma_t / sigma_prev * x_prev - process.alpha(t) * e1 * (x0_prev + bend)
    x_t = jnp.where(corrects, corrected, x.astype(x_prev.dtype))
    x0_mid = x0_hat + 0.5 * _slope(h, h_prev, x0_hat, x0_prev)
    x_s = process.sigma(s) / sigma_t * x_t - process.alpha(s) * jnp.expm1(-h) * x0_mid
    return x_s, (x_t, sigma_t.astype(sigma_prev.dtype), x0_hat, h, x0_prev, h_prev)
