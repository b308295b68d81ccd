"""What an attacker maximises: functions (logits, y) -> scalar, larger is worse for the defender.

`y` is a label, or whatever the objective compares with (for `kl`: the logits of the clean image). The targeted ones are
(logits, y, target) -> scalar, larger is nearer to the target.

With the logits sorted as z_(1) >= z_(2) >= ..., the difference of logits ratio (Croce and Hein 2020a, equations 6 and 7) is

    DLR(z, y)         = -(z_y - max over i != y of z_i) / (z_(1) - z_(3) + 1e-12),                        (1)
    DLR(z, y, target) = -(z_y - z_target) / (z_(1) - (z_(3) + z_(4)) / 2 + 1e-12).                        (2)

Both are blind to a shift and to a positive scale of the logits: no rescaled classifier can starve them of gradient.

All are computed in float32 at least: a confident p_y - 1 is 0 in bfloat16, and 1e-12 is 0 in float16. The largest logit is
subtracted from the others alone. Compiled, the product that made a logit may be fused into this subtraction and is then not
rounded: the largest one minus itself would be noise in place of 0, and a vanished gradient p_y - 1 noise with a random sign.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdiff.floats import wide
from jaxdiff.types import Label, Logits, Objective, Scalar, TargetedObjective

__all__ = [
    "cross_entropy",
    "dlr",
    "kl",
    "margin",
    "targeted_cross_entropy",
    "targeted_dlr",
    "targeted_margin",
]


def cross_entropy() -> Objective:
    """-log softmax(logits)_y."""

    @_in_float32
    def objective(logits: Logits, y: Label) -> Scalar:
        return -_at(log_softmax(logits), y)

    return objective


def margin() -> Objective:
    """max over j != y of z_j, minus z_y: positive exactly where the label is lost (Carlini and Wagner 2017, f6)."""

    @_in_float32
    def objective(logits: Logits, y: Label) -> Scalar:
        if logits.shape[0] < 2:
            raise ValueError("margin needs logits of at least two classes; got one.")
        return _highest_other(logits, y) - _at(logits, y)

    return objective


def dlr() -> Objective:
    """Equation (1), for three classes or more: positive exactly where the label is lost.

    Where y is third, it is 1 with gradient 0. ValueError for fewer classes, where (1) says nothing: `margin` serves there.
    """

    @_in_float32
    def objective(logits: Logits, y: Label) -> Scalar:
        top = _largest(logits, 3, "dlr", "margin")
        return (_highest_other(logits, y) - _at(logits, y)) / (top[0] - top[2] + 1e-12)

    return objective


def kl() -> Objective:
    """KL(softmax(y) || softmax(logits)), with y the logits of the clean image (Zhang et al. 2019, TRADES)."""

    @_in_float32
    def objective(logits: Logits, y: Logits) -> Scalar:
        if jnp.shape(y) != logits.shape:
            raise ValueError(
                f"kl compares with the logits {list(logits.shape)} of the clean image; got shape {list(jnp.shape(y))}. "
                "For labels use cross_entropy()."
            )
        log_p = log_softmax(wide(jnp.asarray(y)))
        return jnp.sum(jnp.exp(log_p) * (log_p - log_softmax(logits)))

    return objective


def targeted_cross_entropy() -> TargetedObjective:
    """log softmax(logits)_target."""

    @_in_float32
    def objective(logits: Logits, y: Label, target: Label) -> Scalar:
        del y
        return _at(log_softmax(logits), target)

    return objective


def targeted_margin() -> TargetedObjective:
    """z_target - z_y: positive where the target has overtaken the label."""

    @_in_float32
    def objective(logits: Logits, y: Label, target: Label) -> Scalar:
        return _at(logits, target) - _at(logits, y)

    return objective


def targeted_dlr() -> TargetedObjective:
    """Equation (2), for four classes or more; ValueError for fewer: `targeted_margin` serves there."""

    @_in_float32
    def objective(logits: Logits, y: Label, target: Label) -> Scalar:
        top = _largest(logits, 4, "targeted_dlr", "targeted_margin")
        return (_at(logits, target) - _at(logits, y)) / (top[0] - (top[2] + top[3]) / 2 + 1e-12)

    return objective


@jax.custom_jvp
def log_softmax(logits: Logits) -> Logits:
    """log of the softmax, whose largest logit lies exactly 0 below itself however it is compiled."""
    top = jnp.argmax(logits)
    below = jnp.where(jnp.arange(logits.shape[0]) == top, 0.0, logits - logits[top])
    return below - jnp.log(jnp.sum(jnp.exp(below)))


@log_softmax.defjvp
def _log_softmax_jvp(primals, tangents):
    (logits,), (change,) = primals, tangents
    log_p = log_softmax(logits)
    return log_p, change - jnp.sum(jnp.exp(log_p) * change)


def _in_float32(objective: Callable[..., Scalar]) -> Callable[..., Scalar]:
    """The objective of float32 (or wider) logits; ValueError for what is no row of logits."""

    def widened(logits: Logits, *compared: Array) -> Scalar:
        logits = jnp.asarray(logits)
        if logits.ndim != 1 or not jnp.issubdtype(logits.dtype, jnp.floating):
            raise ValueError(
                f"An objective takes the logits [classes] of one example, floats; got {logits.dtype}{list(logits.shape)}."
            )
        return objective(wide(logits), *compared)

    return functools.wraps(objective)(widened)


def _at(values: Logits, y: Label) -> Scalar:
    """The value of a class; NaN where y is none. ValueError unless y is an integer."""
    y = jnp.asarray(y)
    if y.ndim or not jnp.issubdtype(y.dtype, jnp.integer):
        raise ValueError(
            f"This objective compares with a label, one integer; got {y.dtype}{list(y.shape)}. "
            "The logits of the clean image, as in trades, are for kl()."
        )
    y = y.astype(jnp.promote_types(y.dtype, jnp.int32))  # in int8 there is no class 1000 to compare with
    return jnp.where((y >= 0) & (y < values.shape[0]), values[y], jnp.nan)


def _highest_other(logits: Logits, y: Label) -> Scalar:
    return jnp.max(jnp.where(jnp.arange(logits.shape[0]) == y, -jnp.inf, logits))


def _largest(logits: Logits, classes: int, name: str, instead: str) -> Float[Array, " {classes}"]:
    """The largest few logits, the largest first."""
    if logits.shape[0] < classes:
        raise ValueError(
            f"{name} divides by a difference of sorted logits and needs at least {classes} classes; "
            f"got {logits.shape[0]}. Use {instead} in its place."
        )
    return jax.lax.top_k(logits, classes)[0]
