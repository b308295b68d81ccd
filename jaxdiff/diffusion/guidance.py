"""Guidance: from denoisers to a denoiser, so that every solver is guided alike.

With D a denoiser and score = (alpha D - x_t) / sigma^2 (Tweedie's formula), adding g to the score adds sigma^2 g / alpha to D:

    classifier-free  D_u + s (D_c - D_u): the score of p(x) (p(x|y) / p(x))^s                        (1)
    classifier       D + s sigma^2/alpha grad log p(y | x_t): the score of p(x) p(y|x)^s             (2)
    measurement      D + sigma^2/alpha grad [-|y - A(D(x_t))|^2 / (2 var)]                           (3)
    replacement      D where nothing is known, else what is known                                    (4)

(1): Ho and Salimans 2022 (arXiv 2207.12598), in the convention where s = 1 is no guidance; theirs is w = s - 1. With a second,
worse network in the place of D_u it is autoguidance (Karras et al. 2024, arXiv 2406.02507). (2): Dhariwal and Nichol 2021.
(3): diffusion posterior sampling (Chung et al. 2023, arXiv 2209.14687), by a gradient through the denoiser; it is exact for
Gaussian data of variance v and var = var_y + A v sigma^2 / (alpha^2 v + sigma^2) A^T. At each noise level (1) and (2) are the
scores of tilted densities, but samples are not distributed as a tilted density of images: the tilted densities of other levels
are no noised versions of it.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from jaxdiff import checks
from jaxdiff.diffusion.conditions import NO_CLASS
from jaxdiff.diffusion.process import Process
from jaxdiff.diffusion.solvers import Solver
from jaxdiff.diffusion.variance import Share
from jaxdiff.types import Denoiser, Image, Scalar, Time

__all__ = [
    "autoguidance",
    "classifier",
    "classifier_free",
    "inpainted",
    "learned_variance",
    "measurement",
    "of_class",
    "posterior_noise",
    "repaint",
    "thresholded",
    "within",
]


@runtime_checkable
class Conditional(Protocol):
    """A denoiser of a network that can be told more than image and time, such as y=3. (Also `share`, if it has learned
    variances.)
    """

    def given(self, **told: Any) -> Any:
        """The same, told this."""


def classifier_free(denoise: Denoiser, unconditional: Denoiser, scale: float) -> Denoiser:
    """Equation (1): `denoise` knows the class, the other does not; scale 1 is `denoise` itself, 0 the other."""
    checks.function("classifier_free", denoise=denoise, unconditional=unconditional)
    checks.number("classifier_free", "[0, inf)", scale=scale)
    return partial(_extrapolated, denoise, unconditional, scale)


def of_class(score: Conditional, y: Any, scale: float = 1.0) -> Denoiser:
    """The denoiser of class `y` of a network trained with `conditions.label`, guided by equation (1); scale 1 asks it once."""
    checks.number("of_class", "[0, inf)", scale=scale)
    told = score.given(y=y)
    return told if scale == 1.0 else classifier_free(told, score.given(y=NO_CLASS), scale)


def learned_variance(score: Conditional, y: Any = None) -> Share:
    """The variances that a network has learned beside what it predicts, for `ddpm` and `variational_bound`; of class `y`."""
    told: Any = score if y is None else score.given(y=y)
    return told.share


def autoguidance(denoise: Denoiser, worse: Denoiser, scale: float) -> Denoiser:
    """Equation (1) away from what a smaller or less trained network says."""
    checks.function("autoguidance", denoise=denoise, worse=worse)
    checks.number("autoguidance", "[1, inf)", scale=scale)
    return partial(_extrapolated, denoise, worse, scale)


def within(denoise: Denoiser, guided: Denoiser, start: float, end: float) -> Denoiser:
    """`guided` at times from start down to end, elsewhere `denoise` (Kynkäänniemi et al. 2024, arXiv 2404.07724)."""
    checks.function("within", denoise=denoise, guided=guided)
    checks.number("within", "[0, 1]", start=start, end=end)
    if not start > end:
        raise ValueError(f"within needs 1 >= start > end >= 0; got {start:g} and {end:g}.")
    return partial(_within, denoise, guided, start, end)


def classifier(
    process: Process, denoise: Denoiser, log_prob: Callable[[Image, Time], Scalar], scale: float
) -> Denoiser:
    """Equation (2); `log_prob(x_t, t)` is log p(y | x_t) of a classifier of noisy images. Not where alpha = 0."""
    checks.instance("classifier", Process, "VP()", process=process)
    checks.function("classifier", denoise=denoise, log_prob=log_prob)
    checks.number("classifier", "[0, inf)", scale=scale)
    return partial(_by_gradient, process, denoise, lambda x_t, t, _: scale * log_prob(x_t, t))


def measurement(
    process: Process,
    denoise: Denoiser,
    operator: Callable[[Image], Any],
    measured: Any,
    variance: float | Callable[[Time], Scalar],
) -> Denoiser:
    """Equation (3): `operator` is A (a mask, a blur, a smaller image), of images in the units of the denoiser, [-1, 1].

    `variance` is a number or a function of t. Not where alpha = 0.
    """
    checks.instance("measurement", Process, "VP()", process=process)
    checks.function("measurement", denoise=denoise, operator=operator)
    if not callable(variance):
        checks.number("measurement", "(0, inf)", variance=variance)

    def log_likelihood(x_t: Image, t: Time, x0_hat: Image) -> Scalar:
        var = variance(t) if callable(variance) else variance
        return -0.5 * jnp.sum((jnp.asarray(measured) - operator(x0_hat)) ** 2) / var

    return partial(_by_gradient, process, denoise, log_likelihood)


def posterior_noise(
    process: Process, noise: float, data: float = 0.25, gain: float = 1.0
) -> Callable[[Time], Scalar]:
    """The variance of `measurement` as a function of t for data of variance `data`: noise + gain data sigma^2 / (alpha^2 data +
    sigma^2), with `noise` that of what is measured and `gain` a diagonal entry of A A^T: 1 of pixels, 1/k^2 of means of k x k.
    """
    checks.instance("posterior_noise", Process, "VP()", process=process)
    checks.number("posterior_noise", "(0, inf)", noise=noise, data=data, gain=gain)
    return partial(_posterior_noise, process, noise, data, gain)


def inpainted(denoise: Denoiser, known: Any, mask: Any) -> Denoiser:
    """Equation (4): `known` in [-1, 1] where the mask is true; so samples at a time without noise have it untouched."""
    checks.function("inpainted", denoise=denoise)
    return partial(_inpainted, denoise, jnp.asarray(known), _mask("inpainted", mask))


def thresholded(denoise: Denoiser, quantile: float = 0.995) -> Denoiser:
    """Dynamic thresholding (Saharia et al. 2022): x0_hat clipped to [-s, s] and divided by s, the quantile of |x0_hat| or 1."""
    checks.function("thresholded", denoise=denoise)
    checks.number("thresholded", "(0, 1]", quantile=quantile)
    return partial(_thresholded, denoise, quantile)


def repaint(
    process: Process, solver: Solver, known: Any, mask: Any, repeats: int = 10, jump: int = 1
) -> Solver:
    """A solver of what is not known (Lugmayr et al. 2022, algorithm 1): after each step the known pixels, noised to that time,
    take their place. An interval of the grid is gone down in `jump` equal steps, `repeats` times, with noise back up to its
    begin between them: their resampling with jumps of so many steps.
    """
    checks.instance("repaint", Process, "VP()", process=process)
    checks.instance("repaint", Solver, "ddpm(process)", solver=solver)
    checks.count("repaint", repeats=repeats, jump=jump)
    step = partial(_repainted, process, solver, jnp.asarray(known), _mask("repaint", mask), repeats, jump)
    return Solver(solver.init, step, solver.check)


def _extrapolated(denoise: Denoiser, other: Denoiser, scale: float, x_t: Image, t: Time) -> Image:
    base = other(x_t, t)
    return base + scale * (denoise(x_t, t) - base)


def _within(denoise: Denoiser, guided: Denoiser, start: float, end: float, x_t: Image, t: Time) -> Image:
    inside = (jnp.asarray(t) <= start) & (jnp.asarray(t) >= end)
    return jax.lax.cond(inside, guided, denoise, x_t, t)


def _by_gradient(process: Process, denoise: Denoiser, log_prob: Callable, x_t: Image, t: Time) -> Image:
    def both(x_t):
        x0_hat = denoise(x_t, t)
        return log_prob(x_t, t, x0_hat), x0_hat

    gradient, x0_hat = jax.grad(both, has_aux=True)(x_t)
    return x0_hat + process.sigma(t) ** 2 / process.alpha(t) * gradient


def _posterior_noise(process: Process, noise: float, data: float, gain: float, t: Time) -> Scalar:
    var = process.sigma(t) ** 2
    return noise + gain * data * var / (process.alpha(t) ** 2 * data + var)


def _inpainted(denoise: Denoiser, known: Image, mask: jax.Array, x_t: Image, t: Time) -> Image:
    return jnp.where(mask, known, denoise(x_t, t))


def _thresholded(denoise: Denoiser, quantile: float, x_t: Image, t: Time) -> Image:
    x0_hat = denoise(x_t, t)
    largest = jnp.maximum(jnp.quantile(jnp.abs(x0_hat), quantile), 1.0)
    return jnp.clip(x0_hat, -largest, largest) / largest


def _repainted(
    process, solver, known, mask, repeats, jump, denoise: Denoiser, x, carry, t, s, key
) -> tuple[Image, Any]:
    a, b = process.transition(t, s)
    ends = jnp.linspace(t, s, jump + 1)
    known = known.astype(x.dtype)

    def once(state, i):
        x, carry, key = state
        step_key, known_key = jax.random.split(jax.random.fold_in(key, i))
        x_s, carry = solver.step(denoise, x, carry, ends[i], ends[i + 1], step_key)
        noise = jax.random.normal(known_key, x.shape, x.dtype)
        x_s = jnp.where(mask, process.perturb(known, noise, ends[i + 1]), x_s.astype(x.dtype))
        return (x_s, carry, key), None

    def down(x, key):
        (x, after, _), _ = jax.lax.scan(once, (x, carry, key), jnp.arange(jump))
        return x, after

    def again(x, key):
        down_key, up = jax.random.split(key)
        x_s, _ = down(x, down_key)
        return (a * x_s + b * jax.random.normal(up, x.shape, x.dtype)).astype(x.dtype), None

    first, last = jax.random.split(key)
    x, _ = jax.lax.scan(again, x, jax.random.split(first, repeats - 1))
    return down(x, last)


def _mask(who: str, mask: Any) -> jax.Array:
    mask = jnp.asarray(mask)
    if mask.dtype != bool:
        raise ValueError(f"{who} needs mask as truths, true where a pixel is known; got {mask.dtype}.")
    return mask
