"""From a network to a denoiser, E[x0 | x_t]: the one type that solvers and guidance know."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxdiff import checks
from jaxdiff.diffusion.prediction import SIGMA_DATA, Kind, convert, edm_scale, row_of, says_x0
from jaxdiff.diffusion.process import Process, concrete
from jaxdiff.types import Denoiser, Image, Net, Time


def time_label(net: Net, scale: float = 1.0, offset: float = 0.0) -> Net:
    """The net with its time written as a paper's label, scale t + offset.

    DDPM: scale 1000, offset -1 (step i of 1000 has the label i - 1). Score-SDE and DiffPure: scale 999, offset 0.
    """
    checks.function("time_label", net=net)
    checks.number("time_label", "(-inf, inf)", scale=scale, offset=offset)
    return partial(_labelled, net, scale, offset)


def preconditioned(net: Net, process: Process, sigma_data: float = SIGMA_DATA) -> Net:
    """The net that is shown x_t / sqrt(sigma^2 + (sigma_data alpha)^2), of unit variance, and log(sigma/alpha)/4 for its time
    (Karras et al. 2022, table 1: c_in and c_noise); with the kind "edm" it is their preconditioned network.

    Also of a batch, x_t [B, ...] and t [B].
    """
    checks.function("preconditioned", net=net)
    checks.instance("preconditioned", Process, "EDM()", process=process)
    checks.number("preconditioned", "(0, inf)", sigma_data=sigma_data)
    return partial(_preconditioned, net, process, sigma_data)


def denoiser(
    process: Process, kind: Kind, net: Net, clip: float | None = None, start: float = 1.0
) -> Denoiser:
    """x_t, t -> x0_hat from a net that predicts `kind`; x0_hat is clipped to [-clip, clip] if `clip` is given.

    `start` is the largest time it will be asked for. ValueError if what the net predicts says nothing of the image there: the
    noise and the score do not where alpha = 0.
    """
    checks.instance("denoiser", Process, "VP()", process=process)
    row_of(kind)
    checks.function("denoiser", net=net)
    checks.number("denoiser", "(0, 1]", start=start)
    if clip is not None:
        checks.number("denoiser", "(0, inf]", clip=clip)
    if concrete(process.alpha, start) == 0.0 and not says_x0(process, kind, start):
        raise ValueError(
            f"denoiser: kind {kind!r} says nothing of the image at t = {start:g}, where alpha = 0 and x_t is the noise itself. "
            "Predict 'v' or 'x0', end the process with a little signal (such as Cosine(alpha_min=5e-5)), or give the first "
            "time of your grid as start, if it is smaller."
        )
    return partial(_x0_hat, process, kind, net, clip)


def clipped(denoise: Denoiser, clip: float) -> Denoiser:
    """The denoiser whose x0_hat is clipped to [-clip, clip], as DDPM's sampler does (Ho et al. 2020)."""
    checks.function("clipped", denoise=denoise)
    checks.number("clipped", "(0, inf]", clip=clip)
    return partial(_clipped, denoise, clip)


def score(process: Process, denoise: Denoiser) -> Net:
    """x_t, t -> grad log p_t(x_t) = (alpha x0_hat - x_t) / sigma^2 (Tweedie's formula)."""
    checks.instance("score", Process, "VP()", process=process)
    checks.function("score", denoise=denoise)
    return partial(_score, process, denoise)


def same_shape(who: str, output: Image, x: Image) -> Image:
    """`output` itself; ValueError unless it has the shape of the image it was made from."""
    if jnp.shape(output) != jnp.shape(x):
        raise ValueError(
            f"{who}: a network gives one output for every pixel, here {jnp.shape(x)}; got {jnp.shape(output)}. "
            "For a batched network: lambda x, t: net(x[None], t[None])[0]."
        )
    return output


def _labelled(net: Net, scale: float, offset: float, x_t: Any, t: Any) -> Any:
    return net(x_t, scale * t + offset)


def _preconditioned(net: Net, process: Process, sigma_data: float, x_t: Any, t: Any) -> Any:
    t = jnp.asarray(t, jnp.result_type(float, t))
    both = lambda t: (edm_scale(process, sigma_data, t), -process.logsnr(t) / 8.0)
    scale, label = jax.vmap(both)(t) if t.ndim else both(t)
    scale = scale.reshape(scale.shape + (1,) * (jnp.ndim(x_t) - 1 if t.ndim else 0))
    return net((x_t / scale).astype(x_t.dtype), label)


def _x0_hat(process: Process, kind: Kind, net: Net, clip: float | None, x_t: Image, t: Time) -> Image:
    x0_hat = convert(process, kind, "x0", same_shape("denoiser", net(x_t, t), x_t), x_t, t)
    return x0_hat if clip is None else jnp.clip(x0_hat, -clip, clip)


def _clipped(denoise: Denoiser, clip: float, x_t: Image, t: Time) -> Image:
    return jnp.clip(denoise(x_t, t), -clip, clip)


def _score(process: Process, denoise: Denoiser, x_t: Image, t: Time) -> Image:
    return convert(process, "x0", "score", denoise(x_t, t), x_t, t)
