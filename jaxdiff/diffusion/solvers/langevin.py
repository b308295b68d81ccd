"""Steps at one noise level, and what is composed with them.

Langevin's dynamics at time t has p_t as its stationary law as eps -> 0:

    x <- x + eps score(x, t) + sqrt(2 eps) z.                                                        (1)

A corrector (Song et al. 2021, arXiv 2011.13456, algorithms 4 and 5) takes eps = 2 (snr |z| / |score|)^2, by norms over the
image; a predictor-corrector is `then(predictor, langevin(...))`. Annealed Langevin dynamics (Song and Ermon 2019, algorithm 1)
takes eps = rate sigma(t)^2 / 2 many times at each level.

Karras et al. (2022, algorithm 2) churn: before a step from ratio rho = sigma/alpha they raise it to (1 + gamma) rho by noise,

    y <- y + S_noise sqrt(rho'^2 - rho^2) z,    y = x / alpha,  rho' = (1 + gamma) rho.              (2)
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import checks
from jaxdiff.diffusion.denoiser import score
from jaxdiff.diffusion.process import Process
from jaxdiff.diffusion.solvers.solver import Solver, memoryless
from jaxdiff.types import Denoiser, Image

__all__ = ["annealed_langevin", "churned", "langevin", "then"]


def then(first: Solver, second: Solver) -> Solver:
    """Both over each interval, the second from where the first has arrived; each with a key of its own."""
    checks.instance("then", Solver, "ddpm(process)", first=first, second=second)
    return Solver(
        partial(_both_init, first, second),
        partial(_both_step, first, second),
        partial(_both_check, first, second),
    )


def langevin(process: Process, snr: float = 0.16, steps: int = 1) -> Solver:
    """The corrector: `steps` times (1) at the time of arrival, none where that has no noise.

    The published steps on a VP process are smaller by a factor 1 - beta.
    """
    checks.instance("langevin", Process, "VE()", process=process)
    checks.number("langevin", "(0, inf)", snr=snr)
    checks.count("langevin", steps=steps)
    return memoryless(partial(_corrected, process, snr, steps))


def annealed_langevin(process: Process, rate: float = 0.2, steps: int = 100) -> Solver:
    """`steps` times (1) at the time of departure; the last level ends with its denoised mean (Jolicoeur-Martineau et al. 2021).

    `rate` is epsilon / sigma_L^2 of NCSN, 2e-5 / 0.01^2 = 0.2 for their ten levels; the grid has every level once.
    """
    checks.instance("annealed_langevin", Process, "geometric(10)", process=process)
    checks.number("annealed_langevin", "(0, 2)", rate=rate)
    checks.count("annealed_langevin", steps=steps)
    return memoryless(partial(_annealed, process, rate, steps))


def churned(
    process: Process,
    solver: Solver,
    churn: float,
    steps: int,
    noise: float = 1.0,
    rho_min: float = 0.0,
    rho_max: float = float("inf"),
) -> Solver:
    """The solver with (2) before its steps: gamma = min(churn / steps, sqrt(2) - 1) where rho is in [rho_min, rho_max], else 0.

    `churn`, `noise`, `rho_min` and `rho_max` are S_churn, S_noise, S_tmin and S_tmax; `steps` is how many the grid has.
    """
    checks.instance("churned", Process, "EDM()", process=process)
    checks.instance("churned", Solver, "heun(process)", solver=solver)
    checks.number("churned", "[0, inf)", churn=churn, noise=noise, rho_min=rho_min)
    checks.number("churned", "(0, inf]", rho_max=rho_max)
    checks.count("churned", steps=steps)
    gamma = min(churn / steps, float(np.sqrt(2.0)) - 1.0)
    return Solver(
        solver.init, partial(_churned, process, solver, gamma, noise, rho_min, rho_max), solver.check
    )


def _both_init(first: Solver, second: Solver, x: Image) -> tuple[Any, Any]:
    return first.init(x), second.init(x)


def _both_step(first: Solver, second: Solver, denoise: Denoiser, x, carry, t, s, key) -> tuple[Image, Any]:
    keys = jax.random.split(key)
    x_s, one = first.step(denoise, x, carry[0], t, s, keys[0])
    x_s, two = second.step(denoise, x_s.astype(x.dtype), carry[1], t, s, keys[1])
    return x_s, (one, two)


def _both_check(first: Solver, second: Solver, ts: Any) -> None:
    first.check(ts)
    second.check(ts)


def _corrected(process: Process, snr: float, steps: int, denoise: Denoiser, x, t, s, key) -> Image:
    there = process.sigma(s) > 0.0
    at = jnp.where(there, s, t)  # any time with noise: the value is not used
    slope = score(process, denoise)

    def step(x, key):
        z, direction = jax.random.normal(key, x.shape, x.dtype), slope(x, at)
        long = jnp.sum(direction**2)
        eps = 2.0 * snr**2 * jnp.sum(z**2) / jnp.where(long > 0.0, long, 1.0)
        moved = x + eps * direction + jnp.sqrt(2.0 * eps) * z
        return jnp.where(there & (long > 0.0), moved, x).astype(x.dtype), None

    return jax.lax.scan(step, x, jax.random.split(key, steps))[0]


def _annealed(process: Process, rate: float, steps: int, denoise: Denoiser, x, t, s, key) -> Image:
    sigma, slope = process.sigma(t), score(process, denoise)
    eps = 0.5 * rate * sigma**2

    def step(x, key):
        z = jax.random.normal(key, x.shape, x.dtype)
        return (x + eps * slope(x, t) + jnp.sqrt(2.0 * eps) * z).astype(x.dtype), None

    x = jax.lax.scan(step, x, jax.random.split(key, steps))[0]
    last = process.sigma(s) == 0.0
    return jnp.where(last, process.alpha(s) * denoise(x, t), process.alpha(s) / process.alpha(t) * x)


def _churned(
    process, solver, gamma, noise, rho_min, rho_max, denoise: Denoiser, x, carry, t, s, key
) -> tuple[Image, Any]:
    noise_key, step_key = jax.random.split(key)
    rho = process.sigma(t) / process.alpha(t)
    wanted = jnp.where((rho >= rho_min) & (rho <= rho_max), 1.0 + gamma, 1.0) * rho
    raised = jnp.maximum(process.time(-2.0 * jnp.log(wanted)), t)  # no further than the process goes
    alpha = process.alpha(raised)
    added = jnp.sqrt(jnp.maximum(process.sigma(raised) ** 2 - (alpha * rho) ** 2, 0.0))
    x = alpha / process.alpha(t) * x + noise * added * jax.random.normal(noise_key, x.shape, x.dtype)
    return solver.step(denoise, x, carry, raised, s, step_key)
