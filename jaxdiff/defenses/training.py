"""Adversarial training as an ordinary loss: the batch is attacked first, then learned from.

    madry    CE(f(x'), y)                                     Madry et al. 2018, equation 2.1           (1)
    mixed    c CE(f(x), y) + (1 - c) CE(f(x'), y)             Goodfellow et al. 2015, section 6         (2)
    trades   CE(f(x), y) + beta KL(f(x) || f(x'))             Zhang et al. 2019, equation 5             (3)

with x' the attacked image, a constant for the gradient (Danskin's theorem). The attack sees the network as it is used at
test time; for (3) it maximises the same KL. `Predict` is the batched network inside a training step,
predict(images, train) -> (logits, what the network updates by itself), and the attack is an ordinary attack of one example.
Every loss calls it once with train = True, and returns per-example values and what this call has updated.

Images lie in [0, 1], but an augmentation (`noise`) may have pushed pixels out of it. Attacks move inside the box, so images
are clipped to it before they are attacked, in every term of (1) to (3), and one with a pixel beyond [-1/2, 3/2] is refused:
it is in another range, such as [-1, 1]. `standard` takes pixels as they are, and refuses those beyond [-8, 9]: bytes. Where
values are traced, an example with such pixels, or with a label that is none of the classes, has the loss NaN, at which
training stops.
"""

from collections.abc import Callable
from functools import partial, wraps
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdiff import checks
from jaxdiff.attacks.objectives import cross_entropy, kl
from jaxdiff.types import Attack, Images, Labels, PRNGKeys

__all__ = ["madry", "mixed", "standard", "trades"]

BatchLogits = Float[Array, "batch classes"]
State = Any  # batch statistics, say
Predict = Callable[..., tuple[BatchLogits, State]]
ClassifierLoss = Callable[[Predict, Images, Labels, PRNGKeys], tuple[Float[Array, " batch"], State]]


def standard() -> ClassifierLoss:
    """Cross-entropy on the images as they are."""
    return _standard


def madry(attack: Attack) -> ClassifierLoss:
    """Cross-entropy on attacked images alone, equation (1)."""
    checks.function("madry", attack=attack)
    return partial(_madry, attack)


def mixed(attack: Attack, clean_share: float = 0.5) -> ClassifierLoss:
    """Clean and adversarial terms side by side, equation (2) with c = `clean_share` in [0, 1]."""
    checks.function("mixed", attack=attack)
    checks.number("mixed", "[0, 1]", clean_share=clean_share)
    return partial(_mixed, attack, clean_share)


def trades(attack: Attack, beta: float = 6.0) -> ClassifierLoss:
    """Clean cross-entropy plus beta >= 0 times the KL from clean to attacked predictions, equation (3).

    `attack` must maximise `kl`; it is given the clean logits in place of labels.
    """
    checks.function("trades", attack=attack)
    checks.number("trades", "[0, inf)", beta=beta)
    return partial(_trades, attack, beta)


def _believing(who: str, beyond: float, box: bool) -> Callable:
    """Decorates a loss(*settings, predict, x, y, keys) with the checks of its batch.

    Pixels may lie up to `beyond` outside [0, 1], and are clipped to it for the loss if `box`. `predict` is checked, too: it
    must give a row of logits for every image.
    """

    def decorate(loss: Callable) -> ClassifierLoss:
        @wraps(loss)
        def believed(*arguments):
            *settings, predict, x, y, keys = arguments
            checks.function(who, predict=predict)
            x = _near_box(who, x, beyond)
            y, keys = checks.labels(who, y, len(x)), checks.keys(who, keys, len(x))
            classes = []

            def checked(images, train):
                found = predict(images, train=train)
                logits, state = found if isinstance(found, tuple) and len(found) == 2 else (found, None)
                classes.append(_classes(who, logits, len(images)))
                if logits is found:
                    raise ValueError(
                        f"{who} needs predict(images, train) -> (logits, model_state); got logits alone."
                    )
                return logits, state

            losses, state = loss(*settings, checked, jnp.clip(x, 0.0, 1.0) if box else x, y, keys)
            checks.labels(who, y, len(x), classes[0])
            inside = lambda x, y: checks.believable((x + beyond) / (1.0 + 2.0 * beyond), y, classes[0])
            return jnp.where(jax.vmap(inside)(x, y), losses, jnp.nan), state

        return believed

    return decorate


