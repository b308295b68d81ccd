"""APGD: projected gradient ascent with momentum that finds its own step size (Croce and Hein 2020a, Algorithm 1).

From a random point of the sphere |delta_0| = radius, with step eta_0 = 2 radius and gradient g_k of the loss at delta_k,

    z = project(delta_k + eta_k steepest(g_k)),                                                            (1)
    delta_{k+1} = project(delta_k + a (z - delta_k) + (1 - a) (delta_k - delta_{k-1})),                    (2)

with a = 0.75, in the first iteration 1. At the iterations w_0 < w_1 < ... of `check_iterations` the step is halved, and the
ascent goes on from the highest point so far, if since the last check the loss has risen in at most rho of the iterations,

    #{w_{j-1} < k <= w_j : loss_k > loss_{k-1}} <= rho (w_j - w_{j-1}),                                    (3)

or if neither the step nor the highest loss has changed since then. Where code and paper differ (<= in (3), loss_0 taken for 0
at the first check), this is the authors' code, by which published robust accuracies were measured.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from jaxdiff import checks
from jaxdiff.attacks.precision import in_float32
from jaxdiff.attacks.stepwise import Best, Stepwise, ascent_gradient, choose, improve, start
from jaxdiff.attacks.threats.threat import Perturbation, Threat, check_threat
from jaxdiff.types import Image, PRNGKey, Scalar


class Point(NamedTuple):
    """A perturbation with the loss there and its gradient."""

    delta: Perturbation
    loss: Scalar
    gradient: Perturbation


class Climb(NamedTuple):
    """Where an ascent stands: `highest` is by loss alone, for restarts; `best` prefers victories and is the result."""

    at: Point  # the next move starts here
    previous: Perturbation  # the last one started here
    highest: Point
    length: Scalar  # of the next step
    memory: Any  # of the rule that checks
    best: Best


class Verdict(NamedTuple):
    """Of a check: whether to go on from the highest point, with which step, and what to remember."""

    back: Bool[Array, ""]
    length: Scalar
    memory: Any


Move = Callable[[Image, Climb, Int[Array, ""]], Perturbation]
Check = Callable[[Image, Climb, Int[Array, ""]], Verdict]


def apgd(threat: Threat, steps: int = 100, rho: float | int = 0.75) -> Stepwise:
    """The ascent of this module: `steps` iterations of (1) and (2), and one evaluation of the start.

    For threats whose norm is homogeneous. Randomised classifiers want `averaged(apgd(threat), n)`: then records and checks see
    the mean over the draws, as the gradient does, where the authors' code looks at the last draw. ValueError for steps < 1
    or rho outside [0, 1].
    """
    check_threat("apgd", threat)
    radius = checks.number("apgd", "[0, inf)", radius=threat.radius)
    checks.count("apgd", steps=steps)
    rho = checks.number("apgd", "[0, 1]", rho=rho)
    checked = (0, *check_iterations(steps))
    few = np.full(steps + 1, -1)  # the most rises that count as too few; nothing is, where nothing is checked
    for last, at in pairwise(checked):
        few[at] = int(rho * (at - last))

    def begin(x: Image, key: PRNGKey) -> tuple[Perturbation, Verdict]:
        delta = threat.init(key, x)
        norm = threat.norm(delta)
        delta = threat.project(delta * (radius / jnp.where(norm > 0.0, norm, 1.0)), x)
        infinite = jnp.asarray(jnp.inf, x.dtype)
        memory = _Memory(infinite, jnp.asarray(0), -infinite, jnp.asarray(True))
        return delta, Verdict(jnp.asarray(False), jnp.asarray(2.0 * radius, x.dtype), memory)

    def move(x: Image, climb: Climb, i: Int[Array, ""]) -> Perturbation:
        delta, _, gradient = climb.at
        direction, _ = threat.steepest.update(gradient, threat.steepest.init(gradient), delta)
        z = threat.project(delta + climb.length * direction, x)
        a = jnp.where(i <= 1, 1.0, 0.75).astype(x.dtype)
        return threat.project(delta + a * (z - delta) + (1.0 - a) * (delta - climb.previous), x)

    def check(x: Image, climb: Climb, i: Int[Array, ""]) -> Verdict:
        del x
        loss, rises, highest, halved = climb.memory
        rises = rises + (climb.at.loss > loss)
        limit = jnp.asarray(few)[i]
        due = limit >= 0
        stuck = ~halved & (highest >= climb.highest.loss)
        halve = due & ((rises <= limit) | stuck)
        memory = _Memory(
            jnp.where(i == 0, 0.0, climb.at.loss),
            jnp.where(due, 0, rises),
            jnp.where(due | (i == 0), climb.highest.loss, highest),
            jnp.where(due, halve, halved),
        )
        return Verdict(halve, jnp.where(halve, climb.length / 2, climb.length), memory)

    return ascend(steps + 1, threat.apply, begin, move, check)


class _Memory(NamedTuple):
    loss: Scalar  # of the last iteration
    rises: Int[Array, ""]  # since the last check
    highest: Scalar  # at the last check
    halved: Bool[Array, ""]  # at the last check; True before the first


def check_iterations(steps: int) -> tuple[int, ...]:
    """When the step size is checked, counted from 1: for 100 iterations after 22, 41, 57, 70, 80, 87, 93 and 99.

    The first period is .22 of the steps; each is .03 of the steps shorter than the last, but none shorter than .06 of them.
    """
    period, shorter, shortest = (max(int(share * steps), 1) for share in (0.22, 0.03, 0.06))
    found, at = [], period
    while at <= steps:
        found.append(at)
        period = max(period - shorter, shortest)
        at += period
    return tuple(found)


def ascend(
    steps: int,
    apply: Callable[[Image, Perturbation], Image],
    begin: Callable[[Image, PRNGKey], tuple[Perturbation, Verdict]],
    move: Move,
    check: Check,
) -> Stepwise:
    """The frame of APGD: each step moves, takes one value and gradient, keeps records, and asks `check` how to go on.

    Step 0 moves along a gradient of 0: it evaluates the start. `check` sees the climb after the records of its step.
    """

    def init(problem):
        _, x, key = problem
        delta, (_, length, memory) = begin(x, jax.random.split(key)[0])
        return Climb(*unknown(delta), length, memory, start(x))

    def step(problem, climb, i):
        loss, x, key = problem
        delta = move(x, climb, i)
        height = lambda delta, key: loss(apply(x, delta), key)
        value, won, gradient = ascent_gradient(height, delta, jax.random.fold_in(jax.random.split(key)[1], i))
        at = Point(delta, value.astype(x.dtype), gradient)
        climb = climb._replace(
            at=at,
            previous=climb.at.delta,
            highest=choose(at.loss > climb.highest.loss, at, climb.highest),
            best=improve(climb.best, apply(x, delta), won, value),
        )
        back, length, memory = check(x, climb, i)
        return climb._replace(at=choose(back, climb.highest, at), length=length, memory=memory)

    return in_float32(Stepwise(steps, init, step, lambda climb: climb.best))


def unknown(delta: Perturbation) -> tuple[Point, Perturbation, Point]:
    """The fields `at`, `previous` and `highest` of a climb that begins at `delta` and has evaluated nothing."""
    point = Point(delta, jnp.asarray(-jnp.inf, delta.dtype), jnp.zeros_like(delta))
    return point, delta, point
