"""Noise processes: how an image turns into noise.

A process is the family of marginals, for t from 0 (image) to 1 (noise),

    x_t = alpha(t) x0 + sigma(t) noise,    noise ~ N(0, I).                          (1)

It is the law at time t of the stochastic differential equation dx = f(t) x dt + g(t) dw with

    f = d/dt log alpha,                                                              (2)
    g^2 = d/dt sigma^2 - 2 f sigma^2,                                                (3)
    logsnr = 2 log(alpha / sigma).                                                   (4)

Two functions, alpha and sigma, are a process; (2) to (4) follow by differentiation, and the time of a given logsnr by halving
intervals, where a class has no closed form. Where alpha^2 + sigma^2 = 1 (variance preserving), one function is enough:
sigma^2 = 1 - alpha^2 and g^2 = -2 f.

An image may end in pure noise, alpha(1) = 0 (zero terminal SNR, Lin et al. 2023, arXiv 2305.08891): alpha and sigma are exact
there, and what is infinite (-logsnr, -f and g^2) is infinite, never NaN.

Times are scalars; batch with `jax.vmap`. References: Song et al. 2021 (arXiv 2011.13456), equations 29 and 33;
Kingma et al. 2021 (arXiv 2107.00630), section 3.
"""

import abc
import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, ScalarLike

from jaxdiff import checks
from jaxdiff.types import Image, Scalar, Time

__all__ = ["VP", "Cosine", "SubVP"]


@dataclasses.dataclass(frozen=True)
class Process(abc.ABC):
    """x_t = alpha(t) x0 + sigma(t) noise, with everything else derived from alpha and sigma."""

    @abc.abstractmethod
    def alpha(self, t: Time) -> Scalar:
        """Factor of the image at time t in [0, 1], equation (1)."""

    @abc.abstractmethod
    def sigma(self, t: Time) -> Scalar:
        """Standard deviation of the noise at time t in [0, 1], equation (1)."""

    def logsnr(self, t: Time) -> Scalar:
        """log(alpha^2 / sigma^2), equation (4); infinite where sigma is 0."""
        return 2.0 * (jnp.log(self.alpha(t)) - jnp.log(self.sigma(t)))

    @property
    def prior_std(self) -> Scalar:
        """The standard deviation of the noise from which samples begin at t = 1."""
        return self.sigma(1.0)

    def f(self, t: Time) -> Scalar:
        """Drift coefficient, equation (2)."""
        return jax.grad(lambda t: jnp.log(self.alpha(t)))(as_float(t))

    def g2(self, t: Time) -> Scalar:
        """Squared diffusion coefficient, equation (3)."""
        t = as_float(t)
        return jax.grad(lambda t: self.sigma(t) ** 2)(t) - 2.0 * self.f(t) * self.sigma(t) ** 2

    def time(self, logsnr: ScalarLike) -> Scalar:
        """The t in [0, 1] with this logsnr(t), the inverse of equation (4); of what no t has, the nearer end."""
        logsnr, low, high = as_float(logsnr), self.logsnr(1.0), self.logsnr(0.0)
        t = jnp.clip(self._time(jnp.clip(logsnr, low, high)), 0.0, 1.0)
        return jnp.where(logsnr >= high, 0.0, jnp.where(logsnr <= low, 1.0, t))

    def _time(self, logsnr: Scalar) -> Scalar:
        """The inverse, for a logsnr that there is."""
        return _halved(self.logsnr, logsnr)

    def lost(self, t: Time, s: Time) -> Scalar:
        """1 - SNR(t) / SNR(s): the share of the signal's ratio that is lost from s to t > s, without cancellation."""
        return -jnp.expm1(self.logsnr(t) - self.logsnr(s))

    def transition(self, t: Time, s: Time) -> tuple[Scalar, Scalar]:
        """(a, b) of the forward chain from s to t > s: x_t = a x_s + b noise."""
        return self.alpha(t) / self.alpha(s), self.sigma(t) * jnp.sqrt(self.lost(t, s))

    def perturb(self, x0: Image, noise: Image, t: Time) -> Image:
        """x_t of equation (1), in the type of the image."""
        return (self.alpha(t) * x0 + self.sigma(t) * noise).astype(jnp.result_type(x0))


