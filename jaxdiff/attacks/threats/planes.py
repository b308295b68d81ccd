"""The nearest point of a hyperplane inside the box, in three norms.

    minimise |delta|  with  <w, delta> = c  and  0 <= x + delta <= 1                                 (1)

Pixels only move towards the plane: delta_i = sign(c w_i) t_i with 0 <= t_i <= r_i, the room the box leaves, and (1) asks for
the smallest t with sum_i |w_i| t_i = |c|. For L-infinity and L2 a pixel moves at its speed s_i until its room is spent,

    t_i = min(r_i, tau s_i),    s_i = 1 (L-infinity),    s_i = |w_i| (L2),                           (2)

which are the conditions of Karush, Kuhn and Tucker. What (2) gains is concave and piecewise linear in tau, so Newton's method
from tau = 0 rises to the root and gets there in a few steps, without a sort. For L1 the pixels with the largest |w_i| move
first, each as far as it can. Where the plane is out of reach all of them do, which is the corner nearest to it.

These are the projections of Croce and Hein 2020 (FAB, arXiv:1907.02044, section 2).
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdiff.types import Image, Scalar

__all__ = ["free", "plane_l1", "plane_l2", "plane_linf"]

ToPlane = Callable[[Image, Image, Scalar], Image]
Vector = Float[Array, " pixels"]


def plane_linf(x: Image, w: Image, c: Scalar) -> Image:
    """The solution of (1) in the L-infinity norm; 0 for w = 0."""
    return _towards(partial(_at_speed, jnp.ones_like), x, w, c)


def plane_l2(x: Image, w: Image, c: Scalar) -> Image:
    """The solution of (1) in the L2 norm; 0 for w = 0."""
    return _towards(partial(_at_speed, lambda steepness: steepness), x, w, c)


def plane_l1(x: Image, w: Image, c: Scalar) -> Image:
    """A solution of (1) in the L1 norm; 0 for w = 0. Among equal |w_i| the first pixels move."""
    return _towards(_one_by_one, x, w, c)


def free(to_plane: ToPlane, w: Image, c: Scalar) -> Image:
    """The same without the box, for one of the functions above: its norm is |c| over the dual norm of w."""
    # From the middle of the box, half the largest |w_i| is reached in every norm before a pixel gets to the border.
    reach = jnp.max(jnp.abs(w)) / 2
    times = jnp.where(reach > 0.0, c / jnp.where(reach > 0.0, reach, 1.0), 0.0)
    return times * to_plane(jnp.full_like(w, 0.5), w, reach)


def _towards(lengths: Callable[[Vector, Vector, Scalar], Vector], x: Image, w: Image, c: Scalar) -> Image:
    """sign(c w) lengths(|w|, room, |c|), with w and c scaled so that the largest |w_i| is 1: squares stay in range."""
    direction = jnp.where(c < 0.0, -jnp.sign(w), jnp.sign(w))
    room = jnp.select([direction > 0, direction < 0], [1.0 - x, x], 0.0)
    scale = jnp.maximum(jnp.max(jnp.abs(w)), jnp.finfo(w.dtype).tiny)
    distance = jnp.where(jnp.isnan(c), 0.0, jnp.abs(c) / scale)
    t = lengths(jnp.abs(w / scale).ravel(), room.ravel(), distance)
    return direction * t.reshape(w.shape)


def _at_speed(speed: Callable[[Vector], Vector], steepness: Vector, room: Vector, distance: Scalar) -> Vector:
    """Equation (2), with the tau at which sum_i steepness_i t_i = distance."""
    speed = speed(steepness)

    def newton(carry):
        tau, _ = carry
        missing = distance - jnp.sum(steepness * jnp.minimum(room, tau * speed))
        slope = jnp.sum(jnp.where(tau * speed < room, steepness * speed, 0.0))
        rises = (missing > 0.0) & (slope > 0.0)
        higher = tau + jnp.where(rises, missing / jnp.where(rises, slope, 1.0), 0.0)
        return jnp.minimum(higher, jnp.finfo(tau.dtype).max), tau  # infinity times a speed of 0 is NaN

    start = jnp.zeros_like(distance), -jnp.ones_like(distance)
    tau, _ = jax.lax.while_loop(lambda carry: carry[0] > carry[1], newton, start)
    return jnp.minimum(room, tau * speed)


def _one_by_one(steepness: Vector, room: Vector, distance: Scalar) -> Vector:
    order = jnp.argsort(-steepness)
    gains = (steepness * room)[order]
    missing = distance - (jnp.cumsum(gains) - gains)
    steps = jnp.clip(missing / jnp.maximum(steepness[order], jnp.finfo(room.dtype).tiny), 0.0, room[order])
    return jnp.zeros_like(room).at[order].set(steps)