@_believing("standard", beyond=8.0, box=False)
def _standard(predict, x, y, keys):
    logits, state = predict(x, train=True)
    return _cross_entropies(logits, y), state


@_believing("madry", beyond=0.5, box=True)
def _madry(attack, predict, x, y, keys):
    logits, state = predict(_attacked("madry", attack, predict, x, y, keys), train=True)
    return _cross_entropies(logits, y), state


@_believing("mixed", beyond=0.5, box=True)
def _mixed(attack, clean_share, predict, x, y, keys):
    clean, adversarial, state = _both(predict, x, _attacked("mixed", attack, predict, x, y, keys))
    losses = clean_share * _cross_entropies(clean, y) + (1.0 - clean_share) * _cross_entropies(adversarial, y)
    return losses, state


@_believing("trades", beyond=0.5, box=True)
def _trades(attack, beta, predict, x, y, keys):
    reference = jax.lax.stop_gradient(predict(x, train=False)[0])
    clean, adversarial, state = _both(predict, x, _attacked("trades", attack, predict, x, reference, keys))
    return _cross_entropies(clean, y) + beta * jax.vmap(kl())(adversarial, clean), state


def _attacked(who: str, attack: Attack, predict: Predict, x: Images, y: Array, keys: PRNGKeys) -> Images:
    """The attacked batch, a constant for the gradient of the loss."""
    classifier = lambda image, key: predict(image[None], train=False)[0][0]
    x_adv = jax.vmap(lambda x, y, key: attack(classifier, x, y, key))(x, y, keys)
    if getattr(x_adv, "shape", None) != x.shape:
        raise ValueError(
            f"{who}: an attack maps (classifier, image, label, key) to an image; from images {x.shape} this one made "
            f"{getattr(x_adv, 'shape', type(x_adv).__name__)}."
        )
    return jax.lax.stop_gradient(x_adv)


def _both(predict: Predict, x: Images, x_adv: Images) -> tuple[BatchLogits, BatchLogits, State]:
    """Logits of clean and attacked images from one batch, so that batch statistics see both, and what it has updated."""
    logits, state = predict(jnp.concatenate([x, x_adv]), train=True)
    return logits[: len(x)], logits[len(x) :], state


def _cross_entropies(logits: BatchLogits, y: Labels) -> Float[Array, " batch"]:
    return jax.vmap(cross_entropy())(logits, y)


def _near_box(who: str, x: Any, beyond: float) -> Images:
    """`x` as a batch of floats; where it is concrete, finite and at most `beyond` outside [0, 1]."""
    x = checks.floats(who, x)
    with jax.ensure_compile_time_eval():  # a concrete batch, also inside of a function that is traced
        near = checks.traced(x) or bool(jnp.all((x >= -beyond) & (x <= 1.0 + beyond)))
    checks.images(who, jnp.clip(x, 0.0, 1.0) if near else x)
    return x


def _classes(who: str, logits: Any, batch: int) -> int:
    """How many classes a batch of logits knows; ValueError for anything else."""
    shape, dtype = getattr(logits, "shape", None), getattr(logits, "dtype", None)
    if shape is None or len(shape) != 2 or shape[0] != batch or not jnp.issubdtype(dtype, jnp.floating):
        told = type(logits).__name__ if shape is None else f"{dtype}{list(shape)}"
        raise ValueError(
            f"{who} needs predict(images, train) -> (logits [{batch}, classes], model_state); got {told}."
        )
    return shape[1]
