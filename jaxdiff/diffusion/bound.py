"""The variational bound on the likelihood, term by term (Ho et al. 2020, equations 5 and 13).

With T steps at t = i/T, s the step before, D = denoise(x_t, t), and posterior mean and variance as in `solvers.ancestral`,

    -log p(x0) <= L_T + sum_{i = 2}^T L_{i-1} + L_0,                                                 (1)
    L_T     = KL(q(x_1 | x0) | N(0, prior_std^2)),                                                   (2)
    L_{i-1} = KL(q(x_s | x_t, x0) | p(x_s | x_t)):  with var_q the posterior variance, var_p the model's,
              1/2 [log(var_p / var_q) + var_q / var_p - 1 + (alpha_s (1 - ratio))^2 (x0 - D)^2 / var_p],   (3)
    L_0     = -log of the mass that N(D, var_1) at t = 1/T gives to the bin of each pixel of 256 levels,  (4)

in nats, summed over the pixels of an image in [-1, 1]. The variance of the model is one of `variance`: the posterior one or the
upper one (beta), with the posterior variance of step 2 for var_1 in both, as in their program; or a learned one.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, ScalarLike

from jaxdiff import checks
from jaxdiff.diffusion.process import Process
from jaxdiff.diffusion.variance import SHARES, Share, between, posterior_variance
from jaxdiff.types import Denoiser, Image, PRNGKey, Scalar, Time

LEVELS = 256  # of a pixel


class Bound(NamedTuple):
    """The terms of equation (1) for one image, in nats: L_T, L_1 ... L_{T-1} [T - 1], and L_0."""

    prior: Scalar
    steps: Float[Array, " steps"]
    decoder: Scalar

    @property
    def total(self) -> Scalar:
        """Their sum."""
        return self.prior + jnp.sum(self.steps) + self.decoder


def variational_bound(
    process: Process, steps: int, variance: str | Share = "upper", width: int = 16, levels: int | None = None
) -> Callable[[Denoiser, Image, PRNGKey], Bound]:
    """(denoise, x0 in [-1, 1] of so many levels (256), key) -> `Bound`, an evaluation a step, `width` of them at a time.

    The noise of step i is that of fold_in(key, i). ValueError for a variance that is none.
    """
    checks.instance("variational_bound", Process, "linear()", process=process)
    checks.count("variational_bound", 2, steps=steps)
    checks.count("variational_bound", width=width)
    levels = LEVELS if levels is None else levels
    checks.count("variational_bound", 2, levels=levels)
    if not callable(variance):
        checks.known("variational_bound", SHARES, variance=variance)
    return partial(_bound, process, steps, variance, width, levels)


def prior_term(process: Process, x0: Image) -> Scalar:
    """Equation (2)."""
    alpha, var, prior = process.alpha(1.0), process.sigma(1.0) ** 2, process.prior_std**2
    return 0.5 * jnp.sum((alpha * x0) ** 2 / prior + var / prior - 1.0 - jnp.log(var / prior))


def step_term(
    process: Process, x0: Image, x0_hat: Image, var_p: Image | ScalarLike, t: Time, s: Time
) -> Image:
    """Equation (3) of every pixel."""
    lost, var_q = process.lost(t, s), posterior_variance(process, t, s)
    square = (process.alpha(s) * lost * (x0 - x0_hat)) ** 2
    return 0.5 * (jnp.log(var_p / var_q) + var_q / var_p - 1.0 + square / var_p)


def decoder_term(x0: Image, x0_hat: Image, var: Image | ScalarLike, levels: int = LEVELS) -> Image:
    """Equation (4) of every pixel: the outer bins reach to infinity."""
    std, half = jnp.sqrt(var), 1.0 / (levels - 1)
    above, below = (x0 + half - x0_hat) / std, (x0 - half - x0_hat) / std
    log_cdf, log_tail = jax.scipy.stats.norm.logcdf, jax.scipy.stats.norm.logsf
    # The mass between two points, from the side on which it is not a difference of numbers near 1.
    left = log_cdf(above) + _log1mexp(log_cdf(above) - log_cdf(below))
    right = log_tail(below) + _log1mexp(log_tail(below) - log_tail(above))
    inside = jnp.where(above + below < 0.0, left, right)
    log_mass = jnp.where(
        x0 < -1.0 + half, log_cdf(above), jnp.where(x0 > 1.0 - half, log_tail(below), inside)
    )
    return -log_mass


def _bound(
    process: Process,
    steps: int,
    variance,
    width: int,
    levels: int,
    denoise: Denoiser,
    x0: Image,
    key: PRNGKey,
) -> Bound:
    x0, key = checks.floats("variational_bound", x0), checks.key("variational_bound", key)
    first = posterior_variance(process, 2.0 / steps, 1.0 / steps)

    def seen(i):
        t = i / steps
        noise = jax.random.normal(jax.random.fold_in(key, i), x0.shape, x0.dtype)
        x_t = process.perturb(x0, noise, t)
        share = variance(x_t, t) if callable(variance) else SHARES[variance]
        return denoise(x_t, t), share, t, (i - 1) / steps

    def term(i):
        x0_hat, share, t, s = seen(i)
        return jnp.sum(step_term(process, x0, x0_hat, between(process, share, t, s, first), t, s))

    kls = jax.lax.map(term, jnp.arange(2, steps + 1), batch_size=width)
    x0_hat, share, t, s = seen(jnp.asarray(1))
    var = between(process, share, t, s, first) if callable(variance) else first
    return Bound(prior_term(process, x0), kls, jnp.sum(decoder_term(x0, x0_hat, var, levels)))


def _log1mexp(x: Image) -> Image:
    """log(1 - exp(-x)) for x > 0."""
    x = jnp.maximum(x, jnp.finfo(x.dtype).tiny)
    small = x < 0.693
    return jnp.where(
        small, jnp.log(-jnp.expm1(-jnp.where(small, x, 1.0))), jnp.log1p(-jnp.exp(-jnp.where(small, 1.0, x)))
    )
