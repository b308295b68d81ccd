"""The type of a solver: one step over an interval, from time t down to s < t.

The noise z of a step is `jax.random.normal(key, x.shape, x.dtype)`. A denoiser sees images of the type of x; what is computed
from its answer is in the type of the times. With x0_hat = denoise(x_t, t),

    noise_hat = (x_t - alpha_t x0_hat) / sigma_t,    ratio = SNR(t) / SNR(s) = exp(logsnr_t - logsnr_s)  in (0, 1).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from jaxdiff import checks
from jaxdiff.diffusion.grids import TimesLike
from jaxdiff.diffusion.process import Process, concrete
from jaxdiff.types import Denoiser, Image, PRNGKey, Time


def _any_grid(ts: TimesLike) -> None:
    """No complaint."""


@dataclass(frozen=True)
class Solver:
    """init(x) -> carry and step(denoise, x, carry, t, s, key) -> (x, carry), one interval of time.

    `check(ts)` raises ValueError for a grid on which the steps do not exist.
    """

    init: Callable[[Image], Any]
    step: Callable[[Denoiser, Image, Any, Time, Time, PRNGKey], tuple[Image, Any]]
    check: Callable[[TimesLike], None] = _any_grid

    def __post_init__(self):
        checks.function("Solver", init=self.init, step=self.step, check=self.check)


def memoryless(step: Callable, check: Callable[[TimesLike], None] = _any_grid) -> Solver:
    """A solver whose steps carry nothing from one to the next."""
    return Solver(_no_carry, partial(_carrying_nothing, step), check)


def _no_carry(x: Image) -> tuple[()]:
    return ()


def _carrying_nothing(step: Callable, denoise: Denoiser, x, carry, t, s, key):
    return step(denoise, x, t, s, key), carry


def both(process: Process, denoise: Denoiser, x: Image, t: Time) -> tuple[Image, Image]:
    """(x0_hat, noise_hat) at time t > 0."""
    x0_hat = denoise(x, t)
    return x0_hat, (x - process.alpha(t) * x0_hat) / process.sigma(t)


def finite_drift(who: str, process: Process, ts: TimesLike) -> None:
    """ValueError for a grid that begins where alpha = 0."""
    start = ts[0]
    if concrete(process.alpha, start) == 0.0:
        raise ValueError(
            f"{who} cannot begin at t = {float(start):g}, where alpha = 0 and the drift is infinite. Begin the grid a "
            "little later, end the process with a little signal (such as Cosine(alpha_min=5e-5)), or use ddpm or ddim."
        )
