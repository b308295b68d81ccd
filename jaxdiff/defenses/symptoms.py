"""Symptoms of gradient masking (Athalye et al. 2018, section 3.1; Carlini et al. 2019, arXiv 1902.06705).

Each check measures one, and trips beyond a threshold:

    zero_gradients   images where the gradient of the cross-entropy is not finite, or vanishes beside that of the margin
    flat_dlr         the same for the DLR, which no scale of the logits can starve
    steps            accuracy gained by an attack of more steps: an iterative attack is never the weaker one; or, where more
                     steps change nothing, images that fall to queries and to no gradient: the attack is stuck
    restarts         accuracy lost to more random starts: one run gets stuck
    huge_radius      accuracy at radius 1, where every image is in reach
    black_box        accuracy under gradients above that under queries alone
    eot_noise        signal to noise |E g|^2 / E |g - E g|^2 of the gradient g of one draw; n draws have n times as much  (1)
    randomness       images whose logits differ under two keys

A flat curve of steps alone is no symptom: on a linear model the first step is the optimum, and at a tiny radius nothing
falls. So a stuck attack is noticed only if queries get further; where 500 find nothing either, only radius 1 can tell.

The last two concern random classifiers: no masking, but attacks and judges must average. (1) is estimated without bias from
the variance of n draws, |mean of g|^2 having the mean |E g|^2 + variance / n.

A vanished gradient is seldom exactly 0: compilers fuse multiplications into sums, and leave rounding errors with random signs
in its place. So it is held against the margin's. With p the label's probability and rival classes j,

    grad CE = sum_j p_j grad (z_j - z_y),    |grad CE| <= (1 - p) max_j |grad (z_j - z_y)|,               (2)

it vanishes where 1 - p is below the resolution of float32 at 1, whatever was computed; and any gradient vanishes that is as
small as rounding errors of the margin's.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, ScalarLike

from jaxdiff.attacks.stepwise import finite
from jaxdiff.floats import wide
from jaxdiff.types import Image, Label, Logits

EOT_DRAWS = 20  # what attacks usually average over (AutoAttack's `rand`)
ROUNDING = 8 * float(jnp.finfo(jnp.float32).eps)  # relative: smaller differences say nothing
RESOLUTION = float(jnp.finfo(jnp.float32).epsneg)  # of float32 below 1


class Check(NamedTuple):
    """One symptom: its value, beyond which threshold it trips, whether it does, and what that means."""

    name: str
    value: float
    threshold: float
    tripped: bool
    words: str


def zero_gradients(zero: np.ndarray, few: float) -> Check:
    """Of the cross-entropy, by image."""
    share = float(zero.mean())
    words = f"the gradient vanishes or is not finite for {share:.0%} of the images"
    return Check("zero_gradients", share, few, share > few, words)


def flat_dlr(flat: np.ndarray, few: float) -> Check:
    """The same for the DLR (for two classes, which have none, the margin)."""
    share = float(flat.mean())
    words = f"the DLR is flat for {share:.0%} of the images"
    return Check("flat_dlr", share, few, share > few, words)


def steps_curve(accuracies: Sequence[float], steps: Sequence[int], missed: float, few: float) -> Check:
    """The largest gain of accuracy from one number of steps to the next; for a flat curve also what it has missed.

    `missed` is the share of images that stand against every run of the gradient attack and fall to queries.
    """
    curve = ", ".join(f"{a:.0%} after {s}" for a, s in zip(accuracies, steps, strict=True))
    gain, words = float(np.diff(accuracies).max()), f"accuracy by steps: {curve}"
    if max(accuracies) - min(accuracies) <= few < missed:
        gain, words = max(gain, missed), f"{words}: flat, though {missed:.0%} more fall to queries"
    return Check("steps", gain, few, gain > few, words)


def restarts_curve(one: float, all_of_them: float, restarts: int, threshold: float) -> Check:
    """The accuracy lost between one start and several."""
    words = f"accuracy {one:.0%} after one start, {all_of_them:.0%} after {restarts}"
    return Check("restarts", one - all_of_them, threshold, one - all_of_them > threshold, words)


def huge_radius(accuracy: float, few: float) -> Check:
    """An attacker without limits must win."""
    return Check("huge_radius", accuracy, few, accuracy > few, f"{accuracy:.0%} stand at radius 1")


def queries_against_gradients(white: float, black: float, few: float) -> Check:
    """Gradients know more than queries."""
    words = f"{white:.0%} stand against gradients, {black:.0%} against queries"
    return Check("black_box", white - black, few, white - black > few, words)


def eot_noise(snr: np.ndarray) -> Check:
    """The median of equation (1); below 1 / EOT_DRAWS the usual averages are noise."""
    value = float(np.median(snr))
    words = f"{1 / value:.0f} draws give a signal as large as the noise" if value > 0 else "no signal at all"
    words = "gradients of one draw have no noise" if value == np.inf else words
    return Check("eot_noise", value, 1 / EOT_DRAWS, value < 1 / EOT_DRAWS, words)


def randomness(differs: np.ndarray) -> Check:
    """Any difference between two keys counts."""
    share = float(differs.mean())
    return Check(
        "randomness", share, 0.0, share > 0, f"two keys give other logits for {share:.0%} of the images"
    )


def signal_to_noise(gradients: Float[Array, " draws *shape"]) -> Array:
    """Equation (1) from gradients of independent draws: inf where the noise is rounding, 0 where it explains the whole mean."""
    n = len(gradients)
    gradients = wide(gradients)
    largest = jnp.max(jnp.abs(gradients), initial=0.0)
    gradients = gradients / jnp.where(largest > 0.0, largest, 1.0)  # squares neither overflow nor vanish
    mean = jnp.mean(gradients, axis=0)
    noise = jnp.sum(jnp.square(gradients - mean[None])) / (n - 1)
    whole = jnp.sum(jnp.square(mean))
    signal = jnp.maximum(whole - noise / n, 0.0)
    there = noise > ROUNDING**2 * whole
    return jnp.where(there, signal / jnp.where(there, noise, 1.0), jnp.inf)


def saturated(logits: Logits, y: Label) -> Array:
    """Whether 1 - p_y is below the resolution of float32 at 1: equation (2) leaves nothing of the cross-entropy's gradient."""
    logits = wide(logits)
    rivals = jax.nn.logsumexp(jnp.where(jnp.arange(len(logits)) == y, -jnp.inf, logits) - logits[y])
    return rivals < float(np.log(RESOLUTION))


def vanishes(gradient: Image, margins: Image, tolerance: ScalarLike) -> Array:
    """Whether the gradient is not finite, or its largest entry is at most `tolerance` times that of the margin's gradient."""
    size = lambda g: jnp.max(jnp.abs(wide(g)), initial=0.0)
    return ~jnp.all(jnp.isfinite(gradient)) | (size(gradient) <= tolerance * size(finite(margins)))
