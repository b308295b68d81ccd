"""Is a classifier robust, or does it only hide its gradient? Checks that a gradient attack can be trusted.

Each check measures a symptom of gradient masking (Athalye et al. 2018, section 3.1; Carlini et al. 2019, arXiv 1902.06705)
on the images that the classifier gets right, and trips beyond a threshold:

    zero_gradients   images where the gradient of the cross-entropy is 0 or not finite
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
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, ScalarLike

from jaxdiff.attacks.ascent import pgd
from jaxdiff.attacks.attack import lost, untargeted
from jaxdiff.attacks.objectives import cross_entropy, dlr, margin
from jaxdiff.attacks.square import square_linf
from jaxdiff.attacks.stepwise import finite
from jaxdiff.attacks.threat import linf
from jaxdiff.types import Attack, Classifier, Image, Images, Label, Labels, PRNGKey

RANDOM = ("eot_noise", "randomness")
EOT_DRAWS = 20  # what attacks usually average over (AutoAttack's `rand`)


class Check(NamedTuple):
    """One symptom: its value, beyond which threshold it trips, whether it does, and what that means."""

    name: str
    value: float
    threshold: float
    tripped: bool
    words: str


class Battery(NamedTuple):
    """The checks of one classifier; as a string, a Markdown table and the verdict."""

    checks: tuple[Check, ...]

    @property
    def tripped(self) -> list[str]:
        """The names of the checks that tripped."""
        return [check.name for check in self.checks if check.tripped]

    @property
    def verdict(self) -> str:
        """What the checks say together, in words."""
        masked = [name for name in self.tripped if name not in RANDOM]
        words = []
        if masked:
            words.append(
                f"Gradient masking is likely: {', '.join(masked)} tripped. Accuracies under gradient attacks overstate the "
                "robustness; attack with queries, through a stand-in for the gradient (BPDA), or from another model."
            )
        if "eot_noise" in self.tripped:
            words.append("Gradients of single draws are mostly noise: average more of them than usual.")
        if "randomness" in self.tripped:
            words.append("The classifier is random: attack averages of draws and judge by several.")
        return (
            " ".join(words)
            or "No check tripped: nothing speaks for gradient masking, which proves no robustness."
        )

    def __str__(self) -> str:
        rows = [
            f"| {c.name} | {c.value:.3g} | {c.threshold:.3g} | {'TRIPPED' if c.tripped else 'ok'} | {c.words} |"
            for c in self.checks
        ]
        return "\n".join(
            ["| check | value | threshold | | |", "|:--|--:|--:|:--|:--|", *rows, "", self.verdict]
        )


def margin_pgd(radius: ScalarLike, steps: int) -> Attack:
    """L-infinity PGD on the margin, from a random start in steps of 2.5 radius / steps."""
    return untargeted(pgd(linf(radius), 2.5 * radius / steps, steps), margin())


def query_search(radius: ScalarLike) -> Attack:
    """Square with 500 queries."""
    return untargeted(square_linf(radius, 500, rescale=True), margin())


def masking_battery(
    classifier: Classifier,
    images: Images,
    labels: Labels,
    key: PRNGKey,
    radius: ScalarLike,
    white_box: Callable[[ScalarLike, int], Attack] = margin_pgd,
    black_box: Callable[[ScalarLike], Attack] = query_search,
    steps: Sequence[int] = (1, 10, 50),
    restarts: int = 5,
    draws: int = 16,
) -> Battery:
    """All checks at once, on images [batch, ...] in [0, 1]: `white_box(radius, steps)` against `black_box(radius)`.

    The radius reaches the attacks as a traced number. `radius` should be one at which the white box breaks some images. About
    (restarts + 2) max(steps) gradients and the queries of the black box for each image. ValueError for settings that measure
    nothing, or if the classifier gets no image right.
    """
    if restarts < 2 or draws < 2 or len(steps) < 2 or list(steps) != sorted(set(steps)):
        raise ValueError(
            "masking_battery needs restarts >= 2, draws >= 2 and two or more growing numbers of steps; got "
            f"restarts = {restarts}, draws = {draws}, steps = {tuple(steps)}."
        )
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(len(images)))
    seen = jax.device_get(jax.jit(jax.vmap(_examined(classifier, draws)))(images, labels, keys))
    right = seen.pop("right")
    if not right.any():
        raise ValueError(
            "The classifier gets none of these images right: nothing could be masked. Give others."
        )
    n = int(right.sum())
    seen = {name: values[right] for name, values in seen.items()}

    def accuracy(attack: Callable[[ScalarLike], Attack]) -> Callable[..., np.ndarray]:
        """(radius, run) -> which of the right images stand after the attack; compiled once for all radii and runs."""
        one = jax.vmap(_stands(classifier, attack), (0, 0, 0, None, None))
        compiled = jax.jit(lambda radius, run: one(images, labels, keys, radius, run))
        return lambda radius, run=0: np.asarray(compiled(radius, run))[right]

    runs = [accuracy(lambda radius, s=s: white_box(radius, s)) for s in steps]
    by_steps = [run(radius) for run in runs]
    by_starts = [by_steps[-1], *(runs[-1](radius, k) for k in range(1, restarts))]
    white, black = np.all(by_starts, axis=0), accuracy(black_box)(radius)
    few = max(0.02, 1.5 / n)  # one image alone trips nothing
    return Battery(
        (
            zero_gradients(seen["zero"], few),
            flat_dlr(seen["flat"], few),
            steps_curve([float(s.mean()) for s in by_steps], steps, float((white & ~black).mean()), few),
            restarts_curve(float(by_starts[0].mean()), float(white.mean()), restarts, max(0.1, few)),
            huge_radius(float(runs[-1](1.0).mean()), few),
            queries_against_gradients(float(white.mean()), float(black.mean()), few),
            eot_noise(seen["snr"]),
            randomness(seen["differs"]),
        )
    )


def zero_gradients(zero: np.ndarray, few: float) -> Check:
    """Of the cross-entropy, by image."""
    share = float(zero.mean())
    words = f"the gradient is 0 or not finite for {share:.0%} of the images"
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


def signal_to_noise(gradients: Float[Array, "draws *shape"]) -> Array:
    """Equation (1) from gradients of independent draws: inf without noise, 0 where noise explains the whole mean."""
    n = len(gradients)
    mean = jnp.mean(gradients, axis=0)
    noise = jnp.sum(jnp.square(gradients - mean[None])) / (n - 1)
    signal = jnp.maximum(jnp.sum(jnp.square(mean)) - noise / n, 0.0)
    return jnp.where(noise > 0.0, signal / jnp.where(noise > 0.0, noise, 1.0), jnp.inf)


def _examined(classifier: Classifier, draws: int):
    """(x, y, key) -> what an image shows without an attack."""

    def one(x: Image, y: Label, key: PRNGKey):
        keys = jax.vmap(lambda i: jax.random.fold_in(_judge_key(key), i))(jnp.arange(draws))
        logits = jax.vmap(lambda k: classifier(x, k))(keys[:2])
        flattest = dlr() if logits.shape[1] >= 3 else margin()
        slope = lambda loss, k: jax.grad(lambda x: loss(classifier(x, k), y))(x)  # noqa: E731
        gradients = jax.vmap(lambda k: slope(cross_entropy(), k))(keys)
        return {
            "right": ~lost(logits[0], y),
            "zero": _vanishes(gradients[0]),
            "flat": _vanishes(slope(flattest, keys[0])),
            "snr": signal_to_noise(finite(gradients)),
            "differs": jnp.any(logits[0] != logits[1]),
        }

    return one


def _stands(classifier: Classifier, attack: Callable[[ScalarLike], Attack]):
    """(x, y, key, radius, run) -> whether the label stands; all attacks are judged by the same draw."""

    def one(x: Image, y: Label, key: PRNGKey, radius: ScalarLike, run: Array):
        attack_key, judge_key = jax.random.fold_in(key, run), jax.random.fold_in(_judge_key(key), 0)
        return ~lost(classifier(attack(radius)(classifier, x, y, attack_key), judge_key), y)

    return one


def _judge_key(key: PRNGKey) -> PRNGKey:
    return jax.random.fold_in(key, 2**30)  # no run has this number


def _vanishes(gradient: Image) -> Array:
    return ~jnp.all(jnp.isfinite(gradient)) | jnp.all(gradient == 0.0)
