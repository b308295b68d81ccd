"""Functions of functions: expectation over randomness, straight-through gradients, defended classifiers.

An adaptive attack on a purified classifier is their composition, `attack(eot(defend(f, purify), 20), x, y, key)`; with
`bpda(purify)` in place of `purify` the gradient takes the purification for the identity.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdiff.types import Classifier, Defense, Image, PRNGKey

RandomFunction = Callable[[Image, PRNGKey], Float[Array, "..."]]


def eot(function: RandomFunction, n: int, batch_size: int | None = None) -> RandomFunction:
    """(x, key) -> the mean of function(x, key_i) over n keys (expectation over transformation, Athalye et al. 2018).

    A classifier gives a classifier with averaged logits; a loss gives a loss with averaged gradients. `batch_size` bounds
    how many of the n run at once.
    """
    if n < 1:
        raise ValueError(f"eot needs n >= 1 draws; got {n}.")

    def mean(x, key):
        keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(n))
        draw = lambda key: function(x, key)  # noqa: E731
        draws = jax.vmap(draw)(keys) if batch_size is None else jax.lax.map(draw, keys, batch_size=batch_size)
        return jnp.mean(draws, axis=0)

    return mean


def bpda(defense: Defense) -> Defense:
    """The defense itself, with the gradient of the identity (BPDA, Athalye et al. 2018)."""
    return lambda x, key: jax.lax.stop_gradient(defense(x, key)) + (x - jax.lax.stop_gradient(x))


def defend(classifier: Classifier, defense: Defense) -> Classifier:
    """The classifier behind the defense, each with its own part of the key."""

    def defended(x, key):
        defense_key, classifier_key = jax.random.split(key)
        return classifier(defense(x, defense_key), classifier_key)

    return defended
