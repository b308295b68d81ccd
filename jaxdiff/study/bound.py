"""Bound functions: a network, classifier, denoiser or defense as a function of its weights, and the weights beside it.

Weights are arguments of whatever is compiled, never constants of it: one program serves all weights of a shape.
"""

from collections.abc import Callable
from typing import Any, NamedTuple


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
