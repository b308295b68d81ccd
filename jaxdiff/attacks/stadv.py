"""Spatially transformed adversarial examples (Xiao et al. 2018): move the pixels a little and smoothly, change no colour.

With x' = warp(x, f) and the smoothness L_flow of `flow.py`, both attacks look for the flow f that maximises

    loss(x') - tau L_flow(f),    loss = max_{j != y} z_j - z_y (Carlini and Wagner's -f6).                      (1)

Laidlaw et al. 2021 (and DiffPure, Nie et al. 2022) bound f and take steps of Adam, with the bare loss: `stadv`. Xiao et al.
let f free, and minimise by L-BFGS (Liu and Nocedal 1989) with min(loss, kappa), enough being enough: `stadv_original`.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, ScalarLike

from jaxdiff import checks
from jaxdiff.attacks.attack import targeted, untargeted
from jaxdiff.attacks.objectives import margin
from jaxdiff.attacks.stepwise import Best, Stepwise, finite, improve, latest, measured, start
from jaxdiff.attacks.threats.flow import flow_field, flow_smoothness, warp
from jaxdiff.floats import wide_dtype
from jaxdiff.types import Image

__all__ = ["flow_ascent", "flow_lbfgs", "run_with_flow", "stadv", "stadv_original"]

GOALS = {"untargeted": untargeted, "targeted": targeted}


class _State(NamedTuple):
    """Where the next evaluation is, and the same points kept as images and as flows."""

    flow: Float[Array, "h w 2"]
    tx: Any
    images: Best
    flows: Best


def stadv(
    bound: ScalarLike = 0.05,
    steps: int = 100,
    lr: ScalarLike = 0.01,
    tau: ScalarLike | None = None,
    keep: str = "best",
) -> Stepwise:
    """Laidlaw's StAdv: an attack by flows up to `bound`, see `flow_ascent`. Their tau, 0.0025 / bound, is the default.

    To the letter the last flow counts, keep = "last", and there is no stop at the first victory.
    """
    bound = checks.number("stadv", "[0, inf)", bound=bound)
    if tau is None:
        tau = jnp.where(bound > 0.0, 0.0025 / jnp.maximum(bound, 1e-12), 0.0)
    return untargeted(flow_ascent(bound, steps, lr, tau, keep), margin())


def stadv_original(
    tau: ScalarLike = 0.05, kappa: ScalarLike = 0.0, steps: int = 50, goal: str = "untargeted"
) -> Stepwise:
    """Xiao's StAdv without a bound, see `flow_lbfgs`; for goal = "targeted" the label is the class to reach.

    With kappa = 0 it ends beside the decision boundary; a larger one asks for a victory by that margin.
    """
    checks.known("stadv_original", GOALS, goal=goal)
    return GOALS[goal](flow_lbfgs(tau, kappa, steps), margin())


def flow_ascent(
    bound: ScalarLike, steps: int, lr: ScalarLike, tau: ScalarLike, keep: str = "best"
) -> Stepwise:
    """Maximises loss(warp(x, f)) - tau L_flow(f) over |f| <= bound by projected Adam from 0, in steps + 1 evaluations.

    Flows are in units of half the image. Of the flows 0 to `steps` the best counts (one that has won, then the largest
    objective) or, for keep = "last", the last alone. Gradients that are not finite count as 0.
    """
    tau, lr = _checked("flow_ascent", steps, tau=tau, lr=lr)
    checks.known("flow_ascent", KEEPS, keep=keep)
    threat, adam = flow_field(bound), optax.scale_by_adam()

    def step(problem, state, i):
        loss, x, key = problem
        objective = _objective(loss, partial(warp, x), jax.random.fold_in(key, i), tau)
        (value, (won, image)), gradient = jax.value_and_grad(objective, has_aux=True)(state.flow)
        # Where the last flow alone counts, a victory before it is none.
        won = won & ((i == steps) | (keep == "best"))
        kept = (
            KEEPS[keep](*point, won, value) for point in ((state.images, image), (state.flows, state.flow))
        )
        update, tx = adam.update(finite(gradient), state.tx)
        return _State(threat.project(state.flow + lr * update, x), tx, *kept)

    return Stepwise(steps + 1, lambda problem: _begin(problem[1], adam), step, lambda state: state.images)


def flow_lbfgs(tau: ScalarLike, kappa: ScalarLike, steps: int, searches: int = 10) -> Stepwise:
    """Maximises min(loss(x'), kappa) - tau L_flow(f) over free flows in pixels by L-BFGS from 0; the best flow seen counts.

    One step is an evaluation and a line search (strong Wolfe) of usually one more and at most `searches`, for which a batch
    waits. A pixel that looks outside the image sees its nearest pixel. L_flow has kinks, at which line searches tire: where
    queries count, `flow_ascent` with a wide bound may go further.
    """
    tau, kappa = _checked("flow_lbfgs", steps, tau=tau, kappa=kappa)
    checks.count("flow_lbfgs", searches=searches)
    search = optax.scale_by_zoom_linesearch(max_linesearch_steps=searches, initial_guess_strategy="one")
    lbfgs = optax.lbfgs(memory_size=10, linesearch=search)

    def step(problem, state, i):
        loss, x, key = problem
        unit = jnp.asarray([[[2 / x.shape[1], 2 / x.shape[0]]]], state.flow.dtype)
        see = lambda flow: warp(x, flow * unit, "edge")
        objective = _objective(loss, see, jax.random.fold_in(key, i), tau, kappa)
        descend = lambda flow: -objective(flow)[0]
        (value, (won, image)), gradient = jax.value_and_grad(objective, has_aux=True)(state.flow)
        gradient = finite(gradient)
        update, tx = lbfgs.update(
            -gradient, state.tx, state.flow, value=-value, grad=-gradient, value_fn=descend
        )
        searched = tx[-1].info.num_linesearch_steps
        kept = (
            improve(best, point, won, value, 1 + searched)
            for best, point in ((state.images, image), (state.flows, state.flow * unit))
        )
        return _State(state.flow + finite(update), tx, *kept)

    return Stepwise(steps, lambda problem: _begin(problem[1], lbfgs), step, lambda state: state.images)


def run_with_flow(attack: Stepwise, *problem: Any) -> tuple[Best, Float[Array, "h w 2"]]:
    """What `attack.run` gives for one of these attacks, and the flow of its image, in units of half the image.

    ValueError for another attack.
    """

    def both(state):
        if not isinstance(state, _State):
            raise ValueError(
                "run_with_flow is for an attack that moves pixels, such as stadv(steps=100); this one has no flow."
            )
        return state.images._replace(x=(state.images.x, state.flows.x))

    found = attack.replace(best=both).run(*problem)
    image, flow = found.x
    return found._replace(x=image), flow


KEEPS = {"best": improve, "last": latest}


def _begin(x: Image, tx: optax.GradientTransformation) -> _State:
    checks.pixels("A flow attack", x.shape)
    flow = jnp.zeros((*x.shape[:2], 2), wide_dtype(x.dtype))
    return _State(flow, tx.init(flow), start(x), start(flow))


def _objective(loss, see, key, tau, kappa=jnp.inf):
    """flow -> (equation (1), (whether the attack has won, x'))."""

    def objective(flow):
        image = see(flow)
        value, won = measured(loss)(image, key)
        return jnp.minimum(value, kappa) - tau * flow_smoothness(flow), (won, image)

    return objective


def _checked(name: str, steps: int, **numbers: ScalarLike) -> tuple[ScalarLike, ...]:
    checks.count(name, steps=steps)
    return checks.number(name, "[0, inf)", **numbers)
