"""The boundary attack: a random walk along the boundary (Brendel, Rauber and Bethge 2018, arXiv 1712.04248).

From a misclassified image z at the distance r = |z - x|, with eta a random direction orthogonal to z - x,

    sideways:   z' = x + (z - x + sideways r eta) / sqrt(1 + sideways^2), on the sphere around x,  (1)
    inwards:    z'' = x + (1 - inwards) (z' - x),                                                  (2)

and z'' follows z if it is misclassified. Both lengths adapt to how often the moves stay so.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Int, ScalarLike

from jaxdiff import checks
from jaxdiff.attacks.queries.decision import (
    Ball,
    Phase,
    checked_ball,
    checked_starts,
    find_start,
    machine,
    to_boundary,
)
from jaxdiff.attacks.stepwise import Stepwise
from jaxdiff.floats import wide
from jaxdiff.types import Image, Images, Scalar

__all__ = ["boundary"]


class _Walk(NamedTuple):
    phase: Int[Array, ""]
    round: Int[Array, ""]
    near: Image
    low: Scalar
    sideways: Scalar  # lengths of the two moves, in units of |near - x|
    inwards: Scalar


def boundary(
    ball: Ball,
    radius: ScalarLike,
    budget: int,
    block: int = 10,
    starts: Images | None = None,
    sideways: float | int = 0.1,
    inwards: float | int = 0.1,
    targeted: bool = False,
) -> Stepwise:
    """The boundary attack: arguments, victory and start as `hop_skip_jump`; the walk itself is Euclidean in any norm.

    Half of a block steps sideways on the sphere around x, the other half from there inwards. The lengths, at first in units of
    the distance, adapt so that half of the first stay misclassified and a quarter of the second.
    """
    threat = checked_ball("boundary", ball, radius, budget, block, targeted)
    starts = checked_starts("boundary", starts)
    sideways, inwards = checks.number("boundary", "(0, 1]", sideways=sideways, inwards=inwards)
    if block % 2:
        raise ValueError(f"boundary needs an even block, as its moves come in pairs; got {block}.")
    phases = [find_start(threat, block, starts), to_boundary(ball, block), _walk(block // 2)]

    def init(original):
        phase, x = jnp.asarray(0), wide(original)
        low, *lengths = (jnp.asarray(value, x.dtype) for value in (0.0, sideways, inwards))
        return _Walk(phase, phase, x, low, *lengths)

    return machine(threat, budget, block, phases, init, targeted)


def _walk(pairs: int) -> Phase:
    """Equations (1) and (2), some at once."""

    def propose(x, state, noise):
        away = (state.near - x)[None]
        dot = lambda a, b: jnp.sum(a * b, axis=range(1, x.ndim + 1), keepdims=True)
        tiny = jnp.finfo(x.dtype).tiny
        distance = jnp.sqrt(dot(away, away))
        eta = noise[:pairs]
        eta = eta - dot(eta, away) / jnp.maximum(dot(away, away), tiny) * away
        eta = eta * (state.sideways * distance / jnp.maximum(jnp.sqrt(dot(eta, eta)), tiny))
        sphere = (away + eta) / jnp.sqrt(1.0 + jnp.square(state.sideways))
        nearer = sphere * (1.0 - jnp.minimum(state.inwards, 1.0))
        return jnp.clip(x[None] + jnp.concatenate([sphere, nearer]), 0.0, 1.0)

    def absorb(x, state, images, fooled):
        share = jnp.mean(fooled[:pairs].astype(x.dtype)), jnp.mean(fooled[pairs:].astype(x.dtype))
        j = jnp.argmax(fooled[pairs:])
        near = jnp.where(jnp.any(fooled[pairs:]), images[pairs + j], state.near)
        return state._replace(
            near=near,
            sideways=jnp.minimum(state.sideways * jnp.exp(share[0] - 0.5), 1.0),
            inwards=jnp.minimum(state.inwards * jnp.exp(share[1] - 0.25), 1.0),
        )

    return Phase(propose, absorb)
