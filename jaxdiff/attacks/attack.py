"""Attacks: ascents that know labels. All of them act on one example; batch with `jax.vmap` or `pool.pooled`."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from jaxdiff import checks
from jaxdiff.attacks.stepwise import Stepwise, checked, choose, first_best, in_turn
from jaxdiff.attacks.threat import Threat
from jaxdiff.types import Ascent, Attack, Label, Logits, Objective, Scalar

RUNS = int.from_bytes(b"runs", "big")


def untargeted(ascent: Ascent, objective: Objective) -> Attack:
    """(classifier, x, y, key) -> x_adv, away from the label y: maximises objective(classifier(x'), y)."""
    check_parts("untargeted", ascent, objective)
    return from_ascent(ascent, _away(objective))


def targeted(ascent: Ascent, objective: Objective) -> Attack:
    """(classifier, x, target, key) -> x_adv, towards the class `target`: minimises objective(classifier(x'), target)."""
    check_parts("targeted", ascent, objective)
    return from_ascent(ascent, _towards(objective))


def from_ascent(ascent: Ascent, judge: Callable[[Logits, Array], tuple[Scalar, Bool[Array, ""]]]) -> Attack:
    """The attack that maximises `judge(logits, y) -> (loss, won)`; stepwise if the ascent is."""

    def problem(attacked):
        classifier, x, y, key = attacked
        return (lambda x, key: judge(classifier(x, key), y)), x, key

    if isinstance(ascent, Stepwise):
        return ascent.on(problem)

    def attack(classifier, x, y, key):
        attacked, valid = checked("An attack", (classifier, x, y, key))
        return jnp.where(valid, ascent(*problem(attacked)), jnp.nan)

    return attack


def lost(logits: Logits, y: Label) -> Bool[Array, ""]:
    """Whether a classifier with these logits has lost the label: another class is on top, or a logit is not finite."""
    return (jnp.argmax(logits) != y) | ~jnp.all(jnp.isfinite(logits))


def goal(targeted: bool) -> Callable[[Logits, Label], Bool[Array, ""]]:
    """(logits, y) -> whether an attack has won: y is lost, or, `targeted`, y is on top of finite logits."""
    return (lambda logits, y: ~lost(logits, y)) if targeted else lost


def victory(logits: Logits, y: Array) -> Bool[Array, ""]:
    """`lost`; where y is no label (`kl` compares with logits) only the loss counts."""
    return lost(logits, y) if jnp.ndim(y) == 0 else jnp.asarray(False)


def restarts(attack: Attack, n: int, objective: Objective | None = None, towards: bool = False) -> Attack:
    """The best of n runs of an attack with different keys: one that has won, then the largest (`towards`: least) `objective`.

    The first run has the key of the attack alone, and n + 1 runs hold the n. `towards` says that the attack is targeted. All
    candidates of an example are judged with the same key, so a randomised classifier does not favour one by luck. A
    stepwise attack runs in turn, knows its own best point, and needs neither objective nor evaluation.
    """
    checks.count("restarts", n=n)
    if isinstance(attack, Stepwise):
        variant = lambda problem, _, k: (*problem[:-1], _key_of_run(problem[-1], k))
        return attack if n == 1 else in_turn(attack, n, variant)
    check_parts("restarts", attack, objective)
    if n == 1:
        return attack
    judge = (_towards if towards else _away)(objective)

    def best_of(classifier, x, y, key):
        judge_key = jax.random.fold_in(key, RUNS + 1)
        candidates = jax.vmap(lambda k: attack(classifier, x, y, _key_of_run(key, k)))(jnp.arange(n))

        def judged(candidate):
            loss, won = judge(classifier(candidate, judge_key), y)
            return won & jnp.all(jnp.isfinite(candidate)), loss

        return candidates[first_best(*jax.vmap(judged)(candidates))]

    return best_of


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
