"""Digests: the formula word by word, every flipped bit, and what only bits tell apart."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.train import digest
from jaxdiff.train.digest import Leaf, digested

pytestmark = pytest.mark.usefixtures("x64")


@pytest.fixture(params=["by the host", "where it lies"])
def place(request, monkeypatch):
    monkeypatch.setattr(digest, "SMALL", 2**16 if request.param == "by the host" else -1)


def by_hand(words):
    """Two sums of MurmurHash3's finaliser over (position, word), in Python's integers."""
    text, cut = "", 2**32
    for seed in (0x243F6A88, 0x85A308D3):
        total = 0
        for position, word in enumerate(words):
            h = int(word) ^ ((position * 0x9E3779B9 + seed) % cut)
            h = (h ^ (h >> 16)) * 0x85EBCA6B % cut
            h = (h ^ (h >> 13)) * 0xC2B2AE35 % cut
            total += h ^ (h >> 16)
        text += f"{total % cut:08x}"
    return text


@pytest.mark.parametrize(
    "x",
    [
        np.arange(24, dtype=np.float32).reshape(2, 3, 4) - 7.5,
        np.linspace(-1.0, 1.0, 6).reshape(3, 2),
        np.array(-5, np.int32),
        np.array([1, -2, 2**40]),
        np.array([1.5 + 2j, -3j], np.complex64),
    ],
)
def test_the_digest_is_the_sum_of_hashes(place, x):
    words = np.ascontiguousarray(x).view(np.uint32).ravel()
    assert digested({"a": jnp.asarray(x)})["a"] == Leaf(x.shape, str(x.dtype), by_hand(words))


def test_short_elements_are_a_word_each(place):
    small = {
        "bf16": jnp.array([1.0, -2.0, 0.5], jnp.bfloat16),
        "f16": jnp.array([1.0, -2.0], jnp.float16),
        "u8": jnp.array([0, 255], jnp.uint8),
        "bool": jnp.array([True, False, True]),
    }
    words = {"bf16": [0x3F80, 0xC000, 0x3F00], "f16": [0x3C00, 0xC000], "u8": [0, 255], "bool": [1, 0, 1]}
    assert {k: leaf.digest for k, leaf in digested(small).items()} == {
        k: by_hand(w) for k, w in words.items()
    }


def test_every_flipped_bit_shows():
    x = np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32)
    digests = set()
    for bit in range(-1, 8 * x.nbytes):
        data = bytearray(x.tobytes())
        if bit >= 0:
            data[bit // 8] ^= 1 << bit % 8
        digests.add(digested(jnp.asarray(np.frombuffer(data, np.float32).reshape(x.shape)))[""].digest)
    assert len(digests) == 8 * x.nbytes + 1


def test_order_and_the_bits_of_equal_numbers_count():
    def of(*values):
        return digested(jnp.array(values, jnp.float32))[""].digest

    assert of(1.0, 2.0) != of(2.0, 1.0)
    assert of(0.0, 1.0) != of(-0.0, 1.0)
    assert of(jnp.nan) == of(jnp.nan)
    zeros = {n: digested(jnp.zeros(n, jnp.float32))[""].digest for n in (1, 2, 3)}
    assert len(set(zeros.values())) == 3


def test_keys_have_digests(place, key):
    one, other = (digested(k)[""].digest for k in jax.random.split(key))
    assert one != other == by_hand(np.asarray(jax.random.key_data(jax.random.split(key)[1])))
