"""A learned signal-to-noise ratio (variational diffusion models, Kingma et al. 2021, arXiv 2107.00630), and its bound.

    logsnr(t) = -gamma(t),    alpha^2 = sigmoid(-gamma),    sigma^2 = sigmoid(gamma),                          (1)
    gamma(t)  = gamma_0 + (gamma_1 - gamma_0) eta(t),                                                          (2)

where the ends are learned (`scalar`), or the rise eta from 0 to 1 as well, by a monotone network (`monotone`, appendix H):

    eta(t) ~ l_1(t) + l_3(sigmoid(l_2(l_1(t)))),  with positive weights, scaled to [0, 1].                     (3)

As steps get small the bound of `bound` becomes, in nats (their equations 11 to 17),

    -log p(x) <= KL(q(x_1 | x) | N(0, I)) + E[-log p(x | x_0)] + 1/2 E_t[gamma'(t) |noise - noise_hat|^2].     (4)

p(x | x_0) of a pixel is the softmax over its L levels v of -(x_0 - alpha_0 v)^2 / (2 sigma_0^2). The middle and the first term
train gamma_0 and gamma_1; of the last only its variance depends on eta, its mean on the ends alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import checks
from jaxdiff.diffusion.bound import LEVELS, prior_term
from jaxdiff.diffusion.losses import Losses, check_loss, examples, perturbed
from jaxdiff.diffusion.prediction import Kind, convert
from jaxdiff.diffusion.process import Process, as_float
from jaxdiff.types import Image, PRNGKey, PRNGKeys, Scalar, Time

__all__ = ["Trainable", "monotone", "scalar", "vdm"]

GAMMA_MIN, GAMMA_MAX = -13.3, 5.0


@dataclass(frozen=True)
class Trainable:
    """A process with parameters: what they are at first, and the process that they make."""

    init: Callable[[PRNGKey], Mapping[str, Any]]
    make: Callable[[Mapping[str, Any]], Process]


@dataclass(frozen=True, eq=False)
class LearnedLogsnr(Process):
    """Equations (1) to (3); `params` are "ends" [2] and, if eta is learned, "in", "hidden", "out"."""

    params: Mapping[str, Any] = field(default_factory=dict)

    def gamma(self, t: Time) -> Scalar:
        """Equation (2)."""
        t = as_float(t)
        low, high = self.params["ends"]
        share = t if "in" not in self.params else self._eta(t)
        return low + (high - low) * share

    def alpha(self, t: Time) -> Scalar:
        """sqrt(sigmoid(-gamma))."""
        return jnp.exp(0.5 * jax.nn.log_sigmoid(-self.gamma(t)))

    def sigma(self, t: Time) -> Scalar:
        """sqrt(sigmoid(gamma))."""
        return jnp.exp(0.5 * jax.nn.log_sigmoid(self.gamma(t)))

    def logsnr(self, t: Time) -> Scalar:
        """-gamma."""
        return -self.gamma(t)

    @property
    def prior_std(self) -> Scalar:
        """1."""
        return jnp.ones_like(as_float(1.0))

    def _eta(self, t: Scalar) -> Scalar:
        rise = lambda t: _rise(self.params, t)
        start, end = rise(jnp.zeros_like(t)), rise(jnp.ones_like(t))
        return (rise(t) - start) / (end - start)


def scalar(gamma_min: float = GAMMA_MIN, gamma_max: float = GAMMA_MAX) -> Trainable:
    """gamma linear between learned ends."""
    ends = _ends("scalar", gamma_min, gamma_max)
    return Trainable(lambda key: {"ends": jnp.asarray(ends)}, LearnedLogsnr)


def monotone(gamma_min: float = GAMMA_MIN, gamma_max: float = GAMMA_MAX, features: int = 1024) -> Trainable:
    """gamma of learned ends and a learned rise, equation (3), linear in t at first but for little.

    The bound does not depend on the rise, so its gradient is noise about 0 there; Kingma et al. train it by the loss squared.
    """
    ends = _ends("monotone", gamma_min, gamma_max)
    checks.count("monotone", features=features)

    def init(key: PRNGKey) -> dict[str, Any]:
        weight = lambda name, shape: 0.01 * jax.random.normal(jax.random.fold_in(key, name), shape)
        return {
            "ends": jnp.asarray(ends),
            "in": jnp.asarray([1.0, 0.0]),
            "hidden": {"weight": weight(0, (features,)), "bias": weight(1, (features,))},
            "out": weight(2, (features,)),
        }

    return Trainable(init, LearnedLogsnr)


def vdm(process: Process, kind: Kind, levels: int | None = None) -> Callable[..., Losses]:
    """Equation (4) in bits per dimension, with one t an example, as (predict, x0 [B, ...] in [-1, 1], t [B], keys [B]) -> [B].

    With `noise_levels.stratified` its variance is small. Gradients reach the parameters of the process.
    """
    check_loss("vdm", process, kind)
    levels = LEVELS if levels is None else levels
    checks.count("vdm", 2, levels=levels)
    return partial(_vdm, process, kind, levels)


def decoder(process: Process, x0: Image, x_0: Image, levels: int = LEVELS) -> Image:
    """-log p(x | x_0) of every pixel, in nats."""
    values = jnp.linspace(-1.0, 1.0, levels, dtype=x_0.dtype).reshape(*[1] * x_0.ndim, levels)
    alpha, sigma = process.alpha(0.0), process.sigma(0.0)
    logits = -0.5 * jnp.square((x_0[..., None] - alpha * values) / sigma)
    level = jnp.round(0.5 * (x0 + 1.0) * (levels - 1)).astype(int)
    chosen = jnp.take_along_axis(logits, level[..., None], axis=-1)[..., 0]
    return jax.nn.logsumexp(logits, axis=-1) - chosen


def _vdm(process: Process, kind: Kind, levels: int, predict: Callable, x0, t, keys: PRNGKeys) -> Losses:
    x0, t, keys = examples(x0, t, keys)
    noise, x_t = perturbed(process, x0, t, keys)
    output = predict(x_t, t)

    def bits(output, x_t, x0, noise, t, key):
        noise_hat = convert(process, kind, "eps", output, x_t, t)
        slope = -jax.grad(process.logsnr)(t)
        diffused = 0.5 * slope * jnp.sum(jnp.square(noise - noise_hat))
        first = jax.random.normal(jax.random.fold_in(key, 1), x0.shape, x0.dtype)
        x_0 = process.perturb(x0, first, 0.0)
        known = jnp.sum(decoder(process, x0, x_0, levels))
        return (diffused + known + prior_term(process, x0)) / (x0.size * np.log(2.0))

    return jax.vmap(bits)(output, x_t, x0, noise, t, keys).astype(t.dtype)


def _rise(params: Mapping[str, Any], t: Scalar) -> Scalar:
    positive = jnp.abs
    slope, offset = params["in"]
    first = positive(slope) * t + offset
    inner = jax.nn.sigmoid(positive(params["hidden"]["weight"]) * first + params["hidden"]["bias"])
    return first + jnp.sum(positive(params["out"]) * inner)


def _ends(who: str, gamma_min: float, gamma_max: float) -> tuple[float, float]:
    checks.number(who, "(-inf, inf)", gamma_min=gamma_min, gamma_max=gamma_max)
    if gamma_min >= gamma_max:
        raise ValueError(f"{who} needs gamma_min < gamma_max; got {gamma_min} and {gamma_max}.")
    return float(gamma_min), float(gamma_max)
