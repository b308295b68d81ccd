"""What a tree of arrays is, leaf by leaf: shape, dtype, and a digest of its bits.

The digest of an array is the sum over its 32-bit words of a hash of (position, word): two such sums, 64 bits. A sum does not
depend on order, so the digest is taken where the array lies, whole or in parts over devices and hosts, and every placement of
the same numbers has the same digest. A change of one word always shows: for a fixed position the hash is one-to-one. It
guards against damage, not against forgery.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree, UInt32

SEEDS = (0x243F6A88, 0x85A308D3)  # the first digits of pi


class Leaf(NamedTuple):
    """What must agree between a checkpoint and the state it is restored into; None is a digest not known."""

    shape: tuple
    dtype: str
    digest: str | None = None


def leaf_names(tree: PyTree) -> dict[str, Any]:
    """Path such as "params/conv/kernel" -> leaf, whatever containers the tree is made of."""
    flat = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in flat}


def described(tree: PyTree) -> dict[str, Leaf]:
    """The leaves of a tree of arrays or ShapeDtypeStructs, without digests."""
    return {name: Leaf(tuple(x.shape), str(x.dtype)) for name, x in leaf_names(tree).items()}


def digested(tree: PyTree) -> dict[str, Leaf]:
    """The leaves of a tree of arrays, with digests; on several hosts all of them call it."""
    sums = jax.device_get(jax.tree.map(_digest, leaf_names(tree)))  # all are started before one is waited for
    return {
        name: leaf._replace(digest=sums[name].astype(">u4").tobytes().hex())
        for name, leaf in described(tree).items()
    }


def first_difference(stored: Mapping[str, Leaf], wanted: Mapping[str, Leaf]) -> str | None:
    """The first leaf whose shape or dtype differs, in words, or None."""

    def words(leaf: Leaf | None) -> str:
        return "missing" if leaf is None else f"{leaf.dtype}{list(leaf.shape)}"

    for name in [*wanted, *stored]:
        if words(stored.get(name)) != words(wanted.get(name)):
            return f"{name} is {words(stored.get(name))} in the checkpoint, {words(wanted.get(name))} here"
    return None


@jax.jit
def _digest(x: Array) -> UInt32[Array, "2"]:
    words = _words(x)
    position, stride = jnp.zeros(words.shape, jnp.uint32), 1
    for axis in reversed(range(words.ndim)):
        index = jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis)
        position += index * np.uint32(stride % 2**32)
        stride *= words.shape[axis]
    sums = [_mixed(words ^ (position * np.uint32(0x9E3779B9) + np.uint32(seed))) for seed in SEEDS]
    return jnp.stack([total.sum(dtype=jnp.uint32) for total in sums])


def _words(x: Array) -> UInt32[Array, "..."]:
    """The bits of an array as 32-bit words; a word for every element that is shorter."""
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        x = jax.random.key_data(x)
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
        x = jnp.stack([x.real, x.imag], axis=-1)
    if x.dtype.itemsize >= 4:
        return jax.lax.bitcast_convert_type(x, jnp.uint32)
    if jnp.issubdtype(x.dtype, jnp.floating):
        x = jax.lax.bitcast_convert_type(x, jnp.dtype(f"uint{8 * x.dtype.itemsize}"))
    return x.astype(jnp.uint32)


def _mixed(h: UInt32[Array, "..."]) -> UInt32[Array, "..."]:
    """The finaliser of MurmurHash3: one-to-one, and every bit of h moves every bit of the result."""
    h = (h ^ (h >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    h = (h ^ (h >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return h ^ (h >> np.uint32(16))
