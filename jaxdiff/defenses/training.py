"""Adversarial training as an ordinary loss: the batch is attacked first, then learned from.

    madry    CE(f(x'), y)                                     Madry et al. 2018, equation 2.1           (1)
    mixed    c CE(f(x), y) + (1 - c) CE(f(x'), y)             Goodfellow et al. 2015, section 6         (2)
    trades   CE(f(x), y) + beta KL(f(x) || f(x'))             Zhang et al. 2019, equation 5             (3)

with x' the attacked image, a constant for the gradient (Danskin's theorem). The attack sees the network as it is used at
test time; for (3) it maximises the same KL. `Predict` is the batched network inside a training step,
predict(images, train) -> logits, and the attack is an ordinary attack of one example. Every loss returns per-example values
and the logits they come from.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdiff.attacks.objectives import cross_entropy, kl
from jaxdiff.types import Attack, Images, Labels, PRNGKeys

__all__ = ["madry", "mixed", "standard", "trades"]

BatchLogits = Float[Array, "batch classes"]
Predict = Callable[..., BatchLogits]
ClassifierLoss = Callable[[Predict, Images, Labels, PRNGKeys], Float[Array, " batch"]]


def standard() -> ClassifierLoss:
    """Cross-entropy on the images as they are."""
    return lambda predict, x, y, keys: _cross_entropies(predict(x, train=True), y)


def madry(attack: Attack) -> ClassifierLoss:
    """Cross-entropy on attacked images alone, equation (1)."""
    return lambda predict, x, y, keys: _cross_entropies(
        predict(_attacked(attack, predict, x, y, keys), train=True), y
    )


def mixed(attack: Attack, clean_share: float = 0.5) -> ClassifierLoss:
    """Clean and adversarial terms side by side, equation (2) with c = `clean_share`."""
    if not 0.0 <= clean_share <= 1.0:
        raise ValueError(f"mixed needs clean_share in [0, 1]; got {clean_share}.")

    def loss(predict, x, y, keys):
        clean, adversarial = _both(predict, x, _attacked(attack, predict, x, y, keys))
        return clean_share * _cross_entropies(clean, y) + (1.0 - clean_share) * _cross_entropies(
            adversarial, y
        )

    return loss


def trades(attack: Attack, beta: float = 6.0) -> ClassifierLoss:
    """Clean cross-entropy plus beta times the KL from clean to attacked predictions, equation (3).

    `attack` must maximise `kl`; it is given the clean logits in place of labels.
    """
    if not beta >= 0.0:
        raise ValueError(f"trades needs beta >= 0; got {beta}.")

    def loss(predict, x, y, keys):
        reference = jax.lax.stop_gradient(predict(x, train=False))
        clean, adversarial = _both(predict, x, _attacked(attack, predict, x, reference, keys))
        return _cross_entropies(clean, y) + beta * jax.vmap(kl())(adversarial, clean)

    return loss


def _attacked(attack: Attack, predict: Predict, x: Images, y: Array, keys: PRNGKeys) -> Images:
    """The attacked batch, a constant for the gradient of the loss."""
    classifier = lambda image, key: predict(image[None], train=False)[0]  # noqa: E731
    return jax.lax.stop_gradient(jax.vmap(lambda x, y, key: attack(classifier, x, y, key))(x, y, keys))


def _both(predict: Predict, x: Images, x_adv: Images) -> tuple[BatchLogits, BatchLogits]:
    """Logits of clean and attacked images from one batch, so that batch statistics see both."""
    logits = predict(jnp.concatenate([x, x_adv]), train=True)
    return logits[: len(x)], logits[len(x) :]


def _cross_entropies(logits: BatchLogits, y: Labels) -> Float[Array, " batch"]:
    return jax.vmap(cross_entropy())(logits, y)
