"""Threats: the set an attacker may move in.

A threat lives in the space of perturbations: `apply` turns a perturbation into an image, `project` brings it back to the
set of allowed ones, `init` draws a random one, and `steepest` turns a gradient into the direction of steepest ascent under
the threat's norm (sign for L-infinity, g / |g| for L2). Additive balls intersect the box: x + delta stays in [0, 1].
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, ScalarLike

from jaxdiff import checks
from jaxdiff.attacks.threats.planes import plane_l2, plane_linf
from jaxdiff.types import Image, PRNGKey, Scalar

__all__ = ["l2", "linf"]

Perturbation = Float[Array, "..."]


class Threat(NamedTuple):
    """init(key, x) -> delta, apply(x, delta) -> x', project(delta, x) -> delta, steepest, and norm(delta) -> scalar.

    `norm(project(delta, x)) <= radius`. `measure(x' - x)`, where pixels tell it, is how far an image has been moved in the
    sense of the threat: at most `radius` for all that `apply` makes of what `project` allows. Tables write its `name`, figures
    its `symbol`. Norms that minimum-norm attacks know have `to_plane(x, w, c)`: the smallest
    perturbation inside the box with <w, delta> = c, or as near to that as the box lets.
    """

    init: Callable[[PRNGKey, Image], Perturbation]
    apply: Callable[[Image, Perturbation], Image]
    project: Callable[[Perturbation, Image], Perturbation]
    steepest: optax.GradientTransformation
    norm: Callable[[Perturbation], Scalar]
    radius: ScalarLike
    to_plane: Callable[[Image, Perturbation, Scalar], Perturbation] | None = None
    measure: Callable[[Image], Scalar] | None = None
    name: str = "threat"
    symbol: str = "norm"


def linf(radius: ScalarLike, beyond: bool = False) -> Threat:
    """|delta_i| <= radius for every pixel i; random starts are uniform in the ball (Madry et al. 2018).

    A radius of 1 reaches every image. A larger one, unless it is infinite, is more likely meant in units of 255 and refused,
    unless `beyond` says that it is meant.
    """
    radius = checks.number("linf", "[0, inf]", radius=radius)
    if not beyond and not checks.traced(radius) and 1.0 < radius < jnp.inf:
        raise ValueError(
            f"An L-infinity radius of 1 reaches every image; got {radius:g}. For {radius:g} of 255 write {radius:g} / 255; "
            "`beyond=True` takes it as it is."
        )
    ball = Threat(
        init=lambda key, x: radius * jax.random.uniform(key, x.shape, x.dtype, -1.0, 1.0),
        apply=_add,
        project=lambda delta, x: into_box(jnp.clip(delta, -radius, radius), x),
        steepest=optax.stateless(lambda g, _: jnp.sign(g)),
        norm=_largest,
        radius=radius,
        to_plane=plane_linf,
        measure=_largest,
        name="linf",
        symbol=r"$\ell_\infty$",
    )
    return on_images(ball)


def l2(radius: ScalarLike) -> Threat:
    """|delta|_2 <= radius over all pixels; random starts are uniform in the ball.

    The projection is onto the ball, then onto the box: the box only shortens a perturbation, so both hold.
    """
    radius = checks.number("l2", "[0, inf]", radius=radius)

    def init(key, x):
        direction_key, length_key = jax.random.split(key)
        direction = _unit(jax.random.normal(direction_key, x.shape, x.dtype))
        return radius * direction * jax.random.uniform(length_key, (), x.dtype) ** (1.0 / x.size)

    def project(delta, x):
        norm = length(delta)
        outside = norm > radius
        return into_box(delta * jnp.where(outside, radius / jnp.where(outside, norm, 1.0), 1.0), x)

    ball = Threat(
        init=init,
        apply=_add,
        project=project,
        steepest=optax.stateless(lambda g, _: _unit(g)),
        norm=length,
        radius=radius,
        to_plane=plane_l2,
        measure=length,
        name="l2",
        symbol=r"$\ell_2$",
    )
    return on_images(ball)


def on_images(threat: Threat) -> Threat:
    """The threat on numpy arrays too; ValueError for what is no image in [0, 1], and for a perturbation that holds integers."""
    who = f"The threat {threat.name}"
    image = lambda x: checks.image(who, x)
    floats = lambda delta: checks.floats(who, delta, "perturbations")
    return threat._replace(
        init=lambda key, x: threat.init(key, image(x)),
        apply=lambda x, delta: threat.apply(image(x), floats(delta)),
        project=lambda delta, x: threat.project(floats(delta), image(x)),
        norm=lambda delta: threat.norm(floats(delta)),
        measure=threat.measure and (lambda difference: threat.measure(floats(difference))),
    )


def check_threat(who: str, threat: Any) -> None:
    """ValueError unless it is a `Threat`."""
    checks.instance(who, Threat, "linf(8 / 255)", threat=threat)


def _largest(delta: Perturbation) -> Scalar:
    return jnp.max(jnp.abs(delta))


def _add(x: Image, delta: Perturbation) -> Image:
    return x + delta


def into_box(delta: Perturbation, x: Image) -> Perturbation:
    """The perturbation, shortened where the image would leave [0, 1]."""
    # x + (1 - x) rounds to 1 and x - x is 0, so x + delta needs no clip of its own (whose gradient is 0 at the border).
    return jnp.clip(delta, -x, 1.0 - x)


def length(v: Perturbation) -> Scalar:
    """The L2 norm, with gradient 0 at 0."""
    square = jnp.sum(jnp.square(v))
    positive = square > 0.0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1.0)), 0.0)


def _unit(g: Perturbation) -> Perturbation:
    """g / |g|, and 0 for 0; scaled first, so that gradients of 1e-30 keep their direction."""
    # Not tiny itself: compiled with the division below it would be flushed to 0, and 0 / 0 is no direction.
    g = g / jnp.maximum(jnp.max(jnp.abs(g)), 4 * jnp.finfo(g.dtype).tiny)
    return g / jnp.maximum(length(g), 0.5)


@jax.custom_vjp
def add_inside(x: Image, delta: Perturbation) -> Image:
    """clip(x + delta, 0, 1) with the gradient of an ascent in delta: 0 only where a larger loss lies outside the box."""
    return jnp.clip(x + delta, 0.0, 1.0)


def _add_forward(x, delta):
    moved = add_inside(x, delta)
    return moved, moved


def _add_backward(moved, g):
    return g, jnp.where(jnp.where(g > 0.0, moved < 1.0, moved > 0.0), g, 0.0)


add_inside.defvjp(_add_forward, _add_backward)
