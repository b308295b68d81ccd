"""The L1 threat: few pixels, moved far.

The set is the L1 ball cut by the box. Its Euclidean projection (Croce and Hein 2021, "Mind the box", prop. 2.1) is, with the
room c_i = 1 - x_i where v_i > 0 and x_i elsewhere,

    p_i = sign(v_i) clip(|v_i| - lambda, 0, c_i),                                                (1)
    lambda = 0 if that is inside the ball, else the root of s(lambda) = sum_i clip(|v_i| - lambda, 0, c_i) = radius.   (2)

s falls piecewise linearly with bends at |v_i| - c_i and |v_i|: the bends are sorted, the root's piece is found by bisection.
Steps follow the largest coordinates of the gradient alone (Tramer and Boneh 2019, SLIDE).
"""

import math

import jax
import jax.numpy as jnp
import optax
from jaxtyping import ScalarLike

from jaxdiff import checks
from jaxdiff.attacks.threats.planes import plane_l1
from jaxdiff.attacks.threats.threat import Perturbation, Threat, add_inside, on_images
from jaxdiff.types import Image, PRNGKey, Scalar

__all__ = ["l1"]


def l1(radius: ScalarLike, sparsity: float | int | None = 0.05) -> Threat:
    """sum_i |delta_i| <= radius inside the box; `sparsity` is the share of coordinates that one step moves (at least one).

    Random starts are uniform in the ball. A step moves the coordinates with the largest gradients equally far; with
    `sparsity` None it is the norm's own steepest one, all on the largest coordinate (ties share it): the best single step,
    as of `fgsm`, and a slow one of many. The gradient of `apply` is that of an ascent: 0 where a coordinate stands at the
    border of the box and would leave it. Raises ValueError for a negative radius, or a sparsity outside (0, 1].
    """
    radius = checks.number("l1", "[0, inf]", radius=radius)
    if sparsity is not None:
        sparsity = checks.number("l1 (or None)", "(0, 1]", sparsity=sparsity)

    def init(key: PRNGKey, x: Image) -> Perturbation:
        # Laplace variables over the sum of their sizes and of one exponential more are uniform in the unit ball.
        sizes_key, slack_key = jax.random.split(key)
        draw = jax.random.laplace(sizes_key, x.shape, x.dtype)
        return radius * draw / (_norm(draw) + jax.random.exponential(slack_key, (), x.dtype))

    ball = Threat(
        init=init,
        apply=add_inside,
        project=lambda delta, x: _project(delta, x, radius),
        steepest=optax.stateless(lambda g, _: _largest(g) if sparsity is None else _sparse(g, sparsity)),
        norm=_norm,
        radius=radius,
        to_plane=plane_l1,
        measure=_norm,
        name="l1",
        symbol=r"$\ell_1$",
    )
    return on_images(ball)


def _norm(delta: Perturbation) -> Scalar:
    return jnp.sum(jnp.abs(delta))


def _largest(g: Perturbation) -> Perturbation:
    signs = jnp.where(jnp.abs(g) == jnp.max(jnp.abs(g)), jnp.sign(g), 0.0)
    return signs / jnp.maximum(_norm(signs), 1.0)


def _sparse(g: Perturbation, sparsity: float | int) -> Perturbation:
    k = max(1, math.ceil(sparsity * g.size))
    sizes, places = jax.lax.top_k(jnp.abs(g).ravel(), k)
    signs = jnp.sign(g).ravel()[places] / jnp.maximum(jnp.sum(sizes > 0.0), 1).astype(g.dtype)
    return jnp.zeros(g.size, g.dtype).at[places].set(signs).reshape(g.shape)


def _project(v: Perturbation, x: Image, radius: ScalarLike) -> Perturbation:
    """Equations (1) and (2)."""
    size, room = jnp.abs(v), jnp.where(v > 0.0, 1.0 - x, x)
    shrunk = lambda threshold: jnp.clip(size - threshold, 0.0, room)
    bends = jnp.sort(jnp.maximum(jnp.concatenate([(size - room).ravel(), size.ravel()]), 0.0))

    def bisect(_, piece):
        low, high = piece
        middle = (low + high) // 2
        outside = jnp.sum(shrunk(bends[middle])) >= radius
        return jnp.where(outside, middle, low), jnp.where(outside, high, middle)

    piece = jnp.asarray(0), jnp.asarray(bends.size - 1)
    low, high = jax.lax.fori_loop(0, math.ceil(math.log2(bends.size)), bisect, piece)
    low, high = bends[low], bends[high]
    slope = jnp.sum((size > low) & (size - room < high))
    root = low + (jnp.sum(shrunk(low)) - radius) / jnp.maximum(slope, 1).astype(v.dtype)
    moved = shrunk(jnp.where(jnp.sum(shrunk(0.0)) > radius, root, 0.0))
    # What rounding left outside the ball goes back. Full pixels stay exactly at the border.
    total = jnp.sum(moved)
    outside = total > radius
    inside = moved * jnp.where(outside, radius / jnp.where(outside, total, 1.0), 1.0)
    return jnp.sign(v) * jnp.where(moved == room, room, inside)


# A direction that knows neither x nor the box (optax hands it the gradient and delta alone) would choose the same few
# pixels for ever once they stand at the border. So the gradient says it: losses are maximised, and where a pixel can not
# follow its derivative, the one-sided derivative inside the box is 0.
