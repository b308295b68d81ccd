"""HopSkipJump: a gradient from decisions at the boundary (Chen, Jordan and Wainwright 2020, arXiv 1904.02144).

From a misclassified image z_t in d dimensions it repeats, with x_t on the boundary between x and z_t (`decision`, equation 2),

    g = sum_b (phi_b - mean phi) u_b,  phi_b = +-1 as x_t + delta u_b is lost or not,  |u_b| = 1,  (1)
    z_{t+1} = x_t + xi direction(g),   xi = |x_t - x| / sqrt(t) halved until z_{t+1} is lost,      (2)

with delta = |x_t - x| / d and n_0 sqrt(t) directions u_b. Where the paper halves, a block tries m halvings at once.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Int, ScalarLike

from jaxdiff import checks
from jaxdiff.attacks.precision import grain
from jaxdiff.attacks.queries.decision import (
    Ball,
    Phase,
    checked_ball,
    checked_starts,
    find_start,
    first_of,
    machine,
    next_phase,
    to_boundary,
)
from jaxdiff.attacks.stepwise import Stepwise
from jaxdiff.floats import wide
from jaxdiff.types import Image, Images, Scalar

__all__ = ["hop_skip_jump"]


class _Hop(NamedTuple):
    """`sums` and `counts` are of the directions u_b that have kept and that have lost the label, t is that of (2).

    `grain` is what a pixel surely feels, by the precision of the images.
    """

    phase: Int[Array, ""]
    round: Int[Array, ""]
    t: Int[Array, ""]
    near: Image
    low: Scalar
    sums: Array
    counts: Array
    grain: Scalar


def hop_skip_jump(
    ball: Ball,
    radius: ScalarLike,
    budget: int,
    directions: int = 100,
    block: int = 5,
    starts: Images | None = None,
    targeted: bool = False,
) -> Stepwise:
    """The nearest misclassified image by equations (1) and (2), in the norm of `ball` (`l2` or `linf`), in `budget` queries.

    Won: it lies within `radius`, which may be infinite. An attack that has not won returns x itself. `directions` is n_0,
    `block` is m. The first misclassified image is the nearest of a block of `starts` [k, ...] (such as one image of every
    class), or else of uniform noise.

    `targeted` takes y for the class to reach, "misclassified" then says that y is on top. Noise is hardly ever of one given
    class: in practice this needs `starts` that are.
    """
    threat = checked_ball("hop_skip_jump", ball, radius, budget, block, targeted)
    starts = checked_starts("hop_skip_jump", starts)
    checks.count("hop_skip_jump", directions=directions)
    phases = [
        find_start(threat, block, starts),
        to_boundary(ball, block),
        _estimate(ball, block, directions),
        _jump(ball, block),
    ]

    def init(original):
        phase, x = jnp.asarray(0), wide(original)
        sums, counts = jnp.zeros((2, *x.shape), x.dtype), jnp.zeros(2, x.dtype)
        low, felt = (jnp.asarray(value, x.dtype) for value in (0.0, grain(original.dtype)))
        return _Hop(phase, phase, phase + 1, x, low, sums, counts, felt)

    return machine(threat, budget, block, phases, init, targeted)


def _estimate(ball: Ball, m: int, directions: int) -> Phase:
    """The sums of equation (1), whose g is along (mean u of those lost) - (mean u of those kept)."""

    def propose(x, state, noise):
        u = noise / jnp.sqrt(jnp.sum(jnp.square(noise), axis=range(1, noise.ndim), keepdims=True))
        return jnp.clip(state.near[None] + _probe(ball, x, state) * u, 0.0, 1.0)

    def absorb(x, state, images, fooled):
        # As probed: the box and rounding have changed u.
        u = (images - state.near[None]) / _probe(ball, x, state)
        sides = jnp.stack([~fooled, fooled]).astype(x.dtype)
        blocks = jnp.ceil(directions * jnp.sqrt(state.t.astype(x.dtype)) / m)
        before = (state.round > 0).astype(x.dtype)
        return next_phase(state, state.round + 1 >= blocks, 3)._replace(
            sums=before * state.sums + jnp.tensordot(sides, u, 1),
            counts=before * state.counts + jnp.sum(sides, axis=1),
        )

    return Phase(propose, absorb)


def _jump(ball: Ball, m: int) -> Phase:
    """Equation (2)."""

    def propose(x, state, noise):
        # If all answers agree one mean is 0, and the other is what the paper takes.
        inside, outside = state.sums / jnp.maximum(state.counts, 1.0).reshape(2, *[1] * x.ndim)
        g, steepest = outside - inside, ball(0.0).steepest
        direction, _ = steepest.update(g, steepest.init(g))
        length = ball(0.0).norm(state.near - x) / jnp.sqrt(state.t.astype(x.dtype))
        halvings = jnp.exp2(-(state.round * m + jnp.arange(m)).astype(x.dtype))
        return jnp.clip(state.near[None] + jnp.multiply.outer(length * halvings, direction), 0.0, 1.0)

    def absorb(x, state, images, fooled):
        # Halved often enough the jump is none, and `near` itself is misclassified: the phase ends.
        near, _ = first_of(images, fooled, state.near)
        done = jnp.any(fooled)
        return next_phase(state, done, 1)._replace(near=near, low=jnp.zeros_like(state.low), t=state.t + done)

    return Phase(propose, absorb)


def _probe(ball: Ball, x: Image, state: _Hop) -> Scalar:
    """The paper's delta, |x_t - x| / d, but not less than a few grains to a pixel."""
    return jnp.maximum(ball(0.0).norm(state.near - x) / x.size, 8.0 * state.grain * math.sqrt(x.size))
