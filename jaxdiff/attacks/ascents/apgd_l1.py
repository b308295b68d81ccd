"""APGD for L1: few pixels, and as many as the best point needs (Croce and Hein 2021, "Mind the box", Algorithm 1).

With P the exact projection onto the L1 ball and the box together, g the gradient, s its sign on the share kappa of the
coordinates where |g| is largest and 0 elsewhere, and no momentum,

    delta_{k+1} = P(delta_k + eta s / |s|_0),                                                              (1)

where kappa = 0.2 and eta = radius at first. Every m = .04 N iterations, with n the number of pixels that the highest point
so far changes, n' that number at the last check (all d of them before the first) and radius / 10 <= eta,

    kappa <- n / (1.5 d),   eta <- radius, going on from the highest point, if n < .95 n',  else eta / 1.5.  (2)

With larger radii first, three such ascents share the iterations: 3, 2 and 1 times the radius for .3, .3 and .4 of them. Each
begins at the highest point of the last, projected, with n' and kappa = n' / (1.5 d) of that point.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, ScalarLike

from jaxdiff import checks
from jaxdiff.attacks.ascents.apgd import Climb, Verdict, ascend, unknown
from jaxdiff.attacks.precision import in_float32
from jaxdiff.attacks.stepwise import Stepwise, choose
from jaxdiff.attacks.threats.l1 import l1
from jaxdiff.attacks.threats.threat import Perturbation, Threat
from jaxdiff.types import Image, PRNGKey, Scalar


def apgd_l1(radius: ScalarLike, steps: int = 100, large_radius: bool = True) -> Stepwise:
    """The ascent of this module in the ball of `l1(radius)`: `steps` iterations, and one evaluation of every start.

    What is found at larger radii counts only as a start. ValueError for a negative radius or too few steps.
    """
    radius = checks.number("apgd_l1", "[0, inf)", radius=radius)
    checks.instance("apgd_l1", bool, "True", large_radius=large_radius)
    checks.count(
        "apgd_l1 with large_radius" if large_radius else "apgd_l1", 3 if large_radius else 1, steps=steps
    )
    plan = _plan(steps, large_radius)

    def ball(i: Int[Array, ""]) -> Threat:
        return l1(radius * jnp.asarray(plan.multiple)[i])

    def draw(x: Image, key: PRNGKey) -> tuple[Perturbation, Verdict]:
        # Step 0 begins an ascent, like those after it: only the noise is used.
        zero = jnp.zeros((), x.dtype)
        noise = jax.random.normal(key, x.shape, x.dtype)
        return noise, Verdict(jnp.asarray(False), zero, _Memory(zero, jnp.asarray(0)))

    def move(x: Image, climb: Climb, i: Int[Array, ""]) -> Perturbation:
        s = _sparse_sign(climb.at.gradient, climb.memory.share)
        return ball(i).project(climb.at.delta + climb.length * s / jnp.maximum(jnp.sum(jnp.abs(s)), 1.0), x)

    def check(x: Image, climb: Climb, i: Int[Array, ""]) -> Verdict:
        due = jnp.asarray(plan.due)[i]
        memory = _sparsity(x, climb.highest.delta)
        longest = jnp.asarray(ball(i).radius, x.dtype)
        sparser = memory.changed < 0.95 * climb.memory.changed
        length = jnp.where(sparser, longest, jnp.maximum(climb.length / 1.5, longest / 10.0))
        kept = climb.length, climb.memory
        return Verdict(due & sparser, *choose(due, (length, memory), kept))

    def begin(x: Image, climb: Climb, i: Int[Array, ""]) -> Climb:
        at, previous, highest = unknown(ball(i).project(climb.highest.delta, x))
        first = _Memory(jnp.asarray(0.2, x.dtype), jnp.asarray(x.size))
        memory = _sparsity(x, at.delta) if large_radius else first
        return Climb(at, previous, highest, jnp.asarray(ball(i).radius, x.dtype), memory, climb.best)

    # Plain addition: `l1` gives pixels at the border no gradient, the paper's choice of coordinates knows no border.
    run = ascend(len(plan.due), jnp.add, draw, move, check)

    def step(problem, climb, i):
        x = problem[1]
        climb = choose(jnp.asarray(plan.begins)[i], begin(x, climb, i), climb)
        new = run.step(problem, climb, i)
        best = choose(jnp.asarray(plan.multiple)[i] == 1, new.best, climb.best)
        return new._replace(best=best._replace(queries=new.best.queries))

    return in_float32(run.replace(step=step))


class _Memory(NamedTuple):
    share: Scalar  # of the coordinates that a step moves
    changed: Int[Array, ""]  # pixels, at the last check


class _Plan(NamedTuple):
    """For every step: whether an ascent begins there, the multiple of the radius, whether the step size is checked."""

    begins: Bool[np.ndarray, " steps"]
    multiple: Int[np.ndarray, " steps"]
    due: Bool[np.ndarray, " steps"]


def _plan(steps: int, large_radius: bool) -> _Plan:
    some = -(-3 * steps // 10)
    parts = ((3, some), (2, some), (1, steps - 2 * some)) if large_radius else ((1, steps),)
    rows = [
        (i == 0, multiple, i > 0 and i % max(int(0.04 * n), 1) == 0)
        for multiple, n in parts
        for i in range(n + 1)
    ]
    return _Plan(*map(np.array, zip(*rows, strict=True)))


def _sparse_sign(g: Perturbation, share: Scalar) -> Perturbation:
    """The sign of g where |g| is among the largest `share` (one coordinate at least, and all that tie), else 0."""
    height = jnp.sort(jnp.abs(g), axis=None)
    # A multiple of a third or a fifth. Where it is whole, compiled arithmetic may say 15.9999999 for 16.
    rank = jnp.clip((1.0 - share) * g.size + 0.01, 0, g.size - 1).astype(int)
    return jnp.where(jnp.abs(g) >= height[rank], jnp.sign(g), 0.0)


def _sparsity(x: Image, delta: Perturbation) -> _Memory:
    changed = jnp.sum(x + delta != x)
    return _Memory((changed / (1.5 * x.size)).astype(x.dtype), changed)
