"""Noise processes: how an image turns into noise.

A process is the family of marginals, for t from 0 (image) to 1 (noise),

    x_t = alpha(t) x0 + sigma(t) noise,    noise ~ N(0, I).                          (1)

It is the law at time t of the stochastic differential equation dx = f(t) x dt + g(t) dw with

    f = d/dt log alpha,                                                              (2)
    g^2 = d/dt sigma^2 - 2 f sigma^2,                                                (3)
    logsnr = 2 log(alpha / sigma).                                                   (4)

Two functions, alpha and sigma, are a process; (2) to (4) follow by differentiation. Where alpha^2 + sigma^2 = 1
(variance preserving), one function is enough: sigma^2 = 1 - alpha^2 and g^2 = -2 f.

Times are scalars; batch with `jax.vmap`. References: Song et al. 2021 (arXiv 2011.13456), equations 29 and 33;
Kingma et al. 2021 (arXiv 2107.00630), section 3.
"""

import abc
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

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
        """x_t of equation (1)."""
        return self.alpha(t) * x0 + self.sigma(t) * noise


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
        if not 0.0 < self.beta_min <= self.beta_max:
            raise ValueError(f"VP needs 0 < beta_min <= beta_max; got {self.beta_min} and {self.beta_max}.")

    def log_alpha(self, t: Time) -> Scalar:
        """-1/2 of the integral of beta from 0 to t."""
        t = _float(t)
        return -0.5 * (self.beta_min * t + 0.5 * (self.beta_max - self.beta_min) * t**2)


@dataclasses.dataclass(frozen=True)
class Cosine(VariancePreserving):
    """alpha = cos(angle(t)) / cos(angle(0)), angle(0) = pi/2 offset/(1 + offset) (Nichol and Dhariwal 2021, eq. 17).

    The angle runs linearly; it ends where alpha(1) = alpha_min, which plays the part of the paper's beta <= 0.999:
    with alpha_min = 0 the schedule is the paper's exactly, and alpha(1) = 0 has no score.
    """

    offset: float = 0.008
    alpha_min: float = 5e-5

    def __post_init__(self):
        if not (self.offset >= 0.0 and 0.0 <= self.alpha_min < 1.0):
            raise ValueError(
                f"Cosine needs offset >= 0 and alpha_min in [0, 1); got {self.offset} and {self.alpha_min}."
            )

    def log_alpha(self, t: Time) -> Scalar:
        """log of the ratio of cosines, by log1p of their exact difference."""
        start = 0.5 * np.pi * self.offset / (1.0 + self.offset)
        end = np.arccos(self.alpha_min * np.cos(start))
        half_turn = 0.5 * _float(t) * (end - start)
        return jnp.log1p(-2.0 * jnp.sin(start + half_turn) * jnp.sin(half_turn) / np.cos(start))


@dataclasses.dataclass(frozen=True, eq=False)
class Discrete(VariancePreserving):
    """A table of betas, as in DDPM (Ho et al. 2020): step i of T is at t = i/T, and alpha(i/T)^2 is alpha_bar_i.

    Between the steps log alpha is linear in t, so that every solver and loss of the continuous processes applies.
    """

    betas: tuple[float, ...]

    def __post_init__(self):
        betas = np.asarray(self.betas, np.float64)
        if betas.ndim != 1 or betas.size == 0 or not np.all((betas > 0.0) & (betas < 1.0)):
            raise ValueError("Discrete needs a non-empty list of betas, each in (0, 1).")
        nodes = np.concatenate([[0.0], 0.5 * np.cumsum(np.log1p(-betas))])
        object.__setattr__(self, "_log_alpha", nodes)

    @property
    def steps(self) -> int:
        """The number T of steps of the table."""
        return len(self.betas)

    def log_alpha(self, t: Time) -> Scalar:
        """Linear interpolation of the table."""
        nodes = jnp.asarray(self._log_alpha, _float(t).dtype)
        position = _float(t) * self.steps
        i = jnp.clip(jnp.floor(position).astype(int), 0, self.steps - 1)
        return nodes[i] + (position - i) * (nodes[i + 1] - nodes[i])


def linear(steps: int = 1000, beta_min: float = 1e-4, beta_max: float = 0.02) -> Discrete:
    """DDPM's table: `steps` betas linear from beta_min to beta_max (Ho et al. 2020, section 4)."""
    return Discrete(tuple(np.linspace(beta_min, beta_max, steps, dtype=np.float64).tolist()))


def _float(t: Time) -> Scalar:
    return jnp.asarray(t, jnp.result_type(float, t))
