"""Time grids: arrays of times from noise down to clean, `steps` + 1 points for `steps` intervals.

A grid is an argument of `sample`, never a property of a solver. A first point below 1 is the t* of a purification.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxdiff import checks
from jaxdiff.diffusion.process import Process, concrete

__all__ = ["karras", "logsnr", "respaced", "uniform"]

Times = Float[Array, " times"]
TimesLike = Times | np.ndarray | Sequence[Any]
SPACINGS = ("leading", "trailing")


def uniform(steps: int, start: float = 1.0, end: float = 0.0) -> Times:
    """`steps` equal intervals from `start` down to `end`."""
    _check("uniform", steps, start, end)
    return jnp.asarray(np.linspace(start, end, steps + 1))


def respaced(steps: int, total: int = 1000, spacing: str = "trailing") -> Times:
    """A subset of the `total` steps of a discrete process, then 0 (Lin et al. 2023, arXiv 2305.08891, table 2).

    "trailing" begins at t = 1 exactly, for any number of steps. "leading" takes every k-th step from the first one on, as
    DDIM's and most published code does, and so leaves up to k - 1 steps of noise out. ValueError if there is no whole k
    that gives so many steps (the rule of Nichol and Dhariwal's code, "ddimN"): anything else would begin far from noise.
    """
    checks.count("respaced", steps=steps, total=total)
    checks.known("respaced", SPACINGS, spacing=spacing)
    if steps > total:
        raise ValueError(f"A respaced grid takes at most total = {total} steps; got {steps}.")
    if spacing == "trailing":
        times = np.round(np.arange(total, 0, -total / steps))[:steps]
    else:
        times = 1 + np.arange(0, total, _stride(steps, total))[::-1]
    return jnp.asarray(np.append(times, 0) / total)


def logsnr(process: Process, steps: int, start: float = 1.0, end: float = 1e-3) -> Times:
    """`steps` intervals of equal log signal-to-noise ratio from `start` down to `end` (Lu et al. 2022).

    ValueError unless the ratio is finite at both: end > 0 and alpha(start) > 0.
    """
    checks.instance("logsnr", Process, "VP()", process=process)
    _check("logsnr", steps, start, end)
    if end <= 0.0:
        raise ValueError(f"A logsnr grid needs end > 0, where the ratio is finite; got {end}.")
    if concrete(process.alpha, start) == 0.0:
        raise ValueError(
            f"A logsnr grid needs a start with a signal: alpha({start:g}) = 0 here, and the ratio is infinite. "
            f"Use start=0.999, or a uniform or respaced grid."
        )
    fine = np.linspace(start, end, 10_001)
    levels = np.asarray(jax.vmap(process.logsnr)(jnp.asarray(fine)))
    wanted = np.linspace(levels[0], levels[-1], steps + 1)
    return jnp.asarray(np.interp(wanted, levels, fine))


def karras(
    process: Process, steps: int, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0
) -> Times:
    """Levels sigma/alpha whose rho-th roots are even from sigma_max down to sigma_min, then 0 (Karras et al. 2022, equation 5).

    They are found in any process. ValueError for one that does not go from sigma_min to sigma_max.
    """
    checks.instance("karras", Process, "EDM()", process=process)
    checks.count("karras", steps=steps)
    checks.number("karras", "(0, inf)", sigma_min=sigma_min, sigma_max=sigma_max, rho=rho)
    if steps == 1:
        levels = np.array([sigma_max])
    else:
        levels = np.linspace(sigma_max ** (1.0 / rho), sigma_min ** (1.0 / rho), steps) ** rho
    least, most = (concrete(lambda t: jnp.exp(-0.5 * process.logsnr(t)), t) for t in (0.0, 1.0))
    if least is None or most is None:
        raise ValueError("karras needs a process whose levels are known numbers, and not traced ones.")
    if not (least < sigma_min <= sigma_max and levels[0] <= most * (1.0 + 1e-6)):
        raise ValueError(
            f"karras needs levels from sigma_max down to sigma_min that the process has, {most:.4g} to {least:.4g}; got "
            f"{sigma_max:g} and {sigma_min:g}."
        )
    with jax.ensure_compile_time_eval():  # a grid is known while something else is traced
        found = jax.vmap(process.time)(-2.0 * jnp.log(jnp.asarray(np.minimum(levels, most))))
        return jnp.append(found, 0.0)


def times(who: str, ts: TimesLike, dtype: Any = None) -> Times | np.ndarray:
    """`ts` as floats (of `dtype`); ValueError unless it has two points or more that fall within [0, 1].

    A grid with values comes as a numpy array, whose values stay known while something else is traced. Of one that is traced
    only the shape is checked.
    """
    ts = jnp.asarray(ts) if checks.traced(ts) else _numbers(who, ts)
    grid = ts.astype(jnp.result_type(float) if dtype is None else dtype)
    if grid.ndim != 1 or len(grid) < 2:
        raise ValueError(
            f"{who} needs ts with 2 times or more, the ends of its intervals, such as grids.uniform(50); "
            f"got shape {grid.shape}."
        )
    if isinstance(grid, np.ndarray):
        _falling(who, grid)
    return grid


def _numbers(who: str, ts: TimesLike) -> np.ndarray:
    try:
        grid = np.asarray(ts)
    except ValueError:  # rows of unequal length
        grid = np.empty((), object)
    if grid.dtype.kind in "OSUMmbc":
        raise ValueError(f"{who} needs ts as an array of times, such as grids.uniform(50); got {ts!r:.60}.")
    return grid


def _falling(who: str, grid: np.ndarray) -> None:
    """ValueError, with the place, unless the times lie in [0, 1] and each is below the one before."""
    outside = ~((grid >= 0.0) & (grid <= 1.0))
    if outside.any():
        i = int(np.argmax(outside))
        remedy = " For the numbers of steps divide by their total." if grid[i] > 1.0 else ""
        raise ValueError(f"{who} needs times in [0, 1]; got ts[{i}] = {grid[i]:g}.{remedy}")
    if (np.diff(grid) >= 0.0).any():
        i = int(np.argmax(np.diff(grid) >= 0.0))
        how = "rise" if grid[i + 1] > grid[i] else "repeat"
        remedy = " Use ts[::-1]." if (np.diff(grid) > 0.0).all() else ""
        raise ValueError(
            f"{who} needs times that fall, from noise to clean; they {how} from ts[{i}] = {grid[i]:g} "
            f"to ts[{i + 1}] = {grid[i + 1]:g}.{remedy}"
        )


def _stride(steps: int, total: int) -> int:
    """The whole k for which every k-th of `total` steps makes `steps` of them; ValueError if there is none."""
    count = lambda k: -(-total // k)
    k = count(steps)
    if count(k) != steps:
        more = count(k - 1)
        raise ValueError(
            f"A leading grid takes every k-th of {total} steps, which makes {count(k)} or {more} of them, not {steps}. "
            "Use one of these, or spacing='trailing'."
        )
    return k


def _check(who: str, steps: int, start: float, end: float) -> None:
    checks.count(who, steps=steps)
    checks.number(who, "[0, 1]", start=start, end=end)
    if not start > end:
        raise ValueError(
            f"A time grid runs down within [0, 1]: 1 >= start > end >= 0; got {start} and {end}."
        )
