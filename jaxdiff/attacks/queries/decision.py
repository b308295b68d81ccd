"""Decision-based attacks: the classifier only says which class is on top. They look for the nearest misclassified image.

These attacks (`hop_skip_jump`, `boundary`) are machines with phases. Every phase proposes a block of m images and learns from
the m decisions; nothing else is ever evaluated, so a step costs m queries whatever the phase. Where the papers bisect, a block
cuts the way into m + 1 parts: the same points to the same precision, in fewer rounds of more queries. Two phases are common:

    x_0 = the first misclassified image of x, some `starts`, and uniform noise,                    (1)
    x_t = the point where the way from x to z_t crosses the boundary, seen from outside.           (2)

The way of (2) is the projection of z_t onto smaller and smaller balls around x.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, ScalarLike

from jaxdiff import checks
from jaxdiff.attacks.attack import goal
from jaxdiff.attacks.precision import towards
from jaxdiff.attacks.stepwise import Stepwise, improve, start
from jaxdiff.attacks.threats.threat import Threat
from jaxdiff.floats import wide
from jaxdiff.types import Image, Images, Scalar

Ball = Callable[[ScalarLike], Threat]  # radius -> threat: `l2` or `linf`


class Phase(NamedTuple):
    """propose(x, state, noise [m, ...]) -> m images; absorb(x, state, images, fooled [m]) -> the next state.

    All of them are float32 at least, and `images` are as the classifier saw them, rounded to the precision of the original.
    States are named tuples with the `phase`, the `round` (blocks spent in this phase), `near`, a misclassified image, and the
    radius `low` of a ball inside which the way from x to it is not misclassified.
    """

    propose: Callable
    absorb: Callable


def machine(
    threat: Threat, budget: int, block: int, phases: list[Phase], init: Callable, targeted: bool
) -> Stepwise:
    """The attack that goes through phases: each step evaluates one block, remembers the nearest victim, and moves on."""
    has_won = goal(targeted)

    def begin(problem):
        return init(problem[1]), start(problem[1])

    def step(problem, carry, i):
        classifier, original, y, key = problem
        state, best = carry
        noise_key, judge_key = jax.random.split(jax.random.fold_in(key, i))
        x = wide(original)
        noise = jax.random.normal(noise_key, (block, *x.shape), x.dtype)
        images = jax.lax.switch(state.phase, [p.propose for p in phases], x, state, noise)
        seen = towards(jnp.broadcast_to(original, images.shape), images)
        judge = lambda image, key: has_won(classifier(image, key), y)
        fooled = jax.vmap(judge)(seen, jax.random.split(judge_key, block))
        images = wide(seen)  # what is learnt is about the images that were seen
        state = jax.lax.switch(state.phase, [p.absorb for p in phases], x, state, images, fooled)

        nearest, norm = _nearest(threat, x, images, fooled)
        won = jnp.isfinite(norm) & (norm <= threat.radius)  # in an infinite ball too
        image = jnp.where(won, nearest, x)  # beyond the ball nothing is allowed but the image itself
        return state, improve(best, towards(original, image), won, -norm, block)

    return Stepwise(budget // block, begin, step, lambda carry: carry[1], least_norm=True, targeted=targeted)


def _nearest(threat: Threat, x: Image, images: Images, fooled: Array) -> tuple[Image, Scalar]:
    """The misclassified image nearest to x and its distance; the distance is infinite if there is none."""
    norms = jnp.where(fooled, jax.vmap(lambda image: threat.norm(image - x))(images), jnp.inf)
    j = jnp.argmin(norms)
    return images[j], norms[j]


def find_start(threat: Threat, m: int, starts: Images | None) -> Phase:
    """Equation (1)."""

    def propose(x, state, noise):
        if starts is not None and starts.shape[1:] != x.shape:
            raise ValueError(f"starts must be images like x, [k, *{x.shape}]; got shape {starts.shape}.")
        uniform = jax.scipy.special.ndtr(noise)
        index = state.round * m + jnp.arange(m)
        known = x[None] if starts is None else jnp.concatenate([x[None], starts.astype(x.dtype)])
        given = known[jnp.minimum(index, len(known) - 1)]
        return jnp.where((index < len(known)).reshape(m, *[1] * x.ndim), given, uniform)

    def absorb(x, state, images, fooled):
        nearest, _ = _nearest(threat, x, images, fooled)
        found = jnp.any(fooled)
        return next_phase(state, found, 1)._replace(near=jnp.where(found, nearest, state.near))

    return Phase(propose, absorb)


def to_boundary(ball: Ball, m: int) -> Phase:
    """Equation (2): the way is cut into m + 1 parts, of which one remains."""

    def radii(x, state):
        high = ball(0.0).norm(state.near - x)
        return state.low + (high - state.low) * jnp.arange(1, m + 1, dtype=x.dtype) / (m + 1)

    def propose(x, state, noise):
        way = lambda c: ball(c).apply(x, ball(c).project(state.near - x, x))
        return jax.vmap(way)(radii(x, state))

    def absorb(x, state, images, fooled):
        # HopSkipJump's precision for L-infinity, d^-2 of the distance (d^-1.5 for L2), as far as float32 has it.
        rounds = math.ceil(math.log(1.0 / max(x.size**-2.0, 1e-6)) / math.log(m + 1) - 1e-9)
        near, first = first_of(images, fooled, state.near)
        low = jnp.concatenate([state.low[None], radii(x, state)])[first]
        return next_phase(state, state.round + 1 >= rounds, 2)._replace(near=near, low=low)

    return Phase(propose, absorb)


def first_of(images: Images, fooled: Array, otherwise: Image) -> tuple[Image, Int[Array, ""]]:
    """The first misclassified image and its place; m if there is none."""
    any_, j = jnp.any(fooled), jnp.argmax(fooled)
    return jnp.where(any_, images[j], otherwise), jnp.where(any_, j, len(fooled))


def next_phase(state: Any, done: Array, phase: int) -> Any:
    """The next phase if this one is done, else the next round."""
    return state._replace(
        phase=jnp.where(done, phase, state.phase), round=jnp.where(done, 0, state.round + 1)
    )


def checked_ball(
    name: str, ball: Ball, radius: ScalarLike, budget: int, block: int, targeted: bool
) -> Threat:
    """The ball of `radius`; ValueError unless there is a block in the budget."""
    checks.takes(name, "a radius, such as l2", 1, ball=ball)
    radius = checks.number(name, "[0, inf]", radius=radius)
    checks.count(name, block=block)
    checks.count(f"{name} with blocks of {block}", block, budget=budget)
    checks.instance(name, bool, "True", targeted=targeted)
    threat = ball(radius)
    checks.instance(name, Threat, "l2", **{"what `ball` gives": threat})
    return threat


def checked_starts(name: str, starts: Images | None) -> Images | None:
    """The starts as an array; ValueError unless they are images."""
    return None if starts is None else checks.images(f"{name}'s starts", starts)
