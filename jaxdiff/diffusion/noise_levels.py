"""How the times of a training batch are drawn: keys [B], one an example, -> t [B].

Importance sampling (Nichol and Dhariwal 2021, equation 18) draws step i with a probability p_i in proportion to the root mean
square of its last losses, and weighs its loss with 1/(T p_i), so that the mean loss stays what it is:

    p_i ~ sqrt(E[L_i^2]),    weight = 1 / (T p_i).                                   (1)

The losses of the past are a state that training carries, so it is an `Adaptive`: what draws them, and how they change.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdiff import checks
from jaxdiff.diffusion.process import Process
from jaxdiff.types import PRNGKey, PRNGKeys, Scalar

__all__ = ["discrete", "importance", "log_normal", "stratified", "uniform"]

NoiseLevels = Callable[[PRNGKeys], Float[Array, " batch"]]


class Adaptive(NamedTuple):
    """Noise levels that depend on a state, a pytree of arrays: what it is at first, (state, keys [B]) -> (t [B], weights [B] of
    their losses), and (state, t [B], losses [B]) -> the next state.
    """

    init: Callable[[], Any]
    draw: Callable[[Any, PRNGKeys], tuple[Float[Array, " batch"], Float[Array, " batch"]]]
    update: Callable[[Any, Float[Array, " batch"], Float[Array, " batch"]], Any]


def adaptive(levels: NoiseLevels | Adaptive) -> Adaptive:
    """Levels that do not change are adaptive ones with nothing for a state."""
    if isinstance(levels, Adaptive):
        return levels
    checks.function("noise_levels", time=levels)

    def draw(_, keys):
        t = levels(keys)
        return t, jnp.ones_like(t)

    return Adaptive(dict, draw, lambda state, t, losses: state)


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


def importance(steps: int = 1000, history: int = 10, uniform: float = 0.001) -> Adaptive:
    """t = i/steps by equation (1), from the last `history` losses of every step, mixed with a share `uniform` of equal chances.

    Until every step has so many losses, all have equal chances. For the losses of `bound_losses.vlb`.
    """
    checks.count("importance", steps=steps, history=history)
    checks.number("importance", "(0, 1]", uniform=uniform)

    def init():
        return {"losses": jnp.zeros((steps, history)), "seen": jnp.zeros(steps, jnp.int32)}

    def chances(state):
        size = jnp.sqrt(jnp.mean(jnp.square(state["losses"]), axis=1))
        share = size / jnp.maximum(jnp.sum(size), jnp.finfo(size.dtype).tiny)
        known = jnp.all(state["seen"] >= history) & (jnp.sum(size) > 0)
        return jnp.where(known, (1.0 - uniform) * share + uniform / steps, 1.0 / steps)

    def draw(state, keys):
        keys = checks.keys("importance", keys, jnp.size(keys))
        p = chances(state)
        below = jnp.cumsum(p)
        u = jax.vmap(lambda key: jax.random.uniform(key))(keys) * below[-1]
        i = jnp.minimum(jnp.searchsorted(below, u, side="right"), steps - 1)
        return (i + 1) / steps, 1.0 / (steps * p[i])

    def remember(state, one):
        i, loss = one
        row = jnp.append(state["losses"][i, 1:], loss)
        return {"losses": state["losses"].at[i].set(row), "seen": state["seen"].at[i].add(1)}, None

    def update(state, t, losses):
        i = jnp.round(t * steps).astype(int) - 1
        return jax.lax.scan(remember, state, (i, jax.lax.stop_gradient(losses).astype(jnp.float32)))[0]

    return Adaptive(init, draw, update)


def _stratified(t_min: float, keys: PRNGKeys) -> Float[Array, " batch"]:
    keys = checks.keys("stratified", keys, jnp.size(keys))
    places = (jax.random.uniform(keys[0]) + jnp.arange(len(keys)) / len(keys)) % 1.0
    return t_min + (1.0 - t_min) * places


def _each(draw: Callable[[PRNGKey], Scalar], keys: PRNGKeys) -> Float[Array, " batch"]:
    return jax.vmap(draw)(checks.keys("noise_levels", keys, jnp.size(keys)))
