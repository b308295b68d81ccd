"""Gaussian data, for which everything about diffusion is known exactly.

With x0 ~ N(mean, std^2) per pixel, p_t = N(alpha mean, v), v = alpha^2 std^2 + sigma^2, and E[x0 | x_t] is linear in x_t.
"""

import jax.numpy as jnp

MEAN, STD = 0.3, 0.5


def variance(process, t):
    return process.alpha(t) ** 2 * STD**2 + process.sigma(t) ** 2


def exact_denoiser(process):
    def denoise(x_t, t):
        alpha = process.alpha(t)
        return MEAN + alpha * STD**2 / variance(process, t) * (x_t - alpha * MEAN)

    return denoise


def log_density(process, x, t):
    v = variance(process, t)
    return jnp.sum(-0.5 * (x - process.alpha(t) * MEAN) ** 2 / v - 0.5 * jnp.log(2 * jnp.pi * v))


def flow(process, x, t, s):
    """The probability-flow ODE from t to s: quantiles of p_t go to quantiles of p_s."""
    scale = jnp.sqrt(variance(process, s) / variance(process, t))
    return process.alpha(s) * MEAN + scale * (x - process.alpha(t) * MEAN)
