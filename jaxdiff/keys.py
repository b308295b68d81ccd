"""Keys of what they belong to: a purpose, an example; never of the order in which things happen to be drawn."""

import zlib

import jax
import numpy as np
from jaxtyping import Array, Int

from jaxdiff.types import PRNGKey, PRNGKeys


def purpose(key: PRNGKey, name: str) -> PRNGKey:
    """The part of a key that belongs to a named purpose."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def example_keys(key: PRNGKey, ids: Int[Array | np.ndarray, " batch"]) -> PRNGKeys:
    """One key an example [batch], whatever batch it comes in."""
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(ids)
