"""Variances of a step from t down to s: those of DDPM, and learned ones between them.

With ratio = SNR(t) / SNR(s),

    posterior = sigma_s^2 (1 - ratio),    upper = sigma_t^2 (1 - ratio)  (Ho et al. 2020: beta~_t and beta_t),     (1)
    learned   = exp(v log upper + (1 - v) log posterior)  (Nichol and Dhariwal 2021, equation 15),                (2)

where a network says the share v of every pixel: it has twice the channels of an image, and the second half is 2 v - 1.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax.numpy as jnp
from jaxtyping import ScalarLike

from jaxdiff.diffusion.process import Process
from jaxdiff.types import Image, Net, Scalar, Time

Share = Callable[[Image, Time], Image]  # (x_t, t) -> v in [0, 1] of equation (2)
SHARES = {"posterior": 0.0, "upper": 1.0}


def posterior_variance(process: Process, t: Time, s: Time) -> Scalar:
    """The first of equation (1)."""
    return process.sigma(s) ** 2 * process.lost(t, s)


def upper_variance(process: Process, t: Time, s: Time) -> Scalar:
    """The second of equation (1)."""
    return process.sigma(t) ** 2 * process.lost(t, s)


def between(process: Process, share: Image | float, t: Time, s: Time, first: ScalarLike) -> Image | Scalar:
    """Equation (2), with `first` for the posterior variance where that is 0."""
    low = posterior_variance(process, t, s)
    low = jnp.log(jnp.where(low > 0.0, low, first))
    return jnp.exp(share * jnp.log(upper_variance(process, t, s)) + (1.0 - share) * low)


def halves(output: Any) -> tuple[Any, Any]:
    """(what is predicted, the shares v) of an output [..., 2 channels], of one image or of a batch."""
    predicted, said = jnp.split(output, 2, axis=-1)
    return predicted, 0.5 * (said + 1.0)


def predicted_half(net: Net) -> Net:
    """What the net predicts, without its variances."""
    return partial(_half, net, 0)


def share_half(net: Net) -> Share:
    """The shares v that the net says."""
    return partial(_half, net, 1)


def _half(net: Net, which: int, x_t: Image, t: Time) -> Image:
    return halves(net(x_t, t))[which]
