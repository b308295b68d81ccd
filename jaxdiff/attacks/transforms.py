"""Functions of functions: expectation over randomness, straight-through gradients, defended classifiers.

Expectation over transformation (Athalye et al. 2018, arXiv 1707.07397) averages one of two things over n draws:

    eot_logits(classifier, n)    the logits:           grad L(mean of f(x, key_i), y)                         (1)
    averaged(ascent, n)          loss and gradient:    mean of grad L(f(x, key_i), y)                         (2)

(2) is what EOT attacks such as AutoAttack's `rand` do: `untargeted(averaged(ascent, 20), objective)`. (1) attacks a classifier
that votes: `against_mean(attack, 20)(defend(f, purify), x, y, key)`. They differ unless the objective is linear in the logits.
With `bpda(purify)` in place of `purify` the gradient takes the purification for the identity.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxdiff import checks
from jaxdiff.attacks.attack import as_stepwise
from jaxdiff.attacks.stepwise import Stepwise
from jaxdiff.types import Ascent, Attack, Classifier, Defense, Image, PRNGKey

RandomFunction = Callable[[Image, PRNGKey], Any]  # floats and truths, or tuples of them


def eot(function: RandomFunction, n: int, batch_size: int | None = None) -> RandomFunction:
    """(x, key) -> the mean of function(x, key_i) over n keys; of what is true or false, what more than half of them say.

    A classifier gives averaged logits, equation (1), a loss averaged losses and gradients, equation (2), and has won where
    most draws have. `batch_size` bounds how many of the n run at once. ValueError unless n >= 1.
    """
    _check("eot", function, n, batch_size)

    def mean(x, key):
        x = checks.floats("eot", x)
        keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(n))
        draw = lambda key: function(x, key)
        # Not all at once: the backward pass computes again what it would have to store of all n draws.
        in_parts = lambda keys: jax.lax.map(jax.checkpoint(draw), keys, batch_size=batch_size)
        draws = jax.vmap(draw)(keys) if batch_size is None else in_parts(keys)
        return jax.tree.map(_mean, draws)

    return mean


def eot_logits(classifier: Classifier, n: int, batch_size: int | None = None) -> Classifier:
    """The classifier whose logits are the mean over n draws, equation (1)."""
    return eot(classifier, n, batch_size)


def averaged(ascent: Ascent, n: int, batch_size: int | None = None) -> Stepwise:
    """The ascent on the mean loss of n draws, along the mean of their gradients, equation (2).

    A point has won if more than half of its draws have. Each of the ascent's evaluations counts as n queries.
    """
    _check("averaged", ascent, n, batch_size)

    def problem(single):
        loss, x, key = single
        return eot(loss, n, batch_size), x, key

    return times(n, as_stepwise(ascent).on(problem))


def against_mean(attack: Attack, n: int, batch_size: int | None = None) -> Stepwise:
    """The attack on the classifier whose logits are the mean over n draws, equation (1), each of them a query."""
    _check("against_mean", attack, n, batch_size)
    mean = lambda problem: (eot_logits(problem[0], n, batch_size), *problem[1:])
    return times(n, as_stepwise(attack).on(mean))


def times(n: int, attack: Stepwise) -> Stepwise:
    """The attack, each of whose evaluations is n queries."""
    return attack.recounted(lambda queries: n * queries)


def bpda(defense: Defense) -> Defense:
    """The defense itself, with the gradient of the identity (BPDA, Athalye et al. 2018, arXiv 1802.00420)."""
    checks.function("bpda", defense=defense)

    def straight(x, key):
        x = checks.floats("bpda", x)
        return jax.lax.stop_gradient(defense(x, key)) + (x - jax.lax.stop_gradient(x))

    return straight


def defend(classifier: Classifier, defense: Defense) -> Classifier:
    """The classifier behind the defense, each with its own part of the key."""
    checks.function("defend", classifier=classifier, defense=defense)

    def defended(x, key):
        x = checks.floats("defend", x)  # its range is the attack's to check: a probe may look outside
        defense_key, classifier_key = jax.random.split(key)
        return classifier(defense(x, defense_key), classifier_key)

    return defended


def _check(who: str, function: Any, n: int, batch_size: int | None) -> None:
    checks.function(who, function=function)
    checks.count(who, n=n, **({} if batch_size is None else {"batch_size": batch_size}))


def _mean(draws: jax.Array) -> jax.Array:
    if draws.dtype == bool:
        return 2 * jnp.sum(draws, axis=0) > draws.shape[0]
    return jnp.mean(draws, axis=0)
