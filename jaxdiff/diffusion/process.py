"""Noise processes: how an image turns into noise.

A process is the family of marginals, for t from 0 (image) to 1 (noise),

    x_t = alpha(t) x0 + sigma(t) noise,    noise ~ N(0, I).                          (1)

It is the law at time t of the stochastic differential equation dx = f(t) x dt + g(t) dw with

    f = d/dt log alpha,                                                              (2)
    g^2 = d/dt sigma^2 - 2 f sigma^2,                                                (3)
    logsnr = 2 log(alpha / sigma).                                                   (4)

Two functions, alpha and sigma, are a process; (2) to (4) follow by differentiation. Where alpha^2 + sigma^2 = 1
(variance preserving), one function is enough: sigma^2 = 1 - alpha^2 and g^2 = -2 f.

An image may end in pure noise, alpha(1) = 0 (zero terminal SNR, Lin et al. 2023, arXiv 2305.08891): alpha and sigma are exact
there, and what is infinite (-logsnr, -f and g^2) is infinite, never NaN.

Times are scalars; batch with `jax.vmap`. References: Song et al. 2021 (arXiv 2011.13456), equations 29 and 33;
Kingma et al. 2021 (arXiv 2107.00630), section 3.
"""

import abc
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxdiff import checks
from jaxdiff.types import Image, Scalar, Time

__all__ = ["VP", "Cosine", "Discrete", "linear"]


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

    def f(self, t: Time) -> Scalar:
        """Drift coefficient, equation (2)."""
        return jax.grad(lambda t: jnp.log(self.alpha(t)))(_float(t))

    def g2(self, t: Time) -> Scalar:
        """Squared diffusion coefficient, equation (3)."""
        t = _float(t)
        return jax.grad(lambda t: self.sigma(t) ** 2)(t) - 2.0 * self.f(t) * self.sigma(t) ** 2

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

    def f(self, t: Time) -> Scalar:
        """d/dt log alpha."""
        return jax.grad(self.log_alpha)(_float(t))

    def g2(self, t: Time) -> Scalar:
        """-2 f: equation (3) with sigma^2 = 1 - alpha^2."""
        return -2.0 * self.f(t)


@dataclasses.dataclass(frozen=True)
class VP(VariancePreserving):
    """The variance-preserving SDE with linear beta(t) (Song et al. 2021, equation 32)."""

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self):
        checks.number("VP", "(0, inf)", beta_min=self.beta_min, beta_max=self.beta_max)
        if self.beta_min > self.beta_max:
            raise ValueError(f"VP needs beta_min <= beta_max; got {self.beta_min} and {self.beta_max}.")

    def log_alpha(self, t: Time) -> Scalar:
        """-1/2 of the integral of beta from 0 to t."""
        t = _float(t)
        return -0.5 * (self.beta_min * t + 0.5 * (self.beta_max - self.beta_min) * t**2)


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

    def _halves(self, t: Time) -> tuple[Bool[Array, ""], Scalar, Scalar]:
        """Whether t < 1/2, where alpha is best as 1 - lost, an exact difference; and the sine of what is left, best later."""
        t = _float(t)
        start = float(0.5 * np.pi * self.offset / (1.0 + self.offset))
        end = float(np.arccos(self.alpha_min * np.cos(start)))
        early = t < 0.5
        half_turn = 0.5 * jnp.where(early, t, 0.0) * (end - start)
        lost = 2.0 * jnp.sin(start + half_turn) * jnp.sin(half_turn) / np.cos(start)
        left = 0.5 * np.pi - end + jnp.where(early, 0.0, 1.0 - t) * (end - start)
        # In a first half `late` is not used, and 1 keeps its logarithm finite there.
        return early, lost, jnp.where(early, 1.0, jnp.sin(left) / np.cos(start))


