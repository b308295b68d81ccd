"""What minimum-norm attacks share: decision boundaries, the nearest of them, and a record of the nearest victory."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxdiff.attacks.stepwise import Best, finite, improve
from jaxdiff.attacks.threats.planes import free
from jaxdiff.attacks.threats.threat import Threat
from jaxdiff.types import Classifier, Image, Label, Logits, PRNGKey, Scalar

Rivals = Int[Array, " rivals"]  # the classes whose boundaries are looked at

GRADIENTS_AT_ONCE = 16  # bounds the memory of networks with a thousand classes


def check_planes(name: str, threat: Threat) -> None:
    """A ValueError for threats without a projection onto hyperplanes."""
    if threat.to_plane is None:
        raise ValueError(
            f"{name} needs a threat with `to_plane`, the projection onto a hyperplane in its norm; this one has none. "
            "Use linf, l2 or l1."
        )


def highest(logits: Logits, y: Label, n: int) -> Rivals:
    """The n classes other than y with the largest logits, the largest first."""
    rest = jnp.where(jnp.arange(logits.shape[0]) == y, -jnp.inf, jnp.nan_to_num(logits))
    return jax.lax.top_k(rest, n)[1]


def likeliest_others(who: str, logits: Logits, y: Label, n: int) -> Rivals:
    """`highest`; ValueError where the model has fewer than n classes besides the label."""
    others = logits.shape[0] - 1
    if n > others:
        raise ValueError(
            f"{who} got n = {n} classes to aim at, but besides the label this model has {others}. Set n <= {others}."
        )
    return highest(logits, y, n)


def boundaries(
    classifier: Classifier, x: Image, y: Label, choose: Callable[[Logits], Rivals], key: PRNGKey
) -> tuple[Logits, Rivals, Float[Array, " rivals"], Float[Array, "rivals ..."]]:
    """(logits, rivals, f, w) at x, with f_j = z_j - z_y and w_j its gradient for the rivals j that the logits choose.

    One evaluation, and a gradient for each rival, a few at a time. Gradients that are not finite count as 0.
    """
    logits, pullback = jax.vjp(lambda x: classifier(x, key), x)
    if len(logits) < 2:
        raise ValueError("A decision boundary needs logits of at least two classes; got one.")
    rivals = choose(logits)
    row = lambda j: jax.nn.one_hot(j, logits.shape[0], dtype=logits.dtype)
    (w,) = jax.lax.map(lambda j: pullback(row(j) - row(y)), rivals, batch_size=GRADIENTS_AT_ONCE)
    return logits, rivals, logits[rivals] - logits[y], finite(w)


def nearest(
    threat: Threat, f: Float[Array, " rivals"], w: Float[Array, "rivals ..."]
) -> tuple[Scalar, Image]:
    """The (f_j, w_j) with the least |f_j| / |w_j|_dual."""
    if len(f) > 1:
        steepness = jnp.max(jnp.abs(w), axis=tuple(range(1, w.ndim)))
        # 1 / |w_j|_dual, and 0 / 0 for w_j = 0.
        slowness = jax.vmap(lambda w, s: threat.norm(free(threat.to_plane, w, s)))(w, steepness) / steepness
        distances = jnp.abs(f) * slowness
        j = jnp.argmin(jnp.where(jnp.isnan(distances), jnp.inf, distances))
    else:
        j = 0
    return f[j], w[j]


def record(threat: Threat, best: Best, x_0: Image, x: Image, is_lost: Bool[Array, ""]) -> Best:
    """The nearest point so far at which the label is lost, after one more evaluation.

    `best.loss` is minus its distance, whatever the radius; beyond the radius `best.x` stays x_0.
    """
    distance = threat.norm(x - x_0)
    won = is_lost & (distance <= threat.radius)
    return improve(best, jnp.where(won, x, x_0), won, jnp.where(is_lost, -distance, -jnp.inf))
