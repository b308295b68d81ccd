"""A gradient in parts: the mean over microbatches is the gradient of the whole batch."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from jaxdiff.checks import count


def microbatches(batch: PyTree, n: int) -> PyTree:
    """[B, ...] -> [n, B / n, ...] in every leaf; ValueError if n does not divide B.

    Part i holds the examples i, i + n, ...: so each device splits its own examples and sends none.
    """

    def split(x: Array) -> Array:
        if not x.ndim:
            raise ValueError("A batch holds arrays with the examples along their first axis; got a scalar.")
        if x.shape[0] % n:
            raise ValueError(
                f"A batch of {x.shape[0]} examples does not split into {n} equal microbatches: "
                f"make the batch of one device a multiple of accumulate={n}."
            )
        return jnp.swapaxes(x.reshape(x.shape[0] // n, n, *x.shape[1:]), 0, 1)

    return jax.tree.map(split, batch)


def accumulated(gradient: Callable, n: int) -> Callable:
    """`gradient`, a `value_and_grad` of a training loss, taken over `n` microbatches.

    Loss, metrics and gradients are means; the model state passes through the parts in order. The key is the
    same in each part, because examples derive theirs from their ids.
    """
    count("make_step", accumulate=n)
    if n == 1:
        return gradient

    def mean_gradient(params: PyTree, model_state: PyTree, batch: PyTree, key: Array) -> tuple:
        def add(carry: tuple, part: PyTree) -> tuple:
            (value, (metrics, state)), grads = gradient(params, carry[1], part, key)
            return (jax.tree.map(jnp.add, carry[0], grads), state), (value, metrics)

        # XLA on CPU is 50 times slower at kernel gradients inside a loop: there the scan is unrolled.
        unroll = jax.default_backend() == "cpu"
        start = jax.tree.map(jnp.zeros_like, params), model_state
        (total, state), outputs = jax.lax.scan(add, start, microbatches(batch, n), unroll=unroll)
        value, metrics = jax.tree.map(lambda x: x.mean(0), outputs)
        return (value, (metrics, state)), jax.tree.map(lambda g: g / n, total)

    return mean_gradient
