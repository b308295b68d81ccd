"""Transfer: attack a classifier one has, and try the result on one that only answers.

    x' = attack(surrogate, x, y, key),    won = victim loses y at x' (targeted: reaches it).       (1)

An attack on several surrogates at once transfers better: it fools what they have in common.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxdiff import checks
from jaxdiff.attacks.attack import goal
from jaxdiff.attacks.objectives import log_softmax, margin
from jaxdiff.attacks.stepwise import Stepwise, improve, start
from jaxdiff.floats import wide
from jaxdiff.types import Attack, Classifier, Objective

__all__ = ["ensemble", "transfer"]


def transfer(
    attack: Attack,
    surrogate: Classifier | Sequence[Classifier],
    objective: Objective | None = None,
    targeted: bool = False,
) -> Stepwise:
    """Equation (1) in one step and one query of the victim; its gradient is never asked for (Papernot et al. 2016).

    Of several surrogates it is their `ensemble`. `restarts(transfer(attack, surrogate), n)` tries n candidates with n queries.
    Among those that do not win, the one with the largest `objective` (the margin) of the victim's logits is the best.
    `targeted` is for an `attack` towards y: won where the victim says y, and the least objective is the best.
    """
    surrogate = ensemble(*surrogate) if isinstance(surrogate, Sequence) else surrogate
    checks.function("transfer", attack=attack, surrogate=surrogate)
    height, has_won, side = objective or margin(), goal(targeted), -1 if targeted else 1

    def step(problem, best, i):
        victim, x, y, key = problem
        attack_key, judge_key = jax.random.split(jax.random.fold_in(key, i))
        candidate = attack(surrogate, x, y, attack_key)
        logits = victim(candidate, judge_key)
        return improve(best, candidate, has_won(logits, y), side * height(logits, y))

    return Stepwise(1, lambda problem: start(problem[1]), step, lambda best: best, targeted=targeted)


def ensemble(*classifiers: Classifier, probabilities: bool = False) -> Classifier:
    """The classifier whose logits are the mean of theirs (Dong et al. 2018, arXiv 1710.06081).

    With `probabilities` the mean is of their softmax outputs (Liu et al. 2017, arXiv 1611.02770): logits of that mean.
    """
    for classifier in classifiers:
        checks.function("ensemble", classifier=classifier)
    if not classifiers:
        raise ValueError("ensemble needs at least one classifier; got none.")

    def fused(x, key):
        x = checks.floats("ensemble", x)
        logits = jnp.stack([f(x, jax.random.fold_in(key, k)) for k, f in enumerate(classifiers)])
        if not probabilities:
            return jnp.mean(logits, axis=0)
        return jax.nn.logsumexp(jax.vmap(log_softmax)(wide(logits)), axis=0) - jnp.log(len(classifiers))

    return fused