@dataclasses.dataclass(frozen=True)
class VariancePreserving(Process):
    """alpha^2 + sigma^2 = 1, given by log alpha alone."""

    @abc.abstractmethod
    def log_alpha(self, t: Time) -> Scalar:
        """log alpha(t), accurate where it is close to 0."""

    def alpha(self, t: Time) -> Scalar:
        """exp(log alpha)."""
        return jnp.exp(self.log_alpha(t))

    def sigma(self, t: Time) -> Scalar:
        """sqrt(1 - alpha^2), without cancellation near t = 0."""
        return jnp.sqrt(-jnp.expm1(2.0 * self.log_alpha(t)))

    @property
    def prior_std(self) -> Scalar:
        """1: with alpha^2 times the variance of the data, about 1."""
        return jnp.ones_like(as_float(1.0))

    def f(self, t: Time) -> Scalar:
        """d/dt log alpha."""
        return jax.grad(self.log_alpha)(as_float(t))

    def g2(self, t: Time) -> Scalar:
        """-2 f: equation (3) with sigma^2 = 1 - alpha^2."""
        return -2.0 * self.f(t)


@dataclasses.dataclass(frozen=True)
class LinearBeta(Process):
    """alpha = exp(-1/2 of the integral of beta), beta linear in t: what `VP` and `SubVP` have in common."""

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self):
        name = type(self).__name__
        checks.number(name, "(0, inf)", beta_min=self.beta_min, beta_max=self.beta_max)
        if self.beta_min > self.beta_max:
            raise ValueError(f"{name} needs beta_min <= beta_max; got {self.beta_min} and {self.beta_max}.")

    def integral(self, t: Time) -> Scalar:
        """Of beta from 0 to t."""
        t = as_float(t)
        return self.beta_min * t + 0.5 * (self.beta_max - self.beta_min) * t**2

    def _time_of(self, integral: Scalar) -> Scalar:
        """The t with this integral."""
        rise = self.beta_max - self.beta_min
        return 2.0 * integral / (self.beta_min + jnp.sqrt(self.beta_min**2 + 2.0 * rise * integral))


@dataclasses.dataclass(frozen=True)
class VP(LinearBeta, VariancePreserving):
    """The variance-preserving SDE with linear beta(t) (Song et al. 2021, equation 32)."""

    def log_alpha(self, t: Time) -> Scalar:
        """-1/2 of the integral of beta from 0 to t."""
        return -0.5 * self.integral(t)

    def _time(self, logsnr: Scalar) -> Scalar:
        return self._time_of(jax.nn.softplus(-logsnr))


@dataclasses.dataclass(frozen=True)
class SubVP(LinearBeta):
    """The sub-variance-preserving SDE (Song et al. 2021, equation 28): alpha of `VP`, and sigma = 1 - alpha^2."""

    def alpha(self, t: Time) -> Scalar:
        """exp of -1/2 of the integral of beta from 0 to t."""
        return jnp.exp(-0.5 * self.integral(t))

    def sigma(self, t: Time) -> Scalar:
        """1 - alpha^2, without cancellation near t = 0."""
        return -jnp.expm1(-self.integral(t))

    def f(self, t: Time) -> Scalar:
        """-beta/2."""
        return -0.5 * jax.grad(self.integral)(as_float(t))

    def g2(self, t: Time) -> Scalar:
        """beta (1 - alpha^4)."""
        return 2.0 * self.f(t) * jnp.expm1(-2.0 * self.integral(t))

    def _time(self, logsnr: Scalar) -> Scalar:
        # alpha / (1 - alpha^2) = exp(logsnr / 2) is sinh(-log alpha) = exp(-logsnr / 2) / 2.
        return self._time_of(2.0 * jnp.arcsinh(0.5 * jnp.exp(-0.5 * logsnr)))


