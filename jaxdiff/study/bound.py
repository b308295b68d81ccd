"""Bound functions: a network, classifier, denoiser or defense as a function of its weights, and the weights beside it.

Weights are arguments of whatever is compiled, never constants of it: one program serves all weights of a shape.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Bound(NamedTuple):
    """`make(arrays)` is the function; `arrays` is a pytree."""

    make: Callable[[Any], Callable]
    arrays: Any

    @property
    def offers(self) -> dict[str, Any]:
        """What the function offers to the part that it is named in, if anything."""
        return getattr(self(), "offers", {})

    def __call__(self) -> Callable:
        """The function with these weights, for use outside of a jit."""
        return self.make(self.arrays)


def zeros_for_shapes(tree: Any) -> Any:
    """Arrays as they are; shapes, which stand for arrays that are not there yet, as zeros, for a trace."""
    zeros = lambda a: jnp.zeros(a.shape, a.dtype) if isinstance(a, jax.ShapeDtypeStruct) else a
    return jax.tree.map(zeros, tree)


def shapes(arrays: Any) -> Any:
    """Arrays as shapes."""
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(jnp.shape(a), jnp.result_type(a)), arrays)
