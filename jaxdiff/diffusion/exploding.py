"""Processes that add noise and keep the image, alpha = 1: f = 0, and g^2 = d/dt sigma^2.

    VE      sigma(t) = sigma_min (sigma_max / sigma_min)^t      (Song et al. 2021, equation 30)                    (1)
    EDM     sigma(t) = sigma_max t                              (Karras et al. 2022, table 1, with t as t / sigma_max)   (2)
    Levels  sigma(j/L) = sigma_j, j = 1 ... L                   (Song and Ermon 2019)                              (3)

(1) has noise sigma_min at t = 0 already; what is sampled there is the image with that noise (see `sample`, `denoised`).
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxdiff import checks
from jaxdiff.diffusion.process import Process, as_float
from jaxdiff.types import Scalar, Time

__all__ = ["EDM", "VE", "Levels", "geometric"]


@dataclasses.dataclass(frozen=True)
class Exploding(Process):
    """alpha = 1: sigma alone is the process."""

    def alpha(self, t: Time) -> Scalar:
        """1."""
        return jnp.ones_like(as_float(t))

    def logsnr(self, t: Time) -> Scalar:
        """-2 log sigma."""
        return -2.0 * jnp.log(self.sigma(t))

    def f(self, t: Time) -> Scalar:
        """0."""
        return jnp.zeros_like(as_float(t))

    def g2(self, t: Time) -> Scalar:
        """d/dt sigma^2."""
        return jax.grad(lambda t: self.sigma(t) ** 2)(as_float(t))


@dataclasses.dataclass(frozen=True)
class VE(Exploding):
    """The variance-exploding SDE, equation (1); for CIFAR-10 in [-1, 1] Song et al. take sigma_max 50 in units of [0, 1]."""

    sigma_min: float = 0.01
    sigma_max: float = 50.0

    def __post_init__(self):
        checks.number("VE", "(0, inf)", sigma_min=self.sigma_min, sigma_max=self.sigma_max)
        if self.sigma_min >= self.sigma_max:
            raise ValueError(f"VE needs sigma_min < sigma_max; got {self.sigma_min} and {self.sigma_max}.")

    def sigma(self, t: Time) -> Scalar:
        """Equation (1)."""
        return self.sigma_min * jnp.exp(as_float(t) * np.log(self.sigma_max / self.sigma_min))

    def _time(self, logsnr: Scalar) -> Scalar:
        return -(0.5 * logsnr + np.log(self.sigma_min)) / np.log(self.sigma_max / self.sigma_min)


@dataclasses.dataclass(frozen=True)
class EDM(Exploding):
    """Noise in proportion to time, equation (2)."""

    sigma_max: float = 80.0

    def __post_init__(self):
        checks.number("EDM", "(0, inf)", sigma_max=self.sigma_max)

    def sigma(self, t: Time) -> Scalar:
        """Equation (2)."""
        return self.sigma_max * as_float(t)

    def _time(self, logsnr: Scalar) -> Scalar:
        return jnp.exp(-0.5 * logsnr) / self.sigma_max


@dataclasses.dataclass(frozen=True)
class Levels(Exploding):
    """Rising levels of noise, equation (3): between them log sigma is linear in t, below the first sigma itself, down to 0."""

    sigmas: Sequence[float] | Float[np.ndarray, " levels"]

    def __post_init__(self):
        sigmas = np.asarray(self.sigmas, np.float64)
        if sigmas.ndim != 1 or not sigmas.size or sigmas[0] <= 0.0 or (np.diff(sigmas) <= 0.0).any():
            raise ValueError(
                f"Levels needs standard deviations that rise from above 0; got {self.sigmas!r:.80}."
            )
        object.__setattr__(self, "sigmas", tuple(sigmas.tolist()))

    @property
    def steps(self) -> int:
        """How many levels there are."""
        return len(self.sigmas)

    def sigma(self, t: Time) -> Scalar:
        """Equation (3)."""
        position = as_float(t) * self.steps
        nodes = jnp.log(jnp.asarray(self.sigmas, position.dtype))
        later = jnp.exp(jnp.interp(position, jnp.arange(1.0, self.steps + 1.0, dtype=position.dtype), nodes))
        return jnp.where(position < 1.0, position * self.sigmas[0], later)

    def _time(self, logsnr: Scalar) -> Scalar:
        log_sigma = -0.5 * logsnr
        nodes = jnp.log(jnp.asarray(self.sigmas, log_sigma.dtype))
        later = jnp.interp(log_sigma, nodes, jnp.arange(1.0, self.steps + 1.0, dtype=nodes.dtype))
        return jnp.where(log_sigma < nodes[0], jnp.exp(log_sigma) / self.sigmas[0], later) / self.steps


def geometric(levels: int = 10, sigma_min: float = 0.01, sigma_max: float = 1.0) -> Levels:
    """Levels in a geometric row (NCSN: 10 from 0.01 to 1; NCSNv2 for CIFAR-10: 232 from 0.01 to 50)."""
    checks.count("geometric", 2, levels=levels)
    checks.number("geometric", "(0, inf)", sigma_min=sigma_min, sigma_max=sigma_max)
    return Levels(tuple(np.geomspace(sigma_min, sigma_max, levels).tolist()))