@dataclasses.dataclass(frozen=True)
class Cosine(VariancePreserving):
    """alpha = cos(angle(t)) / cos(angle(0)), angle(0) = pi/2 offset/(1 + offset) (Nichol and Dhariwal 2021, eq. 17).

    The angle runs linearly; it ends where alpha(1) = alpha_min, which plays the part of the paper's beta <= 0.999:
    with alpha_min = 0 the schedule is the paper's exactly, and ends in pure noise.
    """

    offset: float = 0.008
    alpha_min: float = 5e-5

    def __post_init__(self):
        checks.number("Cosine", "[0, inf)", offset=self.offset)
        checks.number("Cosine", "[0, 1)", alpha_min=self.alpha_min)

    def alpha(self, t: Time) -> Scalar:
        """The ratio of cosines."""
        early, lost, late = self._halves(t)
        return jnp.where(early, 1.0 - lost, late)

    def sigma(self, t: Time) -> Scalar:
        """sqrt((1 - alpha) (1 + alpha)), whose slope is finite where alpha is 0."""
        early, lost, late = self._halves(t)
        return jnp.sqrt(jnp.where(early, lost * (2.0 - lost), (1.0 - late) * (1.0 + late)))

    def log_alpha(self, t: Time) -> Scalar:
        """Its logarithm."""
        early, lost, late = self._halves(t)
        return jnp.where(early, jnp.log1p(-lost), jnp.log(late))

    def _time(self, logsnr: Scalar) -> Scalar:
        start, end = self._angles()
        lost = jax.nn.sigmoid(-logsnr) / (1.0 + jnp.sqrt(jax.nn.sigmoid(logsnr)))  # 1 - alpha
        angle = 2.0 * jnp.arcsin(jnp.sqrt(np.sin(0.5 * start) ** 2 + 0.5 * np.cos(start) * lost))
        return (angle - start) / (end - start)

    def _angles(self) -> tuple[float, float]:
        """angle(0) and angle(1)."""
        start = float(0.5 * np.pi * self.offset / (1.0 + self.offset))
        return start, float(np.arccos(self.alpha_min * np.cos(start)))

    def _halves(self, t: Time) -> tuple[Bool[Array, ""], Scalar, Scalar]:
        """Whether t < 1/2, where alpha is best as 1 - lost, an exact difference; and the sine of what is left, best later."""
        t = as_float(t)
        start, end = self._angles()
        early = t < 0.5
        half_turn = 0.5 * jnp.where(early, t, 0.0) * (end - start)
        lost = 2.0 * jnp.sin(start + half_turn) * jnp.sin(half_turn) / np.cos(start)
        left = 0.5 * np.pi - end + jnp.where(early, 0.0, 1.0 - t) * (end - start)
        # In a first half `late` is not used, and 1 keeps its logarithm finite there.
        return early, lost, jnp.where(early, 1.0, jnp.sin(left) / np.cos(start))


def concrete(function: Callable[[Time], Scalar], t: Time) -> float | None:
    """function(t) as a number, also while something else is traced; None if t or the process itself is traced."""
    if checks.traced(t):
        return None
    with jax.ensure_compile_time_eval():
        value = function(t)
    return None if checks.traced(value) else float(value)


def as_float(t: ScalarLike) -> Scalar:
    """A time, or a logsnr, in float32 at least."""
    return jnp.asarray(t, jnp.result_type(float, t))


def _halved(logsnr_of: Callable[[Time], Scalar], logsnr: Scalar) -> Scalar:
    """The t at which a falling function has this value: by halving [0, 1] as often as t has bits, then Newton's step, by which
    derivatives pass.
    """

    def halve(_, ends):
        low, high = ends
        middle = 0.5 * (low + high)
        above = logsnr_of(middle) > logsnr
        return jnp.where(above, middle, low), jnp.where(above, high, middle)

    ends = jnp.zeros_like(logsnr), jnp.ones_like(logsnr)
    low, high = jax.lax.fori_loop(0, jnp.finfo(logsnr.dtype).nmant + 2, halve, ends)
    t = jax.lax.stop_gradient(0.5 * (low + high))
    slope = jax.lax.stop_gradient(jax.grad(logsnr_of)(t))
    step = (logsnr - logsnr_of(t)) / jnp.where(slope == 0.0, 1.0, slope)
    return t + jnp.where(jnp.isfinite(step) & (slope != 0.0), step, 0.0)
