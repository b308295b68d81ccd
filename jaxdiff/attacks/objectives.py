"""What an attacker maximises: functions (logits, y) -> scalar, larger is worse for the defender.

`y` is a label, or whatever the objective compares with (for `kl`: the logits of the clean image).
"""

import jax
import jax.numpy as jnp

from jaxdiff.types import Label, Logits, Objective, Scalar

__all__ = ["cross_entropy", "kl", "margin"]


def cross_entropy() -> Objective:
    """-log softmax(logits)_y."""

    def objective(logits: Logits, y: Label) -> Scalar:
        return -jax.nn.log_softmax(logits)[y]

    return objective


def margin() -> Objective:
    """max over j != y of z_j, minus z_y: positive exactly where the label is lost (Carlini and Wagner 2017, f6)."""

    def objective(logits: Logits, y: Label) -> Scalar:
        if logits.shape[0] < 2:
            raise ValueError("margin needs logits of at least two classes; got one.")
        others = jnp.where(jnp.arange(logits.shape[0]) == y, -jnp.inf, logits)
        return jnp.max(others) - logits[y]

    return objective


def kl() -> Objective:
    """KL(softmax(y) || softmax(logits)), with y the logits of the clean image (Zhang et al. 2019, TRADES)."""

    def objective(logits: Logits, y: Logits) -> Scalar:
        log_p = jax.nn.log_softmax(y)
        return jnp.sum(jnp.exp(log_p) * (log_p - jax.nn.log_softmax(logits)))

    return objective
