"""Time grids: arrays of times from noise down to clean, `steps` + 1 points for `steps` intervals.

A grid is an argument of `sample`, never a property of a solver. A first point below 1 is the t* of a purification.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxdiff.diffusion.process import Process

__all__ = ["logsnr", "respaced", "uniform"]

Times = Float[Array, " times"]


def uniform(steps: int, start: float = 1.0, end: float = 0.0) -> Times:
    """`steps` equal intervals from `start` down to `end`."""
    _check(steps, start, end)
    return jnp.asarray(np.linspace(start, end, steps + 1))


def respaced(steps: int, total: int = 1000, spacing: str = "trailing") -> Times:
    """A subset of the `total` steps of a discrete process, then 0 (Lin et al. 2023, arXiv 2305.08891, table 2).

    "trailing" begins at t = 1 exactly; "leading" leaves the last total/steps - 1 steps of the noise out, as DDIM's and
    most published code does.
    """
    _check(steps, 1.0, 0.0)
    if steps > total:
        raise ValueError(f"A respaced grid takes at most total = {total} steps; got {steps}.")
    if spacing == "trailing":
        times = np.round(np.arange(total, 0, -total / steps))[:steps]
    elif spacing == "leading":
        times = np.arange(steps)[::-1] * (total // steps) + 1
    else:
        raise ValueError(f"Unknown spacing {spacing!r}. Known: ['leading', 'trailing'].")
    return jnp.asarray(np.append(times, 0) / total)


def logsnr(process: Process, steps: int, start: float = 1.0, end: float = 1e-3) -> Times:
    """`steps` intervals of equal log signal-to-noise ratio from `start` down to `end` > 0 (Lu et al. 2022)."""
    _check(steps, start, end)
    if end <= 0.0:
        raise ValueError(f"A logsnr grid needs end > 0, where the ratio is finite; got {end}.")
    fine = np.linspace(start, end, 10_001)
    levels = np.asarray(jax.vmap(process.logsnr)(jnp.asarray(fine)))
    wanted = np.linspace(levels[0], levels[-1], steps + 1)
    return jnp.asarray(np.interp(wanted, levels, fine))


def _check(steps: int, start: float, end: float) -> None:
    if steps < 1:
        raise ValueError(f"A time grid needs at least 1 step; got {steps}.")
    if not 1.0 >= start > end >= 0.0:
        raise ValueError(
            f"A time grid runs down within [0, 1]: 1 >= start > end >= 0; got {start} and {end}."
        )
