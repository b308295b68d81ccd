"""Attacks: ascents that know labels. All of them act on one example; batch with `jax.vmap`."""

import jax
import jax.numpy as jnp

from jaxdiff.types import Ascent, Attack, Objective


def untargeted(ascent: Ascent, objective: Objective) -> Attack:
    """(classifier, x, y, key) -> x_adv, away from the label y: maximises objective(classifier(x'), y)."""
    return lambda classifier, x, y, key: ascent(lambda x, key: objective(classifier(x, key), y), x, key)


def targeted(ascent: Ascent, objective: Objective) -> Attack:
    """(classifier, x, target, key) -> x_adv, towards the class `target`: minimises objective(classifier(x'), target)."""
    return untargeted(ascent, lambda logits, target: -objective(logits, target))


def restarts(attack: Attack, n: int, objective: Objective) -> Attack:
    """The best of n runs of `attack` with different keys, by `objective` of the classifier's logits.

    All candidates of an example are judged with the same key, so a randomised classifier does not favour one by luck.
    """
    if n < 1:
        raise ValueError(f"restarts needs n >= 1; got {n}.")

    def best_of(classifier, x, y, key):
        run_key, judge_key = jax.random.split(key)
        keys = jax.vmap(lambda i: jax.random.fold_in(run_key, i))(jnp.arange(n))
        candidates = jax.vmap(lambda key: attack(classifier, x, y, key))(keys)
        heights = jax.vmap(lambda candidate: objective(classifier(candidate, judge_key), y))(candidates)
        return candidates[jnp.argmax(jnp.where(jnp.isnan(heights), -jnp.inf, heights))]

    return best_of
