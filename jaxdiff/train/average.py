"""Moving averages of the parameters, right from the first step on.

After n updates with decay d the average that weighs update i by d^(n - i) alone, whatever the parameters started from, is

    e_n = sum_{i=1}^n (1 - d) d^(n-i) p_i / (1 - d^n),                                  (1)

which is the recursion e_n = e_{n-1} + w_n (p_n - e_{n-1}) with

    w_n = (1 - d) / (1 - d^n),                                                          (2)

and w_1 = 1: what the average was before the first update is forgotten. (2) needs nothing but the number of updates, so that
a state holds no more than the average. The alternatives are rows of `WARMUPS`.
"""

import math
import warnings
from collections.abc import Callable, Iterable, Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from jaxdiff.checks import known, number
from jaxdiff.types import Scalar


def corrected(decay: float, n: Array) -> Scalar:
    """Equation (2): bias-corrected, as the moments of Adam are (Kingma and Ba 2015, section 3)."""
    return (1.0 - decay) / -jnp.expm1(n * (math.log(decay) if decay else -math.inf))


def ramp(decay: float, n: Array) -> Scalar:
    """1 - min(d, (1 + n) / (10 + n)), as in TensorFlow's averages and score_sde (Song et al. 2021)."""
    return jnp.maximum(1.0 - decay, 9.0 / (10.0 + n))


def constant(decay: float, n: Array) -> Scalar:
    """1 - d throughout, as in DDPM (Ho et al. 2020): the initial parameters keep the weight d^n."""
    return jnp.full_like(n, 1.0 - decay)


# (decay, number of updates so far, this one included) -> weight of the newest parameters
WARMUPS: dict[str, Callable[[float, Array], Scalar]] = {
    "constant": constant,
    "corrected": corrected,
    "ramp": ramp,
}


def ema_names(decays: Iterable[float]) -> dict[str, float]:
    """Name in `TrainState.ema` -> decay; ValueError for a decay outside [0, 1)."""
    if isinstance(decays, str | bytes | Mapping) or not isinstance(decays, Iterable):
        raise ValueError(f"ema_decays is a sequence of decays, such as (0.9999,) or (); got {decays!r}.")
    decays = list(decays)
    for decay in decays:
        number("An EMA, which averages with a decay such as 0.9999,", "[0, 1)", decay=decay)
    return {str(float(d)): float(d) for d in decays}


def averager(decays: Iterable[float], warmup: str = "corrected") -> Callable[..., dict[str, PyTree]]:
    """(averages by name, params, n) -> averages after the n-th update, for each decay; see `WARMUPS`.

    The function raises ValueError for averages with other decays.
    """
    known("make_step", WARMUPS, ema_warmup=warmup)
    decays, weight = ema_names(decays), WARMUPS[warmup]

    def average(ema: dict[str, PyTree], params: PyTree, n: Array) -> dict[str, PyTree]:
        if set(ema) != set(decays):
            raise ValueError(
                f"The state averages with decays {sorted(ema)}, the step with {sorted(decays)}: use the same."
            )
        n = jnp.asarray(n, jnp.result_type(float))

        def one(decay: float, e: Array, p: Array) -> Array:
            return e + weight(decay, n).astype(e.dtype) * (p.astype(e.dtype) - e)

        return {
            name: jax.tree.map(lambda e, p: one(decay, e, p), ema[name], params)
            for name, decay in decays.items()
        }

    return average


def warn_if_short(names: Iterable[str], steps: int) -> None:
    """Warns of every average whose horizon, 1 / (1 - d) steps, is longer than the run."""
    for name in names:
        horizon = 1.0 / (1.0 - float(name))
        if steps < horizon * (1.0 - 1e-9):
            warnings.warn(
                f"The average with decay {name} looks back over {horizon:.0f} steps, and the run has {steps}: with "
                'ema_warmup="corrected" it is close to the mean of all parameters since the start, with "constant" to '
                f"the initial ones. A decay of {1 - 10 / max(steps, 20):.7g} looks back over a tenth of the run.",
                stacklevel=3,
            )
