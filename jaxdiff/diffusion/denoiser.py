"""From a network to a denoiser, E[x0 | x_t]: the one type that solvers and guidance know."""

import jax.numpy as jnp

from jaxdiff.diffusion.prediction import check_kind, convert
from jaxdiff.diffusion.process import Process
from jaxdiff.types import Denoiser, Net


def time_label(net: Net, scale: float = 1.0, offset: float = 0.0) -> Net:
    """The net with its time written as a paper's label, scale t + offset.

    DDPM: scale 1000, offset -1 (step i of 1000 has the label i - 1). Score-SDE and DiffPure: scale 999, offset 0.
    """
    return lambda x_t, t: net(x_t, scale * t + offset)


def denoiser(process: Process, kind: str, net: Net, clip: float | None = None) -> Denoiser:
    """x_t, t -> x0_hat from a net that predicts `kind`; x0_hat is clipped to [-clip, clip] if `clip` is given."""
    check_kind(kind)

    def denoise(x_t, t):
        x0_hat = convert(process, kind, "x0", net(x_t, t), x_t, t)
        return x0_hat if clip is None else jnp.clip(x0_hat, -clip, clip)

    return denoise


def score(process: Process, denoise: Denoiser) -> Net:
    """x_t, t -> grad log p_t(x_t) = (alpha x0_hat - x_t) / sigma^2 (Tweedie's formula)."""
    return lambda x_t, t: convert(process, "x0", "score", denoise(x_t, t), x_t, t)
