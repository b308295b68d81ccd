"""Flow matching along straight lines: x_t = (1 - t) x0 + t noise (Liu et al. 2023, rectified flow; Lipman et al. 2023).

As a diffusion process it has f = -1/(1 - t) and g^2 = 2t/(1 - t), infinite at t = 1, where no image is left; its network
predicts the velocity noise - x0 (kind "velocity"), which is finite everywhere.
"""

import dataclasses

import jax

from jaxdiff.diffusion.process import Process, as_float
from jaxdiff.types import Scalar, Time

__all__ = ["RectifiedFlow"]


@dataclasses.dataclass(frozen=True)
class RectifiedFlow(Process):
    """alpha = 1 - t, sigma = t."""

    def alpha(self, t: Time) -> Scalar:
        """1 - t."""
        return 1.0 - as_float(t)

    def sigma(self, t: Time) -> Scalar:
        """t."""
        return as_float(t)

    def f(self, t: Time) -> Scalar:
        """-1/(1 - t)."""
        return -1.0 / (1.0 - as_float(t))

    def g2(self, t: Time) -> Scalar:
        """2t/(1 - t)."""
        return 2.0 * as_float(t) / (1.0 - as_float(t))

    def _time(self, logsnr: Scalar) -> Scalar:
        return jax.nn.sigmoid(-0.5 * logsnr)
