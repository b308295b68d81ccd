"""Is a classifier robust, or does it only hide its gradient? Checks that a gradient attack can be trusted.

`symptoms` says what is measured, on the images that the classifier gets right, and beyond which threshold a check trips.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ScalarLike

from jaxdiff import checks
from jaxdiff.attacks.ascents.ascent import pgd
from jaxdiff.attacks.attack import lost, untargeted
from jaxdiff.attacks.objectives import cross_entropy, dlr, margin
from jaxdiff.attacks.queries.square import square_linf
from jaxdiff.attacks.stepwise import Stepwise, finite
from jaxdiff.attacks.threats.threat import linf
from jaxdiff.defenses.symptoms import (
    RESOLUTION,
    ROUNDING,
    Check,
    eot_noise,
    flat_dlr,
    huge_radius,
    queries_against_gradients,
    randomness,
    restarts_curve,
    saturated,
    signal_to_noise,
    steps_curve,
    vanishes,
    zero_gradients,
)
from jaxdiff.floats import wide
from jaxdiff.types import Attack, Classifier, Image, Images, Label, Labels, PRNGKey

RANDOM = ("eot_noise", "randomness")


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
    images: Images | np.ndarray,
    labels: Labels | np.ndarray | Sequence[int],
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
    images, labels = _checked(classifier, images, labels, key)
    radius = _checked_settings(radius, white_box, black_box, steps, restarts, draws)
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


def _examined(classifier: Classifier, draws: int):
    """(x, y, key) -> what an image shows without an attack."""

    def one(x: Image, y: Label, key: PRNGKey):
        keys = jax.vmap(lambda i: jax.random.fold_in(_judge_key(key), i))(jnp.arange(draws))
        logits = wide(jax.vmap(lambda k: classifier(x, k))(keys[:2]))
        slope = lambda loss, k: jax.grad(lambda x: loss(classifier(x, k), y))(x)
        gradients = jax.vmap(lambda k: slope(cross_entropy(), k))(keys)
        margins = slope(margin(), keys[0])
        flat = vanishes(margins, margins, 0.0)
        if logits.shape[1] >= 3:
            top = jax.lax.top_k(logits[0], 3)[0]  # the DLR is the margin over top[0] - top[2]
            flat = vanishes(slope(dlr(), keys[0]), margins, ROUNDING / (top[0] - top[2] + 1e-12))
        same = jnp.abs(logits[0] - logits[1]) <= ROUNDING * jnp.max(jnp.abs(logits))
        return {
            "right": ~lost(logits[0], y),
            "zero": vanishes(gradients[0], margins, RESOLUTION) | saturated(logits[0], y),
            "flat": flat,
            "snr": signal_to_noise(finite(gradients)),
            "differs": ~jnp.all(same),
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


def _checked(classifier: Any, images: Any, labels: Any, key: Any) -> tuple[Images, Labels]:
    """The images and labels as arrays; ValueError for what is no classifier, batch, label or key."""
    who = "masking_battery"
    images, key = checks.images(who, images), checks.key(who, key)
    if not len(images):
        raise ValueError(f"{who} needs at least one image; got none.")
    classes = checks.logits_of(who, classifier, images[0], key)
    if classes < 2:
        raise ValueError(f"{who} needs a classifier of at least two classes; got one.")
    return images, checks.labels(who, labels, len(images), classes)


def _checked_settings(radius, white_box, black_box, steps, restarts, draws) -> float:
    """The radius as a float; ValueError for what measures nothing."""
    who = "masking_battery"
    checks.number(who, "(0, inf)", radius=radius)
    checks.count(who, 2, restarts=restarts, draws=draws)
    if not isinstance(steps, Sequence) or isinstance(steps, str) or len(steps) < 2:
        raise ValueError(
            f"{who} needs two or more growing numbers of steps, such as (1, 10, 50); got {steps!r}."
        )
    checks.count(who, **{f"steps[{i}]": s for i, s in enumerate(steps)})
    if list(steps) != sorted(set(steps)):
        raise ValueError(f"{who} needs growing numbers of steps; got {tuple(steps)}.")
    radius = float(radius)
    for name, value, like in (
        ("white_box", white_box, "(radius, steps)"),
        ("black_box", black_box, "(radius)"),
    ):
        if isinstance(value, Stepwise):
            raise ValueError(
                f"{who} needs {name} as a function of {like} that makes an attack; got an attack."
            )
    checks.takes(who, "(radius, steps)", 2, white_box=white_box)
    checks.takes(who, "(radius)", 1, black_box=black_box)
    # Their own constructors see the radius as a number here; below it is traced.
    made = {"white_box(radius, steps)": white_box(radius, steps[0]), "black_box(radius)": black_box(radius)}
    checks.function(who, **made)
    return radius
