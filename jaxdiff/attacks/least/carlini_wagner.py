"""The attack of Carlini and Wagner: the least L2 perturbation, by Adam over images tanh has made of all real numbers.

    minimise over w   |x' - x|_2^2 + c f(x'),    x' = (tanh(w) + 1) / 2,                             (1)
    f(x') = max(z_y - max_{j != y} z_j + confidence, 0)                                              (2)

and a search for the smallest c that succeeds: from `initial_const`, ten times larger as long as no c has, and then halfway
between the largest that has not and the smallest that has. Every example has its own c. Carlini and Wagner 2017
(arXiv:1608.04644), sections V and VI.A; targeted attacks swap the sides of (2).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, ScalarLike

from jaxdiff import checks
from jaxdiff.attacks.attack import goal
from jaxdiff.attacks.objectives import margin
from jaxdiff.attacks.precision import in_float32
from jaxdiff.attacks.stepwise import Best, Stepwise, choose, finite, improve, start
from jaxdiff.attacks.threats.threat import l2
from jaxdiff.types import Image, Scalar

__all__ = ["carlini_wagner"]


class _State(NamedTuple):
    w: Image
    moments: Any
    c: Scalar
    lower: Scalar
    upper: Scalar
    found: Bool[Array, ""]  # whether this c has succeeded
    best: Best


def carlini_wagner(
    search_steps: int = 9,
    steps: int = 1000,
    lr: ScalarLike = 0.01,
    initial_const: ScalarLike = 1e-3,
    confidence: ScalarLike = 0.0,
    targeted: bool = False,
) -> Stepwise:
    """Equation (1) for `search_steps` values of c, with `steps` of Adam each: an attack of search_steps x steps evaluations.

    The paper takes 10,000 steps; the default of 1,000 is cheaper, and may find longer perturbations.
    `targeted` takes y for the class to reach. The result is x itself where nothing was found. Every c gets all its steps,
    by whose number the search goes on: there is no early abort.
    """
    checks.count("carlini_wagner", search_steps=search_steps, steps=steps)
    lr, initial_const = checks.number("carlini_wagner", "(0, inf)", lr=lr, initial_const=initial_const)
    confidence = checks.number("carlini_wagner", "[0, inf)", confidence=confidence)
    checks.instance("carlini_wagner", bool, "True", targeted=targeted)
    adam, height, length = optax.adam(lr), margin(), l2(jnp.inf).norm
    has_won, side = goal(targeted), -1.0 if targeted else 1.0

    def init(problem):
        x = problem[1]
        w, c = _unsquash(x), jnp.asarray(initial_const, x.dtype)
        lower, upper = jnp.zeros_like(c), jnp.full_like(c, jnp.inf)
        return _State(w, adam.init(w), c, lower, upper, jnp.asarray(False), start(x))

    def step(problem, state, i):
        classifier, x, y, key = problem
        begins = i % steps == 0
        restarted = state._replace(
            w=_unsquash(x), moments=adam.init(x), found=jnp.asarray(False), **_search(state)
        )
        state = choose(begins & (i > 0), restarted, state)

        def objective(w):
            image = _squash(w)
            # The first image is x itself and not what rounding makes of it.
            image = jnp.where(begins, x + (image - jax.lax.stop_gradient(image)), image)
            logits = classifier(image, jax.random.fold_in(key, i))
            f = jnp.maximum(confidence - side * height(logits, y), 0.0)
            return jnp.sum(jnp.square(image - x)) + state.c * f, (image, logits)

        gradient, (image, logits) = jax.grad(objective, has_aux=True)(state.w)
        won = has_won(logits.at[y].add(side * confidence), y)
        best = improve(state.best, image, won, jnp.where(won, -length(image - x), -jnp.inf))
        update, moments = adam.update(finite(gradient), state.moments)
        return state._replace(w=state.w + update, moments=moments, found=state.found | won, best=best)

    search = Stepwise(search_steps * steps, init, step, lambda state: state.best, True, targeted)
    return in_float32(search)


def _search(state: _State) -> dict[str, Scalar]:
    """The next c, from what the last one has shown."""
    upper = jnp.where(state.found, state.c, state.upper)
    lower = jnp.where(state.found, state.lower, state.c)
    return {
        "c": jnp.where(jnp.isinf(upper), 10.0 * state.c, (lower + upper) / 2.0),
        "lower": lower,
        "upper": upper,
    }


def _squash(w: Image) -> Image:
    return (jnp.tanh(w) + 1.0) / 2.0


def _unsquash(x: Image) -> Image:
    # Borders are at infinity: a little inside of them Adam can still move.
    return jnp.arctanh((2.0 * x - 1.0) * 0.999999)
