"""Denoising losses, their weights over noise levels, and how training times are drawn.

With x_t = alpha x0 + sigma noise and a network that predicts `kind` (see `prediction`), the loss of one example is

    L = w(t) mean over pixels of |output - target|^2.                                           (1)

L_simple (Ho et al. 2020, equation 14) is kind "eps" with w = 1. The bound on the likelihood (their equation 12) is eps with

    lambda_t = beta_t^2 / (2 var_t alpha_t (1 - alpha_bar_t)),                                  (2)

which for a step from t to s is, in this library's terms and for any process,

    lambda = (1 - ratio)^2 sigma_s^2 / (2 var ratio),    ratio = SNR(t) / SNR(s),               (3)

with var the posterior variance sigma_s^2 (1 - ratio) or the upper one sigma_t^2 (1 - ratio). As the steps get small, T times
(3) becomes -1/2 d/dt logsnr (Kingma et al. 2021, equation 17). Written for the squared error of x0, which is 1/SNR(t) times
that of the noise, these weights are

    T/2 (SNR(s) - SNR(t)),    T/2 (1 - ratio) (alpha_s/sigma_t)^2,    -1/2 d/dt SNR,            (4)

which stay finite where alpha_t = 0. They are translated to the kind in use, so that a weight means the same whatever the
network predicts; where alpha_t = 0 an error of eps or score says nothing of x0, and their weight is not finite.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxdiff import checks
from jaxdiff.diffusion.denoiser import same_shape
from jaxdiff.diffusion.prediction import Kind, error_scale, row_of, target
from jaxdiff.diffusion.process import Process, concrete
from jaxdiff.floats import wide_dtype
from jaxdiff.types import PRNGKey, PRNGKeys, Scalar, Time

__all__ = ["discrete_time", "elbo", "simple", "uniform_time"]

Weight = Callable[[Process, Kind, Time], Scalar]
Losses = Float[Array, " batch"]


def denoising(process: Process, kind: Kind, weight: Weight) -> Callable[..., Losses]:
    """Equation (1) as (predict, x0 [B, ...], t [B], keys [B]) -> losses [B], in float32 at least.

    `predict(x_t, t)` is the batched network; each example draws its noise from its own key, in the type of x0, which is the
    type that the network sees. ValueError for integers, unequal lengths, times outside [0, 1], an output of another shape, and
    a weight that is infinite at t = 1.
    """
    checks.instance("denoising", Process, "VP()", process=process)
    row_of(kind)
    checks.function("denoising", weight=weight)
    _finite_weight(process, kind, weight)
    return partial(_losses, process, kind, weight)


def _losses(process: Process, kind: Kind, weight: Weight, predict: Callable, x0, t, keys: PRNGKeys) -> Losses:
    x0, t, keys = _examples(x0, t, keys)
    noise = jax.vmap(lambda key: jax.random.normal(key, x0.shape[1:], x0.dtype))(keys)
    x_t = jax.vmap(process.perturb)(x0, noise, t)
    wanted = jax.vmap(lambda x0, noise, t: target(process, kind, x0, noise, t))(x0, noise, t)
    error = same_shape("denoising", predict(x_t, t), x0) - wanted
    weights = jax.vmap(lambda t: weight(process, kind, t))(t)
    return (weights * jnp.mean(jnp.square(error), axis=tuple(range(1, x0.ndim)))).astype(t.dtype)


def _examples(x0: Any, t: Any, keys: PRNGKeys) -> tuple[Array, Array, PRNGKeys]:
    x0, t = checks.floats("denoising", x0), checks.floats("denoising", t, "times")
    if x0.ndim < 2:
        raise ValueError(f"denoising takes a batch [B, ...] of images; got shape {x0.shape}.")
    if t.shape != x0.shape[:1]:
        raise ValueError(
            f"denoising needs a time for every image, shape ({len(x0)},); got {t.shape}. "
            f"For one time for all use jnp.full({len(x0)}, t)."
        )
    if not checks.traced(t):
        values = np.asarray(t, np.float64)
        if not ((values >= 0.0) & (values <= 1.0)).all():
            raise ValueError(
                f"denoising needs times in [0, 1]; got values from {values.min():g} to {values.max():g}. "
                "For numbers of steps divide by their total."
            )
    return x0, t.astype(wide_dtype(x0.dtype)), checks.keys("denoising", keys, len(x0))


def _finite_weight(process: Process, kind: Kind, weight: Weight) -> None:
    """ValueError for a weight that is known and not finite at t = 1."""
    value = concrete(lambda t: weight(process, kind, jnp.asarray(t)), 1.0)
    if value is not None and not np.isfinite(value):
        raise ValueError(
            f"denoising: this weight of kind {kind!r} is not finite at t = 1. Where alpha = 0, an error of the noise says "
            "nothing of the image: predict 'v' or 'x0', weigh with `simple`, or end the process with a little signal."
        )


def simple() -> Weight:
    """w = 1 on the squared error of what the network predicts; with kind "eps", Ho et al.'s L_simple."""
    return _one


def _one(process: Process, kind: Kind, t: Time) -> Scalar:
    return jnp.ones_like(t)


def elbo(steps: int | None = None, variance: str = "upper") -> Weight:
    """The weight of the bound on the likelihood in nats: equation (3) times `steps`, or its limit if `steps` is None.

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
    """Equation (4)."""
    snr = lambda t: jnp.square(process.alpha(t) / process.sigma(t))
    if steps is None:
        return -0.5 * jax.grad(snr)(t)
    s = t - 1.0 / steps
    if variance == "posterior":
        return 0.5 * steps * (snr(s) - snr(t))
    lost = -jnp.expm1(process.logsnr(t) - process.logsnr(s))
    return 0.5 * steps * lost * jnp.square(process.alpha(s) / process.sigma(t))


def uniform_time(t_min: float = 1e-5) -> Callable[[PRNGKey], Scalar]:
    """key -> t uniform in [t_min, 1] (Song et al. 2021 train with t_min = 1e-5)."""
    checks.number("uniform_time", "(0, 1)", t_min=t_min)
    return partial(_uniform_time, t_min)


def _uniform_time(t_min: float, key: PRNGKey) -> Scalar:
    return jax.random.uniform(checks.key("uniform_time", key), minval=t_min, maxval=1.0)


def discrete_time(steps: int = 1000) -> Callable[[PRNGKey], Scalar]:
    """key -> t = i/steps with i uniform in 1 ... steps (Ho et al. 2020, algorithm 1)."""
    checks.count("discrete_time", steps=steps)
    return partial(_discrete_time, steps)


def _discrete_time(steps: int, key: PRNGKey) -> Scalar:
    return jax.random.randint(checks.key("discrete_time", key), (), 1, steps + 1) / steps
