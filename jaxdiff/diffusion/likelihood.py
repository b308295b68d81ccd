"""The likelihood by the probability-flow ODE (Song et al. 2021, arXiv 2011.13456, appendix D.2), and bits per dimension.

Along dx/dt = v(x, t), the slope of `solvers.ode`, from t = t_min to 1,

    log p_{t_min}(x) = log N(x_1; 0, prior_std^2) + integral of div v(x_t, t) dt,                    (1)
    div v = trace of dv/dx,   or e^T (dv/dx) e for a probe e with E[e e^T] = I (Hutchinson).         (2)

Of images x of L = 256 levels, 0 ... 255, with uniform noise u, 2 (x + u) / L - 1 has the density p; a bin is 2/L wide in each
dimension, so

    bits/dim = -log2 p / d + log2(L / 2)                                                             (3)

is, in the mean over u, no less than the bits of the discrete image.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxdiff import checks
from jaxdiff.diffusion.bound import LEVELS
from jaxdiff.diffusion.process import Process, concrete
from jaxdiff.diffusion.solvers.ode import integrated, needs_diffrax, probability_flow
from jaxdiff.types import Denoiser, Image, PRNGKey, Scalar


class Likelihood(NamedTuple):
    """log p(x) in nats, where the flow has led to at t = 1, and in how many steps."""

    log_p: Scalar
    x_1: Image
    steps: Int[Array, ""]


def _exact(v: Callable, x: Image, key: PRNGKey) -> tuple[Image, Scalar]:
    jacobian = jax.jacfwd(v)(x).reshape(x.size, x.size)
    return v(x), jnp.trace(jacobian)


def _probed(draw: Callable, v: Callable, x: Image, key: PRNGKey) -> tuple[Image, Scalar]:
    probe = draw(key, x.shape, x.dtype)
    value, pulled = jax.jvp(v, (x,), (probe,))
    return value, jnp.sum(probe * pulled)


PROBES = {
    "rademacher": partial(_probed, jax.random.rademacher),
    "gaussian": partial(_probed, jax.random.normal),
    "exact": _exact,
}


def flow_likelihood(
    process: Process,
    t_min: float = 1e-5,
    probe: str = "rademacher",
    rtol: float = 1e-5,
    atol: float = 1e-5,
    max_steps: int = 1000,
) -> Callable[[Denoiser, Image, PRNGKey], Likelihood]:
    """(denoise, x, key) -> `Likelihood` of x as a point of p at t_min, equation (1), by Tsitouras' method (diffrax).

    One probe a trajectory, drawn from the key: "rademacher", "gaussian", or the "exact" trace, by as many derivatives as there
    are dimensions. ValueError for a process that ends in pure noise exactly, where the slope is infinite.
    """
    checks.instance("flow_likelihood", Process, "VP()", process=process)
    checks.number("flow_likelihood", "(0, 1)", t_min=t_min, rtol=rtol, atol=atol)
    checks.known("flow_likelihood", PROBES, probe=probe)
    checks.count("flow_likelihood", max_steps=max_steps)
    needs_diffrax("flow_likelihood")
    if concrete(process.alpha, 1.0) == 0.0:
        raise ValueError(
            "flow_likelihood needs a process that keeps a little signal at t = 1, such as VP() or Cosine(alpha_min=5e-5): "
            "where alpha = 0 the slope is infinite."
        )
    return partial(_flow_likelihood, process, t_min, probe, rtol, atol, max_steps)


def bits_per_dim(log_p: Any, dimensions: int, levels: int = LEVELS) -> Any:
    """Equation (3) of a density of images in [-1, 1] of so many levels."""
    checks.count("bits_per_dim", dimensions=dimensions)
    checks.count("bits_per_dim", 2, levels=levels)
    return -log_p / (dimensions * np.log(2.0)) + np.log2(levels / 2)


def dequantised(
    images: Int[Array, "..."] | Float[Array, "..."], key: PRNGKey, levels: int = LEVELS
) -> Float[Array, "..."]:
    """Images in [0, 1] of so many levels as points of [-1, 1]: each pixel uniform within its bin."""
    checks.count("dequantised", 2, levels=levels)
    level = jnp.round(checks.floats("dequantised", images) * (levels - 1))
    noise = jax.random.uniform(checks.key("dequantised", key), level.shape, level.dtype)
    return 2.0 * (level + noise) / levels - 1.0


def _flow_likelihood(
    process, t_min, probe, rtol, atol, max_steps, denoise: Denoiser, x: Image, key: PRNGKey
) -> Likelihood:
    x, key = checks.floats("flow_likelihood", x), checks.key("flow_likelihood", key)

    def slope(t, state):
        return PROBES[probe](lambda x: probability_flow(process, denoise, x, t), state[0], key)

    begin = x, jnp.zeros((), x.dtype)
    (x_1, divergence), steps = integrated(slope, t_min, 1.0, begin, rtol, atol, max_steps)
    log_prior = jnp.sum(jax.scipy.stats.norm.logpdf(x_1, scale=process.prior_std))
    return Likelihood(log_prior + divergence, x_1, steps)
