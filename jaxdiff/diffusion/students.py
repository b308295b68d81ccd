"""Few steps from many: progressive distillation and consistency training, as losses of a score network.

Progressive distillation (Salimans and Ho 2022, arXiv 2202.00512, algorithm 2). A student of N steps learns where two DDIM steps
of its teacher lead, from t to t - 1/(2N) and on to s = t - 1/N, with x0_hat such that its own step leads there:

    x0_target = (x_s - (sigma_s / sigma_t) x_t) / (alpha_s - (sigma_s / sigma_t) alpha_t),           (1)
    L = w(t) |x0_hat(x_t, t) - x0_target|^2,    w = max(SNR, 1) (their "truncated SNR"), or SNR + 1. (2)

Consistency training (Song et al. 2023, arXiv 2303.01469; Song and Dhariwal 2024, arXiv 2310.14189): the denoiser of a network
with x0_hat = x at the first time t_min says the same at both ends of an interval of the flow,

    L = 1/(u_t - u_s) d(x0_hat(x_t, t), x0_hat(x_s, s)),    u = sigma/alpha,                         (3)
    d(x, y) = sqrt(|x - y|^2 + c^2) - c,    c = 0.00054 sqrt(dimensions),                            (4)

with x_t and x_s of the same image and noise, and no gradient through the second. Of the kind `consistent`

    x0_hat = c_skip x_t/alpha + c_out F,    c_skip = d^2 / ((u - u_min)^2 + d^2),
    c_out = d (u - u_min) / sqrt(u^2 + d^2),    d = sigma_data,                                      (5)

it is x/alpha at t_min. The solver `solvers.renoised` draws in few steps.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from jaxdiff import checks
from jaxdiff.diffusion.grids import TimesLike, times
from jaxdiff.diffusion.losses import Losses, check_loss, examples, perturbed
from jaxdiff.diffusion.noise_levels import NoiseLevels
from jaxdiff.diffusion.prediction import SIGMA_DATA, Kind, Row, convert
from jaxdiff.diffusion.process import Process
from jaxdiff.diffusion.solvers import ddim
from jaxdiff.types import Denoiser, PRNGKeys, Scalar, Time

__all__ = ["consistency", "consistent", "of_grid", "progressive"]

WEIGHTS = {
    "truncated": lambda snr: jnp.maximum(snr, 1.0),
    "snr+1": lambda snr: snr + 1.0,
}
HUBER = 0.00054


def progressive(
    process: Process, kind: Kind, teacher: Denoiser, steps: int, weight: str = "truncated"
) -> Callable[..., Losses]:
    """Equation (2), the mean over pixels, as (predict, x0 [B, ...], t [B], keys [B]) -> losses [B], for times i/steps.

    The student begins as its teacher, which has taken 2 `steps`. Not for kinds that say nothing of the image where alpha = 0.
    """
    check_loss("progressive", process, kind)
    checks.function("progressive", teacher=teacher)
    checks.count("progressive", steps=steps)
    checks.known("progressive", WEIGHTS, weight=weight)
    return partial(_progressive, process, kind, teacher, steps, weight)


def consistency(process: Process, kind: Kind, ts: TimesLike) -> Callable[..., Losses]:
    """Equation (3) over the intervals of the grid `ts`, as (predict, x0 [B, ...], t [B], keys [B]) -> losses [B].

    The times are those of the grid but its last, which is t_min (a 0 at its end is left out): see `of_grid`. Finer grids are
    learned from coarser ones.
    """
    check_loss("consistency", process, kind)
    return partial(_consistency, process, kind, _noisy("consistency", ts))


def consistent(t_min: float, sigma_data: float = SIGMA_DATA) -> Row:
    """The kind of equation (5)."""
    checks.number("consistent", "(0, 1)", t_min=t_min)
    checks.number("consistent", "(0, inf)", sigma_data=sigma_data)
    return partial(_consistent, t_min, sigma_data)


def of_grid(process: Process, ts: TimesLike, mean: float = -1.1, std: float = 2.0) -> NoiseLevels:
    """A time of the grid but its last, by the chance that N(mean, std^2) gives its interval of log(sigma/alpha)."""
    checks.instance("of_grid", Process, "EDM()", process=process)
    checks.number("of_grid", "(-inf, inf)", mean=mean)
    checks.number("of_grid", "(0, inf)", std=std)
    ts = jnp.asarray(_noisy("of_grid", ts))
    below = jax.scipy.stats.norm.cdf((-0.5 * jax.vmap(process.logsnr)(ts) - mean) / std)
    log_chance = jnp.log(jnp.maximum(below[:-1] - below[1:], 1e-30))
    draw = lambda key: ts[jax.random.categorical(key, log_chance)]
    return lambda keys: jax.vmap(draw)(checks.keys("of_grid", keys, jnp.size(keys)))


def _noisy(who: str, ts: TimesLike) -> TimesLike:
    """The times of a grid without a 0 at its end."""
    ts = times(who, ts)
    return ts[:-1] if len(ts) > 2 and float(ts[-1]) == 0.0 else ts


def _progressive(process, kind, teacher, steps, weight, predict, x0, t, keys: PRNGKeys) -> Losses:
    x0, t, keys = examples(x0, t, keys)
    _, x_t = perturbed(process, x0, t, keys)
    step = ddim(process).step

    def target(x_t, t, key):
        middle, s = t - 0.5 / steps, jnp.round(t * steps - 1.0) / steps
        x, _ = step(teacher, x_t, (), t, middle, key)
        x_s, _ = step(teacher, x.astype(x_t.dtype), (), middle, s, key)
        shrink = process.sigma(s) / process.sigma(t)
        return (x_s - shrink * x_t) / (process.alpha(s) - shrink * process.alpha(t))

    def loss(output, x_t, t, wanted):
        x0_hat = convert(process, kind, "x0", output, x_t, t)
        snr = jnp.exp(process.logsnr(t))
        return WEIGHTS[weight](snr) * jnp.mean(jnp.square(x0_hat - wanted))

    wanted = jax.lax.stop_gradient(jax.vmap(target)(x_t, t, keys))
    return jax.vmap(loss)(predict(x_t, t), x_t, t, wanted).astype(t.dtype)


def _consistency(process, kind, ts, predict, x0, t, keys: PRNGKeys) -> Losses:
    x0, t, keys = examples(x0, t, keys)
    rising = jnp.asarray(ts, t.dtype)[::-1]
    s = rising[jnp.maximum(jnp.searchsorted(rising, t, side="left") - 1, 0)]
    (_, x_t), (_, x_s) = (perturbed(process, x0, at, keys) for at in (t, s))

    def seen(output, x, at):
        x0_hat = jax.vmap(lambda o, x, at: convert(process, kind, "x0", o, x, at))(output, x, at)
        # At t_min the denoiser is x/alpha whatever the network says, and its equation is 0/0.
        first = (at <= rising[0]).reshape(-1, *[1] * (x.ndim - 1))
        scale = jax.vmap(process.alpha)(at).reshape(first.shape)
        return jnp.where(first, x / scale, x0_hat)

    wanted = jax.lax.stop_gradient(seen(predict(x_s, s), x_s, s))
    square = jnp.sum(jnp.square(seen(predict(x_t, t), x_t, t) - wanted), axis=tuple(range(1, x0.ndim)))
    c = HUBER * (x0[0].size ** 0.5)
    u = jax.vmap(lambda t: jnp.exp(-0.5 * process.logsnr(t)))
    return ((jnp.sqrt(square + c**2) - c) / (u(t) - u(s))).astype(t.dtype)


def _consistent(t_min: float, sigma_data: float, process: Process, t: Time) -> tuple[Scalar, Scalar]:
    u = lambda t: process.sigma(t) / process.alpha(t)
    apart = u(t) - u(t_min)
    skip = sigma_data**2 / (apart**2 + sigma_data**2)
    out = sigma_data * apart / jnp.sqrt(u(t) ** 2 + sigma_data**2)
    # x0 = skip (x0 + u noise) + out F
    return (1.0 - skip) / out, -skip * u(t) / out
