"""Losses of the variational bound: one of its terms, at a random step, for every example (Nichol and Dhariwal 2021).

With L_i the term of step i of T (`bound`, equations 3 and 4), in bits per dimension,

    L_vlb    = T E_i[L_i],                                                           (1)
    L_hybrid = L_simple + share L_vlb,                                               (2)

where of L_vlb in (2) only the variances are learned: what is predicted is held fixed there (their equation 16 and section 3.1;
share = 0.001). L_T, which no network changes, is left out.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxdiff import checks
from jaxdiff.diffusion.bound import LEVELS, decoder_term, step_term
from jaxdiff.diffusion.losses import Losses, check_loss, examples, perturbed, squared
from jaxdiff.diffusion.prediction import Kind, convert
from jaxdiff.diffusion.process import Process
from jaxdiff.diffusion.variance import SHARES, between, halves, posterior_variance
from jaxdiff.diffusion.weights import Weight, simple
from jaxdiff.types import PRNGKeys

__all__ = ["hybrid", "vlb"]


def vlb(
    process: Process, kind: Kind, steps: int = 1000, variance: str = "learned", levels: int | None = None
) -> Callable[..., Losses]:
    """Equation (1) as (predict, x0 [B, ...], t [B], keys [B]) -> losses [B], for times i/steps, such as those of
    `noise_levels.discrete` or `importance`.

    `predict(x_t, t)` has twice the channels of x0 if the variance is "learned"; else it is "posterior" or "upper".
    """
    check_loss("vlb", process, kind)
    checks.count("vlb", 2, steps=steps)
    checks.known("vlb", {"learned", *SHARES}, variance=variance)
    levels = LEVELS if levels is None else levels
    checks.count("vlb", 2, levels=levels)
    return partial(_vlb, process, kind, steps, variance, levels)


def hybrid(
    process: Process,
    kind: Kind,
    steps: int = 1000,
    share: float = 0.001,
    weight: Weight | None = None,
    levels: int | None = None,
) -> Callable[..., Losses]:
    """Equation (2), as `vlb` with learned variances; `weight` is that of the first term, by default `simple`."""
    check_loss("hybrid", process, kind)
    checks.count("hybrid", 2, steps=steps)
    checks.number("hybrid", "(0, inf)", share=share)
    levels = LEVELS if levels is None else levels
    checks.count("hybrid", 2, levels=levels)
    return partial(_hybrid, process, kind, steps, share, weight or simple(), levels)


def _vlb(process, kind, steps, variance, levels, predict, x0, t, keys: PRNGKeys) -> Losses:
    x0, t, keys = examples(x0, t, keys)
    _, x_t = perturbed(process, x0, t, keys)
    output = predict(x_t, t)
    given = _learned(output, x0) if variance == "learned" else (output, SHARES[variance])
    return steps * _bits(process, kind, steps, *given, x_t, x0, t, levels, variance != "learned")


def _hybrid(process, kind, steps, share, weight, levels, predict, x0, t, keys: PRNGKeys) -> Losses:
    x0, t, keys = examples(x0, t, keys)
    noise, x_t = perturbed(process, x0, t, keys)
    predicted, shares = _learned(predict(x_t, t), x0)
    held = jax.lax.stop_gradient(predicted)
    bits = _bits(process, kind, steps, held, shares, x_t, x0, t, levels, False)
    return squared(process, kind, weight, predicted, x0, noise, t) + share * steps * bits


def _bits(process, kind, steps, predicted, shares, x_t, x0, t, levels, fixed: bool) -> Losses:
    """The term of every example, in bits per dimension."""
    first = posterior_variance(process, 2.0 / steps, 1.0 / steps)

    def term(predicted, share, x_t, x0, t):
        s = jnp.round(t * steps - 1.0) / steps
        last = s < 0.5 / steps
        x0_hat = convert(process, kind, "x0", predicted, x_t, t)
        # The last step, to s = 0, has no posterior variance; s is moved so that neither branch is infinite.
        inner = jnp.where(last, 0.5 * t, s)
        kl = step_term(process, x0, x0_hat, between(process, share, t, inner, first), t, inner)
        end = first if fixed else between(process, share, t, s, first)
        nats = jnp.where(last, decoder_term(x0, x0_hat, end, levels), kl)
        return jnp.mean(nats) / jnp.log(2.0)

    axes = (0, 0 if jnp.ndim(shares) else None, 0, 0, 0)
    return jax.vmap(term, axes)(predicted, shares, x_t, x0, t).astype(t.dtype)


def _learned(output: Any, x0: Any) -> tuple[Any, Any]:
    """(what is predicted, the shares); ValueError unless the network has twice the channels."""
    wanted = (*x0.shape[:-1], 2 * x0.shape[-1])
    if jnp.shape(output) != wanted:
        raise ValueError(
            f"Learned variances need a network with twice the channels, here {wanted}; got {jnp.shape(output)}. Of a UNet "
            f"that is out_channels={wanted[-1]}."
        )
    return halves(output)
