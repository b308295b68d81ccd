"""Attacks in steps: a step is a fixed piece of work, an evaluation or a block of them, so that many examples can share a batch.

    state_0 = init(problem),    state_{i+1} = step(problem, state_i, i),    best(state) -> Best                (1)

A problem is what an ascent or an attack is called with: (loss, x, key) or (classifier, x, y, key). A `Stepwise` is itself
that ascent or attack: called, it runs all its steps. `pool.pooled` runs it on many examples with early stops.

A loss may be a scalar, or a scalar with whether the attack has won there. Of two points the better one is that with the
victory, then that with the larger loss; a NaN loses to any number.

Images and labels are checked where they enter: concrete ones that are wrong are refused. Where they are traced, an example
whose image leaves [0, 1] or whose label is no class comes back with NaN for image and loss, and is not `valid`: neither robust
nor fallen.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxdiff import checks
from jaxdiff.floats import wide_dtype
from jaxdiff.types import Image, Loss, PRNGKey, Scalar

Problem = tuple[Any, ...]
State = Any


class Best(NamedTuple):
    """The best point so far.

    `x` is, where `won`, an image at which the attack has won; elsewhere the image with the largest loss that it has seen inside
    its threat, which is the clean one unless it has `moved`. `queries` counts evaluations. An example that is not `valid` was
    no image or had no label: it counts neither as robust nor as fallen. `attack` is the place in its ensemble of the attack
    that has won, -1 where none has (with `won`: the clean image is lost as it is).
    """

    x: Image
    won: Bool[Array, ""]
    loss: Scalar
    queries: Int[Array, ""]
    moved: Bool[Array, ""]
    valid: Bool[Array, ""]
    attack: Int[Array, ""]

    @property
    def robust(self) -> Bool[Array, "..."]:
        """Whether the example is valid and stands; the robust accuracy is robust.sum() / valid.sum()."""
        return self.valid & ~self.won


@dataclasses.dataclass(frozen=True, eq=False)
class Stepwise:
    """Equation (1): an ascent or an attack that can be stopped and resumed after every step.

    `init` costs at most one evaluation, of the clean image, and every step costs about the same. `least_norm` says that it
    looks for the least perturbation, so that its first victory is not its best; `targeted` that the label it is given is the
    one to reach. Where the last step moves nothing and only judges, `last(problem, state)` is the image before it: who calls
    the attack for an image alone is spared that step.
    """

    steps: int
    init: Callable[[Problem], State]
    step: Callable[[Problem, State, Int[Array, ""]], State]
    best: Callable[[State], Best]
    least_norm: bool = False
    targeted: bool = False
    last: Callable[[Problem, State], Image] | None = None

    def __call__(self, *problem: Any) -> Image:
        """The best point after all steps."""
        if self.last is None:
            return self.run(*problem).x
        problem, valid = checked("An attack", problem)
        return jnp.where(valid, self.last(problem, self._after(self.steps - 1, problem)), jnp.nan)

    def run(self, *problem: Any) -> Best:
        """The same, with what is known of it."""
        problem, valid = checked("An attack", problem)
        return marked(self.best(self._after(self.steps, problem)), problem[1], valid)

    def _after(self, steps: int, problem: Problem) -> State:
        if not steps:
            return self.init(problem)
        step = lambda state, i: (self.step(problem, state, i), None)
        return jax.lax.scan(step, self.init(problem), jnp.arange(steps))[0]

    def on(self, translate: Callable[[Problem], Problem]) -> "Stepwise":
        """The same steps for problems of another kind, such as attacks in place of ascents."""
        return self.replace(
            init=lambda problem: self.init(translate(problem)),
            step=lambda problem, state, i: self.step(translate(problem), state, i),
            last=self.last and (lambda problem, state: self.last(translate(problem), state)),
        )

    def recounted(self, count: Callable[[Int[Array, ""]], Int[Array, ""]]) -> "Stepwise":
        """The same, whose queries n count as count(n)."""

        def best(state):
            found = self.best(state)
            return found._replace(queries=count(found.queries))

        return self.replace(best=best)

    def replace(self, **changes: Any) -> "Stepwise":
        """This one with other fields."""
        return dataclasses.replace(self, **changes)


def checked(who: str, problem: Problem) -> tuple[Problem, Bool[Array, ""]]:
    """(the problem with JAX arrays, whether its image and label can be believed); ValueError for what is wrong."""
    if len(problem) not in (3, 4):
        raise ValueError(
            f"{who} is called with (classifier, image, label, key), an ascent with (loss, image, key); "
            f"got {len(problem)} arguments."
        )
    function, x, *y, key = problem
    key, x = checks.key(who, key), checks.image(who, x)
    if not y:
        checks.function(who, loss=function)
        return (function, x, key), checks.believable(x)
    classes = checks.logits_of(who, function, x, key)
    y = jnp.asarray(y[0]) if _is_logits(y[0]) else checks.label(who, y[0], classes)
    return (function, x, y, key), checks.believable(x, y, classes)


def _is_logits(y: Any) -> bool:
    """Whether y is what an objective such as `kl` compares with, and no label."""
    return isinstance(y, jax.Array | np.ndarray) and y.ndim == 1 and jnp.issubdtype(y.dtype, jnp.floating)


def marked(best: Best, clean: Image, valid: Bool[Array, ""]) -> Best:
    """The result of an attack on the image `clean`, with what can be said at its end: whether it has moved, and is valid."""
    image = jax.tree.leaves(best.x)[0]  # what is returned beside it, such as a flow, comes after
    x, loss = jax.tree.map(lambda value: jnp.where(valid, value, jnp.nan), (best.x, best.loss))
    return best._replace(
        x=x,
        won=best.won & valid,
        loss=loss,
        moved=jnp.any(image != clean) & valid,
        valid=valid,
        attack=jnp.where(valid, best.attack, -1),
    )


def start(x: Image) -> Best:
    """Nothing found yet: x itself, from no evaluation."""
    no, kind = jnp.asarray(False), wide_dtype(x.dtype)
    return Best(x, no, jnp.asarray(-jnp.inf, kind), jnp.asarray(0), no, jnp.asarray(True), jnp.asarray(-1))


def improve(
    best: Best, x: Image, won: Bool[Array, ""], loss: Scalar, queries: int | Int[Array, ""] = 1
) -> Best:
    """The better of two points; `queries` more evaluations have been used."""
    known = ~jnp.isnan(loss)
    loss = jnp.where(known, loss, -jnp.inf).astype(best.loss.dtype)
    wins = (won & ~best.won) | ((won == best.won) & (loss > best.loss))
    x, won, loss = choose(wins, (x, won, loss), (best.x, best.won, best.loss))
    attack = jnp.where(won, 0, -1)
    return best._replace(x=x, won=won, loss=loss, queries=best.queries + queries, attack=attack)


def latest(best: Best, x: Image, won: Bool[Array, ""], loss: Scalar) -> Best:
    """The last of two points, whichever is better."""
    nothing = best._replace(won=jnp.asarray(False), loss=jnp.full_like(best.loss, -jnp.inf), x=x)
    return improve(nothing, x, won, loss)


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
    checks.count("in_turn", n=n)

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

    return Stepwise(n * run.steps, init, step, best, run.least_norm, run.targeted)


def _merge(a: Best, b: Best) -> Best:
    merged = improve(a, b.x, b.won, b.loss, 0)
    return merged._replace(queries=a.queries + b.queries)


def choose(condition: Bool[Array, ""], a: State, b: State) -> State:
    """a where the condition holds, else b, for pytrees."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), a, b)
