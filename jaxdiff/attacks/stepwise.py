"""Attacks in steps: a step is a fixed piece of work, an evaluation or a block of them, so that many examples can share a batch.

    state_0 = init(problem),    state_{i+1} = step(problem, state_i, i),    best(state) -> Best                (1)

A problem is what an ascent or an attack is called with: (loss, x, key) or (classifier, x, y, key). A `Stepwise` is itself
that ascent or attack: called, it runs all its steps. `pool.pooled` runs it on many examples with early stops.

A loss may be a scalar, or a scalar with whether the attack has won there. Of two points the better one is that with the
victory, then that with the larger loss; a NaN loses to any number.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxdiff.types import Image, Loss, PRNGKey, Scalar

Problem = tuple[Any, ...]
State = Any


class Best(NamedTuple):
    """The best point so far: whether the attack has won there, its loss, and how many evaluations it took in all."""

    x: Image
    won: Bool[Array, ""]
    loss: Scalar
    queries: Int[Array, ""]


class Stepwise(NamedTuple):
    """Equation (1): an ascent or an attack that can be stopped and resumed after every step.

    `init` costs at most one evaluation, of the clean image, and every step costs about the same.
    """

    steps: int
    init: Callable[[Problem], State]
    step: Callable[[Problem, State, Int[Array, ""]], State]
    best: Callable[[State], Best]

    def __call__(self, *problem: Any) -> Image:
        """The best point after all steps."""
        return self.run(*problem).x

    def run(self, *problem: Any) -> Best:
        """The same, with what is known of it."""
        step = lambda state, i: (self.step(problem, state, i), None)  # noqa: E731
        state, _ = jax.lax.scan(step, self.init(problem), jnp.arange(self.steps))
        return self.best(state)

    def on(self, translate: Callable[[Problem], Problem]) -> "Stepwise":
        """The same steps for problems of another kind, such as attacks in place of ascents."""
        return Stepwise(
            self.steps,
            lambda problem: self.init(translate(problem)),
            lambda problem, state, i: self.step(translate(problem), state, i),
            self.best,
        )


def start(x: Image) -> Best:
    """Nothing found yet: x itself, from no evaluation."""
    return Best(x, jnp.asarray(False), jnp.asarray(-jnp.inf, x.dtype), jnp.asarray(0))


def improve(
    best: Best, x: Image, won: Bool[Array, ""], loss: Scalar, queries: int | Int[Array, ""] = 1
) -> Best:
    """The better of two points; `queries` more evaluations have been used."""
    known = ~jnp.isnan(loss)
    loss = jnp.where(known, loss, -jnp.inf).astype(best.loss.dtype)
    wins = (won & ~best.won) | ((won == best.won) & (loss > best.loss))
    return Best(*choose(wins, (x, won, loss), tuple(best[:3])), best.queries + queries)


def first_best(won: Bool[Array, " n"], loss: Float[Array, " n"]) -> Int[Array, ""]:
    """The place of the best of several points."""
    loss = jnp.where(jnp.isnan(loss), -jnp.inf, loss)
    return jnp.argmax(jnp.where(won == jnp.any(won), jnp.maximum(loss, jnp.finfo(loss.dtype).min), -jnp.inf))


def measured(loss: Loss) -> Callable[[Image, PRNGKey], tuple[Scalar, Bool[Array, ""]]]:
    """The loss with whether the attack has won: a loss that does not say so never has."""

    def both(x: Image, key: PRNGKey) -> tuple[Scalar, Bool[Array, ""]]:
        value = loss(x, key)
        return value if isinstance(value, tuple) else (value, jnp.asarray(False))

    return both


def ascent_gradient(loss: Loss, x: Image, key: PRNGKey) -> tuple[Scalar, Bool[Array, ""], Image]:
    """(loss, won, gradient) at x; a gradient that is not finite counts as 0, which leaves the image feasible."""
    (value, won), gradient = jax.value_and_grad(measured(loss), has_aux=True)(x, key)
    return value, won, finite(gradient)


def finite(values: Array) -> Array:
    """The values, with 0 for those that are not finite: a broken gradient moves nothing."""
    return jnp.where(jnp.isfinite(values), values, 0.0)


def in_turn(
    run: Stepwise,
    n: int,
    variant: Callable[[Problem, Any, Int[Array, ""]], Problem],
    prepare: Callable[[Problem], Any] = lambda problem: None,
) -> Stepwise:
    """n runs one after the other: run k solves `variant(problem, prepare(problem), k)`; the best of all counts.

    Restarts vary the key, multi-targeted attacks the target.
    """
    check_stepwise("in_turn", run)
    if n < 1:
        raise ValueError(f"in_turn needs n >= 1 runs; got {n}.")

    def init(problem):
        prepared = prepare(problem)
        state = run.init(variant(problem, prepared, jnp.asarray(0)))
        return prepared, state, run.best(state)._replace(queries=jnp.asarray(0))

    def step(problem, carry, i):
        prepared, state, before = carry
        k, i = jnp.divmod(i, run.steps)
        current = variant(problem, prepared, k)
        begins = i == 0
        before = choose(begins & (k > 0), _merge(before, run.best(state)), before)
        state = choose(begins, run.init(current), state)
        return prepared, run.step(current, state, i), before

    def best(carry):
        _, state, before = carry
        return _merge(before, run.best(state))

    return Stepwise(n * run.steps, init, step, best)


def _merge(a: Best, b: Best) -> Best:
    merged = improve(a, b.x, b.won, b.loss, 0)
    return merged._replace(queries=a.queries + b.queries)


def check_stepwise(who: str, attack: Any) -> None:
    """ValueError for a plain function."""
    if not isinstance(attack, Stepwise):
        raise ValueError(
            f"{who} needs an attack in steps, such as apgd or fab; this one (pgd, fgsm, ...) is a plain function: "
            "batch it with jax.vmap or jax.lax.map."
        )


def choose(condition: Bool[Array, ""], a: State, b: State) -> State:
    """a where the condition holds, else b, for pytrees."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), a, b)
