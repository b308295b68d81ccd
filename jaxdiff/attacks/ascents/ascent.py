"""Ascents: maximise any scalar inside a threat.

Projected gradient ascent (Madry et al. 2018): from delta_0 = 0 or random,

    delta_{i+1} = project(delta_i + lr direction(grad loss(apply(x, delta_i)))).                 (1)

The direction is the threat's steepest one, or any optax transform: `optax.chain(optax.trace(0.9), threat.steepest)` is
momentum, `optax.scale_by_adam()` is Adam; `directions.nesterov` has the gradient taken ahead of delta_i. FGSM is one step
of (1) from 0 with the step as long as the ball is wide.

An ascent returns exactly x where the projected perturbation is 0, so that radius 0 is the identity bit for bit.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import ScalarLike

from jaxdiff import checks
from jaxdiff.attacks.ascents.directions import Lookahead, check_direction, looked_ahead
from jaxdiff.attacks.precision import in_float32
from jaxdiff.attacks.stepwise import Best, Stepwise, ascent_gradient, choose, improve, latest, start
from jaxdiff.attacks.threats.threat import Perturbation, Threat, check_threat
from jaxdiff.types import PRNGKey

__all__ = ["fgsm", "pgd"]


def pgd(
    threat: Threat,
    lr: ScalarLike | None = None,
    steps: int = 10,
    random_start: bool = True,
    keep_best: bool = False,
    tx: optax.GradientTransformation | None = None,
) -> Stepwise:
    """Equation (1) for `steps` steps of length `lr` (in pixel units for L-infinity) along `tx` of the gradient.

    Without `lr` a step is a quarter of the radius (Madry et al. 2018: 2 / 255 of 8 / 255). `tx` defaults to `threat.steepest`.
    It ends at the last iterate, which one more evaluation judges where its victory is asked for; with `keep_best` at the best
    iterate seen (one that has won, then the largest loss), which is meant for deterministic losses, and refuses `nesterov`,
    which never evaluates the iterates.
    """
    check_threat("pgd", threat)
    checks.count("pgd", steps=steps)
    lr = threat.radius / 4 if lr is None else lr
    lr = checks.number("pgd", "[0, inf)", lr=lr)
    direction = threat.steepest if tx is None else tx
    check_direction("pgd", direction)
    record = improve if keep_best else latest

    def init(problem):
        _, x, key = problem
        delta = threat.init(jax.random.split(key)[0], x)
        delta = threat.project(delta if random_start else jnp.zeros_like(delta), x)
        tx_state = direction.init(delta)
        if keep_best and isinstance(tx_state, Lookahead):
            raise ValueError(
                "keep_best compares iterates; got nesterov, which only evaluates ahead of them. Drop one."
            )
        return _Climb(delta, tx_state, start(x))

    def step(problem, climb, i):
        loss, x, key = problem
        delta, tx_state, best = climb
        judging = i == steps
        height = lambda delta, key: loss(threat.apply(x, delta), key)
        point = choose(judging, delta, looked_ahead(delta, lr, tx_state))
        value, won, gradient = ascent_gradient(height, point, jax.random.fold_in(_loss_key(key), i))
        seen = record(best, threat.apply(x, point), won, value)
        if isinstance(tx_state, Lookahead):  # points ahead are none of the threat's
            seen = choose(judging, seen, best._replace(queries=seen.queries))
        update, moved = direction.update(gradient, tx_state, delta)
        moved = _Climb(threat.project(delta + lr * update, x), moved, seen)
        return choose(judging, climb._replace(best=seen), moved)

    last = lambda problem, climb: threat.apply(problem[1], climb.delta)
    climb = Stepwise(steps + 1, init, step, lambda climb: climb.best, last=None if keep_best else last)
    return in_float32(climb)


class _Climb(NamedTuple):
    delta: Perturbation
    tx_state: optax.OptState
    best: Best


def _loss_key(key: PRNGKey) -> PRNGKey:
    return jax.random.split(key)[1]


def fgsm(threat: Threat, lr: ScalarLike | None = None, form: str = "sign") -> Stepwise:
    """One step from x: project(lr steepest(g)) for the form "sign", project(lr g) for "clip".

    With lr = radius, which it is unless it is given, "sign" is Goodfellow et al. 2015's x + radius sign(g); "clip" is
    x + clip(lr g, -radius, radius), which moves only the pixels that matter. For a linear loss away from the box, "sign" is the
    maximum in `linf`, `l2` and `l1(radius, sparsity=None)`; the default `l1` spreads the step, for many of them.
    """
    check_threat("fgsm", threat)
    transforms = {"sign": None, "clip": optax.identity()}
    checks.known("fgsm", transforms, form=form)
    lr = threat.radius if lr is None else lr
    return pgd(threat, lr, steps=1, random_start=False, tx=transforms[form])
