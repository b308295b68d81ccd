"""Denoising losses, their weights over noise levels, and how training times are drawn.

With x_t = alpha x0 + sigma noise and a network that predicts `kind` (see `prediction`), the loss of one example is

    L = w(t) mean over pixels of |output - target|^2.                                           (1)

L_simple (Ho et al. 2020, equation 14) is kind "eps" with w = 1. The bound on the likelihood (their equation 12) is eps with

    lambda_t = beta_t^2 / (2 var_t alpha_t (1 - alpha_bar_t)),                                  (2)

which for a step from t to s is, in this library's terms and for any process,

    lambda = (1 - ratio)^2 sigma_s^2 / (2 var ratio),    ratio = SNR(t) / SNR(s),               (3)

with var the posterior variance sigma_s^2 (1 - ratio) or the upper one sigma_t^2 (1 - ratio). As the steps get small, T times
(3) becomes -1/2 d/dt logsnr (Kingma et al. 2021, equation 17). Weights are stated for the squared error of the noise and
translated to the kind in use, so that a weight means the same whatever the network predicts.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdiff.diffusion.prediction import check_kind, error_scale, target
from jaxdiff.diffusion.process import Process
from jaxdiff.types import Images, PRNGKey, PRNGKeys, Scalar, Time

__all__ = ["discrete_time", "elbo", "simple", "uniform_time"]

Weight = Callable[[Process, str, Time], Scalar]
Losses = Float[Array, " batch"]


def denoising(process: Process, kind: str, weight: Weight) -> Callable[..., Losses]:
    """Equation (1) as (predict, x0 [B, ...], t [B], keys [B]) -> losses [B].

    `predict(x_t, t)` is the batched network; each example draws its noise from its own key.
    """
    check_kind(kind)
    perturb, wanted = (
        jax.vmap(process.perturb),
        jax.vmap(lambda x0, noise, t: target(process, kind, x0, noise, t)),
    )

    def losses(predict: Callable, x0: Images, t: Float[Array, " batch"], keys: PRNGKeys) -> Losses:
        noise = jax.vmap(lambda key: jax.random.normal(key, x0.shape[1:], x0.dtype))(keys)
        error = predict(perturb(x0, noise, t), t) - wanted(x0, noise, t)
        weights = jax.vmap(lambda t: weight(process, kind, t))(t)
        return weights * jnp.mean(jnp.square(error), axis=tuple(range(1, x0.ndim)))

    return losses


def simple() -> Weight:
    """w = 1 on the squared error of what the network predicts; with kind "eps", Ho et al.'s L_simple."""
    return lambda process, kind, t: jnp.ones_like(t)


def elbo(steps: int | None = None, variance: str = "upper") -> Weight:
    """The weight of the bound on the likelihood in nats: equation (3) times `steps`, or its limit if `steps` is None.

    The mean over uniform t of the weighted loss is the sum of the bound's T terms, per pixel. The first step (s = 0)
    has a finite weight only with the "upper" variance, as in Ho et al.
    """
    if variance not in ("posterior", "upper"):
        raise ValueError(f"Unknown variance {variance!r}. Known: ['posterior', 'upper'].")

    def noise_weight(process, t):
        if steps is None:
            return -0.5 * jax.grad(process.logsnr)(t)
        s = t - 1.0 / steps
        ratio = jnp.exp(process.logsnr(t) - process.logsnr(s))
        if variance == "posterior":
            return steps * 0.5 * (1.0 / ratio - 1.0)
        # sigma_s^2 / (ratio sigma_t^2) = alpha_s^2 / alpha_t^2, which stays finite at s = 0.
        return steps * 0.5 * (1.0 - ratio) * jnp.square(process.alpha(s) / process.alpha(t))

    def weight(process, kind, t):
        scale = error_scale(process, "eps", t) / error_scale(process, kind, t)
        return noise_weight(process, t) * scale

    return weight


def uniform_time(t_min: float = 1e-5) -> Callable[[PRNGKey], Scalar]:
    """key -> t uniform in [t_min, 1] (Song et al. 2021 train with t_min = 1e-5)."""
    if not 0.0 < t_min < 1.0:
        raise ValueError(f"uniform_time needs t_min in (0, 1); got {t_min}.")
    return lambda key: jax.random.uniform(key, minval=t_min, maxval=1.0)


def discrete_time(steps: int = 1000) -> Callable[[PRNGKey], Scalar]:
    """key -> t = i/steps with i uniform in 1 ... steps (Ho et al. 2020, algorithm 1)."""
    return lambda key: jax.random.randint(key, (), 1, steps + 1) / steps
