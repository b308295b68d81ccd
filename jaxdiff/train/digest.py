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

SMALL = 2**16  # elements
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
    # The sums of large leaves are all started before one is waited for.
    sums = jax.device_get(jax.tree.map(_digest, leaf_names(tree)))
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


def _digest(x: Array | np.ndarray | np.generic) -> Array | np.ndarray:
    """[2] uint32. What is small is summed by the host, which needs no compilation; the rest where it lies."""
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        x = jax.random.key_data(x)
    here = not isinstance(x, jax.Array) or x.is_fully_addressable or x.is_fully_replicated
    return _by_host(np.asarray(x)) if here and x.size <= SMALL else _in_place(x)


def _by_host(x: np.ndarray) -> np.ndarray:
    words = np.ascontiguousarray(x).reshape(-1)
    if x.dtype.itemsize >= 4:
        words = words.view(np.uint32)
    elif jnp.issubdtype(x.dtype, jnp.floating):
        words = words.view(f"uint{8 * x.dtype.itemsize}")
    return np.stack(_sums(words.astype(np.uint32), np.arange(len(words), dtype=np.uint32)))


@jax.jit
def _in_place(x: Array) -> UInt32[Array, "2"]:
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
        x = jnp.stack([x.real, x.imag], axis=-1)
    if x.dtype.itemsize >= 4:
        x = jax.lax.bitcast_convert_type(x, jnp.uint32)
    elif jnp.issubdtype(x.dtype, jnp.floating):
        x = jax.lax.bitcast_convert_type(x, jnp.dtype(f"uint{8 * x.dtype.itemsize}"))
    position, stride = jnp.zeros(x.shape, jnp.uint32), 1
    for axis in reversed(range(x.ndim)):  # no reshape, which would move the parts of an array between devices
        position += jax.lax.broadcasted_iota(jnp.uint32, x.shape, axis) * np.uint32(stride % 2**32)
        stride *= x.shape[axis]
    return jnp.stack(_sums(x.astype(jnp.uint32), position))


def _sums(words: Any, position: Any) -> list:
    """For each seed the sum, modulo 2^32, of MurmurHash3's finaliser of (position, word)."""

    def mixed(seed: int) -> Any:
        h = words ^ (position * np.uint32(0x9E3779B9) + np.uint32(seed))
        h = (h ^ (h >> np.uint32(16))) * np.uint32(0x85EBCA6B)
        h = (h ^ (h >> np.uint32(13))) * np.uint32(0xC2B2AE35)
        return h ^ (h >> np.uint32(16))

    return [mixed(seed).sum(dtype=np.uint32) for seed in SEEDS]
