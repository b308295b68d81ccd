"""Denoising losses.

With x_t = alpha x0 + sigma noise and a network that predicts `kind` (see `prediction`), the loss of one example is

    L = w(t) mean over pixels of |output - target|^2.                                           (1)

Weights w are in `weights`, how training times are drawn in `noise_levels`.
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
from jaxdiff.diffusion.prediction import Kind, row_of, target
from jaxdiff.diffusion.process import Process, concrete
from jaxdiff.diffusion.weights import Weight
from jaxdiff.floats import wide_dtype
from jaxdiff.types import PRNGKeys

Losses = Float[Array, " batch"]


def denoising(process: Process, kind: Kind, weight: Weight) -> Callable[..., Losses]:
    """Equation (1) as (predict, x0 [B, ...], t [B], keys [B]) -> losses [B], in float32 at least.

    `predict(x_t, t)` is the batched network; each example draws its noise from its own key, in the type of x0, which is the
    type that the network sees. ValueError for integers, unequal lengths, times outside [0, 1], an output of another shape, and
    a weight that is infinite at t = 1.
    """
    check_loss("denoising", process, kind)
    checks.function("denoising", weight=weight)
    _finite_weight(process, kind, weight)
    return partial(_losses, process, kind, weight)


def check_loss(who: str, process: Process, kind: Kind) -> None:
    """ValueError unless these are a process and a kind of prediction."""
    checks.instance(who, Process, "VP()", process=process)
    row_of(kind)


def perturbed(process: Process, x0: Any, t: Any, keys: PRNGKeys) -> tuple[Array, Array]:
    """(noise, x_t) of a batch, every example with the noise of its key."""
    noise = jax.vmap(lambda key: jax.random.normal(key, x0.shape[1:], x0.dtype))(keys)
    return noise, jax.vmap(process.perturb)(x0, noise, t)


def squared(
    process: Process, kind: Kind, weight: Weight, predicted: Any, x0: Any, noise: Any, t: Any
) -> Losses:
    """Equation (1) of a batch, for what was predicted."""
    wanted = jax.vmap(lambda x0, noise, t: target(process, kind, x0, noise, t))(x0, noise, t)
    error = same_shape("denoising", predicted, x0) - wanted
    weights = jax.vmap(lambda t: weight(process, kind, t))(t)
    return (weights * jnp.mean(jnp.square(error), axis=tuple(range(1, x0.ndim)))).astype(t.dtype)


def _losses(process: Process, kind: Kind, weight: Weight, predict: Callable, x0, t, keys: PRNGKeys) -> Losses:
    x0, t, keys = examples(x0, t, keys)
    noise, x_t = perturbed(process, x0, t, keys)
    return squared(process, kind, weight, predict(x_t, t), x0, noise, t)


def examples(x0: Any, t: Any, keys: PRNGKeys) -> tuple[Array, Array, PRNGKeys]:
    """Images, times and keys of a batch; ValueError as `denoising` says."""
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
