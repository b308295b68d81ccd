"""How the times of a training batch are drawn: keys [B], one an example, -> t [B]."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdiff import checks
from jaxdiff.diffusion.process import Process
from jaxdiff.types import PRNGKey, PRNGKeys, Scalar

__all__ = ["discrete", "log_normal", "stratified", "uniform"]

NoiseLevels = Callable[[PRNGKeys], Float[Array, " batch"]]


def uniform(t_min: float = 1e-5) -> NoiseLevels:
    """t uniform in [t_min, 1] (Song et al. 2021 train with t_min = 1e-5)."""
    checks.number("uniform", "(0, 1)", t_min=t_min)
    return partial(_each, lambda key: jax.random.uniform(key, minval=t_min, maxval=1.0))


def discrete(steps: int = 1000) -> NoiseLevels:
    """t = i/steps with i uniform in 1 ... steps (Ho et al. 2020, algorithm 1)."""
    checks.count("discrete", steps=steps)
    return partial(_each, lambda key: jax.random.randint(key, (), 1, steps + 1) / steps)


def log_normal(process: Process, mean: float = -1.2, std: float = 1.2) -> NoiseLevels:
    """The t at which log(sigma/alpha) is what N(mean, std^2) gives (Karras et al. 2022, table 1)."""
    checks.instance("log_normal", Process, "EDM()", process=process)
    checks.number("log_normal", "(-inf, inf)", mean=mean)
    checks.number("log_normal", "(0, inf)", std=std)
    draw = lambda key: process.time(-2.0 * (mean + std * jax.random.normal(key)))
    return partial(_each, draw)


def stratified(t_min: float = 1e-5) -> NoiseLevels:
    """t evenly over [t_min, 1] in a batch, from one uniform draw: (u + i/B) mod 1 of the way (Kingma et al. 2021, appendix).

    The loss of a batch varies less. The t of an example depends on its batch: of gradients that are accumulated, on its part.
    """
    checks.number("stratified", "(0, 1)", t_min=t_min)
    return partial(_stratified, t_min)


def _stratified(t_min: float, keys: PRNGKeys) -> Float[Array, " batch"]:
    keys = checks.keys("stratified", keys, jnp.size(keys))
    places = (jax.random.uniform(keys[0]) + jnp.arange(len(keys)) / len(keys)) % 1.0
    return t_min + (1.0 - t_min) * places


def _each(draw: Callable[[PRNGKey], Scalar], keys: PRNGKeys) -> Float[Array, " batch"]:
    return jax.vmap(draw)(checks.keys("noise_levels", keys, jnp.size(keys)))
