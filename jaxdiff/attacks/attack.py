"""Attacks: ascents that know labels. All of them act on one example; batch with `jax.vmap` or `pool.pooled`."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from jaxdiff import checks
from jaxdiff.attacks.objectives import margin
from jaxdiff.attacks.stepwise import Stepwise, choose, improve, in_turn, measured, start
from jaxdiff.attacks.threats.threat import Threat
from jaxdiff.types import Ascent, Attack, Label, Logits, Objective, Scalar

RUNS, JUDGE = (int.from_bytes(name, "big") for name in (b"runs", b"jdge"))


def untargeted(ascent: Ascent, objective: Objective) -> Stepwise:
    """(classifier, x, y, key) -> x_adv, away from the label y: maximises objective(classifier(x'), y)."""
    check_parts("untargeted", ascent, objective)
    return from_ascent(ascent, _away(objective))


def targeted(ascent: Ascent, objective: Objective) -> Stepwise:
    """(classifier, x, target, key) -> x_adv, towards the class `target`: minimises objective(classifier(x'), target)."""
    check_parts("targeted", ascent, objective)
    return from_ascent(ascent, _towards(objective), targeted=True)


def from_ascent(
    ascent: Ascent,
    judge: Callable[[Logits, Array], tuple[Scalar, Bool[Array, ""]]],
    targeted: bool = False,
) -> Stepwise:
    """The attack that maximises `judge(logits, y) -> (loss, won)`."""

    def problem(attacked):
        classifier, x, y, key = attacked
        return (lambda x, key: judge(classifier(x, key), y)), x, key

    return as_stepwise(ascent).on(problem).replace(targeted=targeted)


def as_stepwise(attack: Attack | Ascent) -> Stepwise:
    """An attack in steps as it is; of any other function (classifier, x, y, key) -> x_adv, or (loss, x, key) -> x_adv, one that
    runs it in one step and judges what it has made, in one query: of an attack by whether the label is lost, and the margin.
    What is not finite is no victory.
    """
    if isinstance(attack, Stepwise):
        return attack
    checks.function("as_stepwise", attack=attack)

    def step(problem, best, i):
        function, x, *y, key = problem
        x_adv = attack(*problem)
        if getattr(x_adv, "shape", None) != x.shape:
            raise ValueError(
                f"An attack maps (classifier, image, label, key) to an image; from one {x.shape} this one made "
                f"{getattr(x_adv, 'shape', type(x_adv).__name__)}."
            )
        loss = (lambda x, key: _away(margin())(function(x, key), *y)) if y else measured(function)
        value, won = loss(x_adv, jax.random.fold_in(key, JUDGE))
        there = jnp.all(jnp.isfinite(x_adv))
        value, won = jnp.where(there, value, jnp.nan), won & there
        return improve(best, x_adv, won, value)

    last = lambda problem, best: attack(*problem)
    return Stepwise(1, lambda problem: start(problem[1]), step, lambda best: best, last=last)


def lost(logits: Logits, y: Label) -> Bool[Array, ""]:
    """Whether a classifier with these logits has lost the label: another class is on top, or a logit is not finite."""
    return (jnp.argmax(logits) != y) | ~jnp.all(jnp.isfinite(logits))


def goal(targeted: bool) -> Callable[[Logits, Label], Bool[Array, ""]]:
    """(logits, y) -> whether an attack has won: y is lost, or, `targeted`, y is on top of finite logits."""
    return (lambda logits, y: ~lost(logits, y)) if targeted else lost


def victory(logits: Logits, y: Array) -> Bool[Array, ""]:
    """`lost`; where y is no label (`kl` compares with logits) only the loss counts."""
    return lost(logits, y) if jnp.ndim(y) == 0 else jnp.asarray(False)


def restarts(attack: Attack, n: int) -> Stepwise:
    """The best of n runs of an attack with different keys, in turn: one that has won, then the one with the largest loss.

    The first run has the key of the attack alone, and n + 1 runs hold the n.
    """
    checks.count("restarts", n=n)
    variant = lambda problem, _, k: (*problem[:-1], _key_of_run(problem[-1], k))
    attack = as_stepwise(attack)
    return attack if n == 1 else in_turn(attack, n, variant)


def check_parts(who: str, ascent: Any, objective: Any, labels: int = 1) -> None:
    """ValueError unless there is an ascent (or attack) and an objective of logits and so many `labels`."""
    if isinstance(ascent, Threat) or not callable(ascent):
        raise ValueError(
            f"{who} needs an ascent or attack, such as pgd(threat, lr, steps); got {type(ascent).__name__}."
        )
    like = "(logits, y)" if labels == 1 else "(logits, y, target)"
    checks.takes(who, like, 1 + labels, objective=objective)


def _away(objective):
    return lambda logits, y: (objective(logits, y), victory(logits, y))


def _towards(objective):
    return lambda logits, target: (-objective(logits, target), ~lost(logits, target))


def _key_of_run(key, k):
    """The key itself for run 0, else one that no attack reaches by counting its steps."""
    return choose(jnp.asarray(k == 0), key, jax.random.fold_in(jax.random.fold_in(key, RUNS), k))