@dataclasses.dataclass(frozen=True)
class Discrete(VariancePreserving):
    """A table of betas, as in DDPM (Ho et al. 2020): step i of T is at t = i/T, and alpha(i/T)^2 is alpha_bar_i.

    Between the steps log alpha is linear in t, so that every solver and loss of the continuous processes applies. The last
    beta may be 1, as in tables rescaled to end in pure noise (Lin et al. 2023): alpha itself is linear on the way there.
    """

    betas: Sequence[float] | Float[np.ndarray, " steps"]

    def __post_init__(self):
        betas = _table(self.betas)
        to_noise = bool(betas[-1] == 1.0)
        drops = 0.5 * np.log1p(-np.where(betas == 1.0, 0.0, betas))
        object.__setattr__(self, "betas", tuple(betas.tolist()))
        object.__setattr__(self, "_to_noise", to_noise)
        object.__setattr__(self, "_log_alpha", np.concatenate([[0.0], np.cumsum(drops)]))

    @property
    def steps(self) -> int:
        """The number T of steps of the table."""
        return len(self.betas)

    def alpha(self, t: Time) -> Scalar:
        """exp of the interpolation, times what the last step leaves if it ends in pure noise."""
        smooth, left = self._factors(t)
        return jnp.exp(smooth) * left

    def sigma(self, t: Time) -> Scalar:
        """sqrt(1 - alpha^2) from the same factors, whose slope is finite where alpha is 0."""
        smooth, left = self._factors(t)
        return jnp.sqrt(jnp.exp(2.0 * smooth) * (1.0 - jnp.square(left)) - jnp.expm1(2.0 * smooth))

    def log_alpha(self, t: Time) -> Scalar:
        """Linear interpolation of the table."""
        smooth, left = self._factors(t)
        return smooth + jnp.log(left)

    def _factors(self, t: Time) -> tuple[Scalar, Scalar]:
        """The interpolation of the finite logarithms, and the factor of a last step whose logarithm is infinite."""
        position = _float(t) * self.steps
        nodes = jnp.asarray(self._log_alpha, position.dtype)
        i = jnp.clip(jnp.floor(position).astype(int), 0, self.steps - 1)
        smooth = nodes[i] + (position - i) * (nodes[i + 1] - nodes[i])
        last = self._to_noise & (i == self.steps - 1)
        left = jnp.where(last, self.steps - position, 1.0)
        return smooth, left


def linear(steps: int = 1000, beta_min: float = 1e-4, beta_max: float = 0.02) -> Discrete:
    """DDPM's table: `steps` betas linear from beta_min to beta_max (Ho et al. 2020, section 4)."""
    checks.count("linear", steps=steps)
    checks.number("linear", "(0, 1)", beta_min=beta_min, beta_max=beta_max)
    return Discrete(tuple(np.linspace(beta_min, beta_max, steps, dtype=np.float64).tolist()))


def concrete(function: Callable[[Time], Scalar], t: Time) -> float | None:
    """function(t) as a number, also while something else is traced; None if t or the process itself is traced."""
    if checks.traced(t):
        return None
    with jax.ensure_compile_time_eval():
        value = function(t)
    return None if checks.traced(value) else float(value)


def _table(betas: Any) -> np.ndarray:
    """The betas as an array; ValueError unless they are numbers in (0, 1), of which the last may be 1."""
    try:
        table = np.asarray(betas, np.float64)
    except (TypeError, ValueError):
        table = np.empty(0)
    if table.ndim != 1 or not table.size:
        raise ValueError(f"Discrete needs a non-empty list of betas, one number a step; got {betas!r:.60}.")
    wrong = ~((table > 0.0) & (table < 1.0))
    wrong[-1] &= table[-1] != 1.0
    if wrong.any():
        i = int(np.argmax(wrong))
        raise ValueError(
            f"Discrete needs betas in (0, 1), the last at most 1; got {table[i]} at step {i + 1}."
        )
    return table


def _float(t: Time) -> Scalar:
    return jnp.asarray(t, jnp.result_type(float, t))
