"""FAB, the fast adaptive boundary attack: along a decision boundary to its point nearest to x_0.

With the boundary linearised at x_k, pi = {x: f(x_k) + <w, x - x_k> = 0}, and d1 and d2 the projections of x_k and x_0 onto
pi within the box,

    alpha = min(|d1| / (|d1| + |d2|), alpha_max),                                                    (1)
    x' = clip((1 - alpha) (x_k + eta d1) + alpha (x_0 + eta d2), 0, 1),                              (2)
    x_{k+1} = x_0 + beta (x' - x_0) if the label is lost at x', else x'.                             (3)

The nearest point at which the label is lost counts. Croce and Hein 2020 (arXiv:1907.02044), algorithm 1. We also look at
x_k itself, whose logits come with the gradient.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import ScalarLike

from jaxdiff import checks
from jaxdiff.attacks.attack import lost
from jaxdiff.attacks.least.minimal import boundaries, check_planes, likeliest_others, nearest, record
from jaxdiff.attacks.precision import in_float32
from jaxdiff.attacks.stepwise import Problem, Stepwise, in_turn, start
from jaxdiff.attacks.threats.threat import Threat, check_threat
from jaxdiff.types import Image, PRNGKey, Scalar

__all__ = ["fab", "fab_targeted"]


def fab(
    threat: Threat,
    steps: int = 100,
    alpha_max: ScalarLike = 0.1,
    eta: ScalarLike = 1.05,
    beta: ScalarLike = 0.9,
    restarts: int = 1,
) -> Stepwise:
    """FAB in the threat's norm: (1) to (3) with the nearest of the boundaries to all other classes.

    A step costs two evaluations and a gradient for each class, at once: beyond a hundred classes use `fab_targeted`. The
    result is x itself if the label is not lost within the radius; `jnp.inf` as radius gives the least perturbation that
    was found. Restarts begin half the radius from x, in a random direction: they need a finite one.
    """

    def rivals(problem):
        classifier, x, y, key = problem
        n = jax.eval_shape(classifier, x, key).shape[0]
        return ((y + 1 + jnp.arange(n - 1)) % n)[None]

    constants = _Constants("fab", threat, steps, alpha_max, eta, beta, restarts)
    return in_float32(_in_turn(constants, rivals, 1))


def fab_targeted(
    threat: Threat,
    n: int = 9,
    steps: int = 100,
    alpha_max: ScalarLike = 0.1,
    eta: ScalarLike = 1.05,
    beta: ScalarLike = 0.9,
    restarts: int = 1,
) -> Stepwise:
    """FAB-T: (1) to (3) with the boundary to one class after the other, the n with the largest logits of the clean image.

    A step costs two evaluations and one gradient; there are n x restarts x `steps` of them, and one evaluation of the clean
    image. The attack has won where the label is lost, to whichever class. As `fab` otherwise.
    """

    def rivals(problem):
        classifier, x, y, key = problem
        return likeliest_others("fab_targeted", classifier(x, key), y, n)[:, None]

    checks.count("fab_targeted", n=n)
    constants = _Constants("fab_targeted", threat, steps, alpha_max, eta, beta, restarts)
    return in_float32(_in_turn(constants, rivals, n).recounted(lambda queries: queries + 1))


class _Constants(NamedTuple):
    name: str
    threat: Threat
    steps: int
    alpha_max: ScalarLike
    eta: ScalarLike
    beta: ScalarLike
    restarts: int


def _checked(constants: _Constants) -> _Constants:
    name, threat, steps, alpha_max, eta, beta, restarts = constants
    check_threat(name, threat)
    check_planes(name, threat)
    checks.count(name, steps=steps, restarts=restarts)
    alpha_max, beta = checks.number(name, "[0, 1]", alpha_max=alpha_max, beta=beta)
    eta = checks.number(name, "(0, inf)", eta=eta)
    if restarts > 1:
        checks.number(
            f"{name} with restarts, which begin half the radius from x,", "[0, inf)", radius=threat.radius
        )
    return constants._replace(alpha_max=alpha_max, eta=eta, beta=beta)


def _in_turn(constants: _Constants, rivals: Callable[[Problem], jax.Array], n: int) -> Stepwise:
    """`restarts` runs for each of the n rows of `rivals(problem)`, a set of classes whose boundaries are looked at."""
    _, threat, steps, alpha_max, eta, beta, restarts = _checked(constants)
    mix = _mix(threat, alpha_max, eta)

    def variant(problem, rows, k):
        classifier, x, y, key = problem
        row, again = jnp.divmod(k, restarts)
        # Row, then run: more restarts add runs to those of fewer.
        key, begin = jax.random.fold_in(jax.random.fold_in(key, row), again), x
        if restarts > 1:
            start_key = jax.random.fold_in(key, 2 * steps)  # the steps use those below
            begin = jnp.where(again > 0, _random_start(threat, x, start_key), x)
        return classifier, x, y, key, rows[row], begin

    def step(problem, state, i):
        classifier, x_0, y, key, row, _ = problem
        x, best = state
        logits, _, f, w = boundaries(classifier, x, y, lambda _: row, jax.random.fold_in(key, 2 * i))
        best = record(threat, best, x_0, x, lost(logits, y))
        f, w = nearest(threat, f, w)
        mixed = mix(x_0, x, w, f)
        is_lost = lost(classifier(mixed, jax.random.fold_in(key, 2 * i + 1)), y)
        best = record(threat, best, x_0, mixed, is_lost)
        return jnp.where(is_lost, x_0 + beta * (mixed - x_0), mixed), best

    init = lambda problem: (problem[-1], start(problem[1]))
    run = Stepwise(steps, init, step, lambda state: state[-1], least_norm=True)
    return in_turn(run, n * restarts, variant, rivals)


def _mix(
    threat: Threat, alpha_max: ScalarLike, eta: ScalarLike
) -> Callable[[Image, Image, Image, Scalar], Image]:
    """Equations (1) and (2)."""

    def mix(x_0, x, w, f):
        # Both points project onto the same plane; the first c is that seen from x_k, the second from x_0.
        points, c = jnp.stack([x, x_0]), jnp.stack([-f, jnp.sum(w * (x - x_0)) - f])
        d = jax.vmap(threat.to_plane, (0, None, 0))(points, w, c)
        a = jnp.maximum(jax.vmap(threat.norm)(d), 1e-8)
        alpha = jnp.clip(a[0] / (a[0] + a[1]), 0.0, alpha_max)
        ends = points + eta * d
        return jnp.clip((1.0 - alpha) * ends[0] + alpha * ends[1], 0.0, 1.0)

    return mix


def _random_start(threat: Threat, x: Image, key: PRNGKey) -> Image:
    """A point of the box, half the radius from x before it is clipped."""
    delta = threat.init(key, x)
    length = jnp.maximum(threat.norm(delta), jnp.finfo(x.dtype).tiny)
    return jnp.clip(x + delta * (threat.radius / (2.0 * length)), 0.0, 1.0)
