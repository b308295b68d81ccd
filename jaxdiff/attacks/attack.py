"""Attacks: ascents that know labels. All of them act on one example; batch with `jax.vmap` or `pool.pooled`."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from jaxdiff.attacks.stepwise import Stepwise, first_best, in_turn
from jaxdiff.types import Ascent, Attack, Label, Logits, Objective, Scalar


def untargeted(ascent: Ascent, objective: Objective) -> Attack:
    """(classifier, x, y, key) -> x_adv, away from the label y: maximises objective(classifier(x'), y)."""
    return from_ascent(ascent, lambda logits, y: (objective(logits, y), victory(logits, y)))


def targeted(ascent: Ascent, objective: Objective) -> Attack:
    """(classifier, x, target, key) -> x_adv, towards the class `target`: minimises objective(classifier(x'), target)."""
    return from_ascent(ascent, lambda logits, target: (-objective(logits, target), ~lost(logits, target)))


def from_ascent(ascent: Ascent, judge: Callable[[Logits, Array], tuple[Scalar, Bool[Array, ""]]]) -> Attack:
    """The attack that maximises `judge(logits, y) -> (loss, won)`; stepwise if the ascent is."""

    def problem(attacked):
        classifier, x, y, key = attacked
        return (lambda x, key: judge(classifier(x, key), y)), x, key

    if isinstance(ascent, Stepwise):
        return ascent.on(problem)
    return lambda classifier, x, y, key: ascent(*problem((classifier, x, y, key)))


def lost(logits: Logits, y: Label) -> Bool[Array, ""]:
    """Whether a classifier with these logits has lost the label: another class is on top, or a logit is not finite."""
    return (jnp.argmax(logits) != y) | ~jnp.all(jnp.isfinite(logits))


def victory(logits: Logits, y: Array) -> Bool[Array, ""]:
    """`lost`; where y is no label (`kl` compares with logits) only the loss counts."""
    return lost(logits, y) if jnp.ndim(y) == 0 else jnp.asarray(False)


def restarts(attack: Attack, n: int, objective: Objective) -> Attack:
    """The best of n runs of an untargeted `attack` with different keys: one that has won, then the largest `objective`.

    All candidates of an example are judged with the same key, so a randomised classifier does not favour one by luck. A
    stepwise attack, targeted or not, runs in turn, knows its own best point, and needs neither objective nor evaluation.
    """
    if n < 1:
        raise ValueError(f"restarts needs n >= 1; got {n}.")
    if n == 1:
        return attack
    if isinstance(attack, Stepwise):
        another_key = lambda problem, _, k: (*problem[:-1], jax.random.fold_in(problem[-1], k))  # noqa: E731
        return in_turn(attack, n, another_key)

    def best_of(classifier, x, y, key):
        run_key, judge_key = jax.random.split(key)
        keys = jax.vmap(lambda i: jax.random.fold_in(run_key, i))(jnp.arange(n))
        candidates = jax.vmap(lambda key: attack(classifier, x, y, key))(keys)

        def judge(candidate):
            logits = classifier(candidate, judge_key)
            return victory(logits, y) & jnp.all(jnp.isfinite(candidate)), objective(logits, y)

        return candidates[first_best(*jax.vmap(judge)(candidates))]

    return best_of
