"""Batches of any size through a program of one width, so that an example's result does not depend on its company.

XLA makes other code for another shape of batch, and other code rounds differently: a last bit that an attack turns into another
picture. So per-example work runs in chunks of exactly `width` examples, the last one filled up. The loop around them knows the
size of the batch, the number of devices and the order; the arithmetic inside sees `width` examples, whatever these are.

On any one machine results are then equal bit by bit. Another width, another kind of CPU, or the same function outside of `jit`
may round otherwise.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from jaxdiff import checks

Batched = Callable[[PyTree], PyTree]  # leaves [B, ...] -> leaves [B, ...], row i from row i alone


def in_chunks(f: Batched, width: int) -> Batched:
    """`f`, made for `width` examples at once, for batches of any size; empty ones too. ValueError unless width >= 1."""
    checks.count("in_chunks", width=width)

    def run(batch: PyTree) -> PyTree:
        n = size(batch)
        chunks = -(-n // width)
        if not chunks:
            one = jax.tree.map(lambda x: jax.ShapeDtypeStruct((width, *x.shape[1:]), x.dtype), batch)
            return jax.tree.map(lambda x: jnp.zeros((0, *x.shape[1:]), x.dtype), jax.eval_shape(f, one))
        places = jnp.minimum(jnp.arange(chunks * width), n - 1).reshape(chunks, width)
        results = jax.lax.map(lambda rows: f(jax.tree.map(lambda x: x[rows], batch)), places)
        return jax.tree.map(lambda x: x.reshape(chunks * width, *x.shape[2:])[:n], results)

    return run


def size(batch: PyTree) -> int:
    """The number of examples; ValueError unless every leaf has as many along its first axis."""
    lengths = {jnp.shape(x)[:1] for x in jax.tree.leaves(batch)}
    if len(lengths) != 1 or () in lengths:
        raise ValueError(f"A batch has one first axis for all its arrays; got the lengths {sorted(lengths)}.")
    return lengths.pop()[0]
