"""Ascents: maximise any scalar inside a threat.

Projected gradient ascent (Madry et al. 2018): from delta_0 = 0 or random,

    delta_{i+1} = project(delta_i + lr direction(grad loss(apply(x, delta_i)))).                 (1)

The direction is the threat's steepest one, or any optax transform: `optax.chain(optax.trace(0.9), threat.steepest)` is
momentum, `optax.scale_by_adam()` is Adam; `directions.nesterov` has the gradient taken ahead of delta_i. FGSM is one step
of (1) from 0 with the step as long as the ball is wide.

An ascent returns exactly x where the projected perturbation is 0, so that radius 0 is the identity bit for bit.
"""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import ScalarLike

from jaxdiff import checks
from jaxdiff.attacks.directions import Lookahead, check_direction, looked_ahead
from jaxdiff.attacks.precision import seen_beside, towards
from jaxdiff.attacks.stepwise import ascent_gradient, improve, measured, start
from jaxdiff.attacks.threat import Threat, check_threat
from jaxdiff.floats import wide
from jaxdiff.types import Ascent

__all__ = ["fgsm", "pgd"]


def pgd(
    threat: Threat,
    lr: ScalarLike,
    steps: int,
    random_start: bool = True,
    keep_best: bool = False,
    tx: optax.GradientTransformation | None = None,
) -> Ascent:
    """Equation (1) for `steps` steps of length `lr` (in pixel units for L-infinity) along `tx` of the gradient.

    `tx` defaults to `threat.steepest`. `keep_best` returns the best iterate seen (one that has won, then the largest loss)
    instead of the last, for one more evaluation; it is meant for deterministic losses, and it refuses `nesterov`, which never
    evaluates the iterates.
    """
    check_threat("pgd", threat)
    checks.count("pgd", steps=steps)
    checks.number("pgd", "[0, inf)", lr=lr)
    direction = threat.steepest if tx is None else tx
    check_direction("pgd", direction)

    def ascend(loss, x, key):
        start_key, loss_key = jax.random.split(checks.key("pgd", key))
        image = checks.image("pgd", x)
        x, loss = wide(image), seen_beside(image, loss)
        delta = threat.init(start_key, x)
        delta = threat.project(delta if random_start else jnp.zeros_like(delta), x)

        tx_state = direction.init(delta)
        if keep_best and isinstance(tx_state, Lookahead):
            raise ValueError(
                "keep_best compares iterates; got nesterov, which only evaluates ahead of them. Drop one."
            )
        height = lambda delta, key: loss(threat.apply(x, delta), key)

        def step(state, i):
            delta, tx_state, best = state
            point = looked_ahead(delta, lr, tx_state)
            value, won, gradient = ascent_gradient(height, point, jax.random.fold_in(loss_key, i))
            update, tx_state = direction.update(gradient, tx_state, delta)
            best = improve(best, delta, won, value)
            return (threat.project(delta + lr * update, x), tx_state, best), None

        state = (delta, tx_state, start(delta))
        (delta, _, best), _ = jax.lax.scan(step, state, jnp.arange(steps))
        if keep_best:
            value, won = measured(height)(delta, jax.random.fold_in(loss_key, steps))
            delta = improve(best, delta, won, value).x
        return towards(image, threat.apply(x, delta))

    return ascend


def fgsm(threat: Threat, lr: ScalarLike, form: str = "sign") -> Ascent:
    """One step from x: project(lr steepest(g)) for the form "sign", project(lr g) for "clip".

    With lr = radius, "sign" is Goodfellow et al. 2015's x + radius sign(g); "clip" is x + clip(lr g, -radius, radius), which
    moves only the pixels that matter. For a linear loss away from the box, "sign" with lr = radius is the maximum in `linf`,
    `l2` and `l1(radius, sparsity=None)`; the default `l1` spreads the step, for many of them.
    """
    transforms = {"sign": None, "clip": optax.identity()}
    checks.known("fgsm", transforms, form=form)
    return pgd(threat, lr, steps=1, random_start=False, tx=transforms[form])
