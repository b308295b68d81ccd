"""Decision-based attacks: the classifier only says which class is on top. They look for the nearest misclassified image.

HopSkipJump (Chen, Jordan and Wainwright 2020, arXiv 1904.02144) repeats, from a misclassified image z_t in d dimensions,

    x_t = the point where the way from x to z_t crosses the boundary, seen from outside,           (1)
    g = sum_b (phi_b - mean phi) u_b,  phi_b = +-1 as x_t + delta u_b is lost or not,  |u_b| = 1,  (2)
    z_{t+1} = x_t + xi direction(g),   xi = |x_t - x| / sqrt(t) halved until z_{t+1} is lost,      (3)

with delta = |x_t - x| / d and n_0 sqrt(t) directions u_b. The way of (1) is the projection of z_t onto smaller and smaller
balls around x. The boundary attack (Brendel, Rauber and Bethge 2018, arXiv 1712.04248) walks along the boundary at random.

Both are machines with phases. Every phase proposes a block of m images and learns from the m decisions; nothing else is ever
evaluated, so a step costs m queries whatever the phase. Where the paper bisects, a block cuts the way into m + 1 parts; where
it halves, a block tries m halvings at once: the same points to the same precision, in fewer rounds of more queries.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, ScalarLike

from jaxdiff.attacks.attack import goal
from jaxdiff.attacks.stepwise import Stepwise, improve, start
from jaxdiff.attacks.threat import Threat
from jaxdiff.types import Image, Images, Scalar

__all__ = ["boundary", "hop_skip_jump"]

Ball = Callable[[ScalarLike], Threat]  # radius -> threat: `l2` or `linf`


class _Phase(NamedTuple):
    """propose(x, state, noise [m, ...]) -> m images; absorb(x, state, images, fooled [m]) -> the next state."""

    propose: Callable
    absorb: Callable


class _Hop(NamedTuple):
    """`near` is misclassified, but not the way from x to it inside the ball of radius `low`.

    `sums` and `counts` are of the directions u_b that have kept and that have lost the label.
    """

    phase: Int[Array, ""]
    round: Int[Array, ""]  # blocks spent in this phase
    t: Int[Array, ""]
    near: Image
    low: Scalar
    sums: Array
    counts: Array


class _Walk(NamedTuple):
    phase: Int[Array, ""]
    round: Int[Array, ""]
    near: Image
    low: Scalar
    sideways: Scalar  # lengths of the two moves, in units of |near - x|
    inwards: Scalar


def hop_skip_jump(
    ball: Ball,
    radius: ScalarLike,
    budget: int,
    directions: int = 100,
    block: int = 5,
    starts: Images | None = None,
    targeted: bool = False,
) -> Stepwise:
    """The nearest misclassified image by equations (1) to (3), in the norm of `ball` (`l2` or `linf`), in `budget` queries.

    Won: it lies within `radius`, which may be infinite (then stop by the budget, not by the victory). An attack that has not
    won returns its image projected into the ball. `directions` is n_0, `block` is m. The first misclassified image is the
    nearest of a block of `starts` [k, ...] (such as one image of every class), or else of uniform noise.

    `targeted` takes y for the class to reach, "misclassified" then says that y is on top. Noise is hardly ever of one given
    class: in practice this needs `starts` that are.
    """
    threat = _threat("hop_skip_jump", ball, radius, budget, block, directions=directions)
    phases = [
        _find_start(threat, block, starts),
        _to_boundary(ball, block),
        _estimate(ball, block, directions),
        _jump(ball, block),
    ]

    def init(x):
        phase = jnp.asarray(0)
        sums, counts = jnp.zeros((2, *x.shape), x.dtype), jnp.zeros(2, x.dtype)
        return _Hop(phase, phase, phase + 1, x, jnp.zeros((), x.dtype), sums, counts)

    return _machine(threat, budget, block, phases, init, targeted)


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
    threat = _threat("boundary", ball, radius, budget, block, sideways=sideways, inwards=inwards)
    if block % 2:
        raise ValueError(f"boundary needs an even block, as its moves come in pairs; got {block}.")
    phases = [_find_start(threat, block, starts), _to_boundary(ball, block), _walk(block // 2)]

    def init(x):
        phase = jnp.asarray(0)
        low, *lengths = (jnp.asarray(value, x.dtype) for value in (0.0, sideways, inwards))
        return _Walk(phase, phase, x, low, *lengths)

    return _machine(threat, budget, block, phases, init, targeted)


def _machine(
    threat: Threat, budget: int, block: int, phases: list[_Phase], init: Callable, targeted: bool
) -> Stepwise:
    """The attack that goes through phases: each step evaluates one block, remembers the nearest victim, and moves on."""
    has_won = goal(targeted)

    def begin(problem):
        return init(problem[1]), start(problem[1])

    def step(problem, carry, i):
        classifier, x, y, key = problem
        state, best = carry
        noise_key, judge_key = jax.random.split(jax.random.fold_in(key, i))
        noise = jax.random.normal(noise_key, (block, *x.shape), x.dtype)
        images = jax.lax.switch(state.phase, [p.propose for p in phases], x, state, noise)
        judge = lambda image, key: has_won(classifier(image, key), y)  # noqa: E731
        fooled = jax.vmap(judge)(images, jax.random.split(judge_key, block))
        state = jax.lax.switch(state.phase, [p.absorb for p in phases], x, state, images, fooled)

        nearest, norm = _nearest(threat, x, images, fooled)
        won = norm <= threat.radius
        # Where nothing has won there is still something allowed to return.
        image = jnp.where(won, nearest, threat.apply(x, threat.project(nearest - x, x)))
        return state, improve(best, image, won, -norm, block)

    return Stepwise(budget // block, begin, step, lambda carry: carry[1])


def _nearest(threat: Threat, x: Image, images: Images, fooled: Array) -> tuple[Image, Scalar]:
    """The misclassified image nearest to x and its distance; the distance is infinite if there is none."""
    norms = jnp.where(fooled, jax.vmap(lambda image: threat.norm(image - x))(images), jnp.inf)
    j = jnp.argmin(norms)
    return images[j], norms[j]


def _find_start(threat: Threat, m: int, starts: Images | None) -> _Phase:
    """First x itself, then `starts`, then uniform noise, until something is misclassified."""

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
        return _next(state, found, 1)._replace(near=jnp.where(found, nearest, state.near))

    return _Phase(propose, absorb)


def _to_boundary(ball: Ball, m: int) -> _Phase:
    """Equation (1): the way is cut into m + 1 parts, of which one remains."""

    def radii(x, state):
        high = ball(0.0).norm(state.near - x)
        return state.low + (high - state.low) * jnp.arange(1, m + 1, dtype=x.dtype) / (m + 1)

    def propose(x, state, noise):
        way = lambda c: ball(c).apply(x, ball(c).project(state.near - x, x))  # noqa: E731
        return jax.vmap(way)(radii(x, state))

    def absorb(x, state, images, fooled):
        # The paper's precision for L-infinity, d^-2 of the distance (d^-1.5 for L2), as far as float32 has it.
        rounds = math.ceil(math.log(1.0 / max(x.size**-2.0, 1e-6)) / math.log(m + 1) - 1e-9)
        near, first = _first(images, fooled, state.near)
        low = jnp.concatenate([state.low[None], radii(x, state)])[first]
        return _next(state, state.round + 1 >= rounds, 2)._replace(near=near, low=low)

    return _Phase(propose, absorb)


def _estimate(ball: Ball, m: int, directions: int) -> _Phase:
    """The sums of equation (2), whose g is along (mean u of those lost) - (mean u of those kept)."""

    def propose(x, state, noise):
        u = noise / jnp.sqrt(jnp.sum(jnp.square(noise), axis=range(1, noise.ndim), keepdims=True))
        return jnp.clip(state.near[None] + _probe(ball, x, state) * u, 0.0, 1.0)

    def absorb(x, state, images, fooled):
        # As probed: the box and rounding have changed u.
        u = (images - state.near[None]) / _probe(ball, x, state)
        sides = jnp.stack([~fooled, fooled]).astype(x.dtype)
        blocks = jnp.ceil(directions * jnp.sqrt(state.t.astype(x.dtype)) / m)
        before = (state.round > 0).astype(x.dtype)
        return _next(state, state.round + 1 >= blocks, 3)._replace(
            sums=before * state.sums + jnp.tensordot(sides, u, 1),
            counts=before * state.counts + jnp.sum(sides, axis=1),
        )

    return _Phase(propose, absorb)


def _jump(ball: Ball, m: int) -> _Phase:
    """Equation (3)."""

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
        near, _ = _first(images, fooled, state.near)
        done = jnp.any(fooled)
        return _next(state, done, 1)._replace(near=near, low=jnp.zeros_like(state.low), t=state.t + done)

    return _Phase(propose, absorb)


def _walk(pairs: int) -> _Phase:
    """One step of the boundary attack: sideways on the sphere around x, and from there inwards."""

    def propose(x, state, noise):
        away = (state.near - x)[None]
        dot = lambda a, b: jnp.sum(a * b, axis=range(1, x.ndim + 1), keepdims=True)  # noqa: E731
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

    return _Phase(propose, absorb)


def _probe(ball: Ball, x: Image, state: _Hop) -> Scalar:
    """The paper's delta, |x_t - x| / d, but not less than float32 can add to a pixel."""
    return jnp.maximum(ball(0.0).norm(state.near - x) / x.size, 2.0**-20 * math.sqrt(x.size))


def _first(images: Images, fooled: Array, otherwise: Image) -> tuple[Image, Int[Array, ""]]:
    """The first misclassified image and its place; m if there is none."""
    any_, j = jnp.any(fooled), jnp.argmax(fooled)
    return jnp.where(any_, images[j], otherwise), jnp.where(any_, j, len(fooled))


def _next(state: _Hop | _Walk, done: Array, phase: int) -> _Hop | _Walk:
    """The next phase if this one is done, else the next round."""
    return state._replace(
        phase=jnp.where(done, phase, state.phase), round=jnp.where(done, 0, state.round + 1)
    )


def _threat(
    name: str, ball: Ball, radius: ScalarLike, budget: int, block: int, **positive: float | int
) -> Threat:
    if block < 1 or budget < block:
        raise ValueError(
            f"{name} needs block >= 1 and a budget of at least one block; got block = {block}, budget = {budget}."
        )
    for argument, value in positive.items():
        if not value > 0:
            raise ValueError(f"{name} needs {argument} > 0; got {value}.")
    # The projection onto a ball divides by its radius.
    return ball(jnp.minimum(radius, jnp.finfo(jnp.float32).max))
