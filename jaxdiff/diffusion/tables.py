"""Processes of discrete steps: the tables of betas of the papers (Ho et al. 2020; Nichol and Dhariwal 2021).

Step i of T is at t = i/T, and with beta_i the table

    alpha(i/T)^2 = alpha_bar_i = (1 - beta_1) ... (1 - beta_i).                      (1)
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxdiff import checks
from jaxdiff.diffusion.process import VariancePreserving, as_float
from jaxdiff.types import Scalar, Time

__all__ = ["Discrete", "cosine_table", "linear", "quadratic", "sigmoid"]


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

    def _time(self, logsnr: Scalar) -> Scalar:
        log_alpha = -0.5 * jax.nn.softplus(-logsnr)
        whole = self.steps - self._to_noise  # steps over which log alpha is linear
        nodes = jnp.asarray(self._log_alpha[: whole + 1], log_alpha.dtype)
        position = jnp.interp(-log_alpha, -nodes, jnp.arange(whole + 1.0))
        last = self.steps - jnp.exp(log_alpha - nodes[-1])
        return jnp.where(self._to_noise & (log_alpha < nodes[-1]), last, position) / self.steps

    def _factors(self, t: Time) -> tuple[Scalar, Scalar]:
        """The interpolation of the finite logarithms, and the factor of a last step whose logarithm is infinite."""
        position = as_float(t) * self.steps
        nodes = jnp.asarray(self._log_alpha, position.dtype)
        i = jnp.clip(jnp.floor(position).astype(int), 0, self.steps - 1)
        smooth = nodes[i] + (position - i) * (nodes[i + 1] - nodes[i])
        last = self._to_noise & (i == self.steps - 1)
        left = jnp.where(last, self.steps - position, 1.0)
        return smooth, left


def linear(steps: int = 1000, beta_min: float = 1e-4, beta_max: float = 0.02) -> Discrete:
    """DDPM's table: `steps` betas linear from beta_min to beta_max (Ho et al. 2020, section 4)."""
    return _between("linear", steps, beta_min, beta_max, np.linspace)


def quadratic(steps: int = 1000, beta_min: float = 1e-4, beta_max: float = 0.02) -> Discrete:
    """`steps` betas whose square roots are linear from that of beta_min to that of beta_max.

    The same table is called "quad" (Song et al. 2021, DDIM), "scaled linear", and by latent diffusion's code "linear" (with
    0.0015 and 0.0195, or 0.00085 and 0.012).
    """
    return _between(
        "quadratic", steps, beta_min, beta_max, lambda low, high, n: np.linspace(low**0.5, high**0.5, n) ** 2
    )


def sigmoid(
    steps: int = 1000, beta_min: float = 1e-4, beta_max: float = 0.02, width: float = 6.0
) -> Discrete:
    """`steps` betas from near beta_min to near beta_max along a sigmoid on [-width, width] (Xu et al. 2022, GeoDiff)."""
    checks.number("sigmoid", "(0, inf)", width=width)
    curve = lambda low, high, n: low + (high - low) / (1.0 + np.exp(-np.linspace(-width, width, n)))
    return _between("sigmoid", steps, beta_min, beta_max, curve)


def cosine_table(steps: int = 1000, offset: float = 0.008, beta_max: float = 0.999) -> Discrete:
    """The table of `Cosine`, no beta above beta_max (Nichol and Dhariwal 2021, equation 17)."""
    checks.count("cosine_table", steps=steps)
    checks.number("cosine_table", "[0, inf)", offset=offset)
    checks.number("cosine_table", "(0, 1)", beta_max=beta_max)
    angle = (np.arange(steps + 1) / steps + offset) / (1.0 + offset) * np.pi / 2.0
    alpha_bar = np.cos(angle) ** 2
    return Discrete(tuple(np.minimum(1.0 - alpha_bar[1:] / alpha_bar[:-1], beta_max).tolist()))


def _between(who: str, steps: int, beta_min: float, beta_max: float, curve: Callable) -> Discrete:
    checks.count(who, steps=steps)
    checks.number(who, "(0, 1)", beta_min=beta_min, beta_max=beta_max)
    return Discrete(tuple(np.asarray(curve(beta_min, beta_max, steps), np.float64).tolist()))


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
