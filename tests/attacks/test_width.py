"""Pools have one width: an image falls, or stands, in the same way in any batch, order and company, bit by bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rows import slow_but

from jaxdiff.attacks import apgd, cross_entropy, linf, margin, square_linf, untargeted
from jaxdiff.attacks.cascade import in_order

WIDE = np.sin(np.arange(64.0 * 96.0)).reshape(64, 96).astype(np.float32) / 4
OUT = np.cos(np.arange(96.0 * 5.0)).reshape(96, 5).astype(np.float32) / 10
CLASSIFIER = lambda x, key: jnp.tanh(x.ravel() @ WIDE) @ OUT
X = np.random.default_rng(0).uniform(size=(13, 8, 8, 1)).astype(np.float32)
Y = np.argmax(np.tanh(X.reshape(13, 64) @ WIDE) @ OUT, axis=1).astype(np.int32)
KEYS = jax.random.split(jax.random.key(0), 13)
ORDER, SHUFFLED = np.arange(13), np.random.default_rng(1).permutation(13)
PARTS = {
    "one by one": [ORDER[:1], ORDER[1:2], ORDER[2:3]],
    "in two parts": [ORDER[:5], ORDER[5:]],
    "shuffled": [SHUFFLED],
}
ATTACKS = {
    "apgd": untargeted(apgd(linf(0.02), 6), cross_entropy()),
    "square": untargeted(square_linf(0.03, 8), margin()),
}


@pytest.fixture(scope="module")
def run():
    batched = in_order(ATTACKS, slots=3)
    return jax.jit(lambda x, y, keys: batched(CLASSIFIER, x, y, keys))


@pytest.mark.bits
@pytest.mark.parametrize("parts", slow_but(PARTS, "shuffled"))
def test_equal_bit_by_bit_in_any_company(run, parts):
    whole = run(X, Y, KEYS)
    assert whole.won.any() and whole.robust.any() and (np.asarray(whole.x) != X).any()
    found = [run(X[p], Y[p], KEYS[p]) for p in PARTS[parts]]
    rows = np.concatenate(PARTS[parts])
    joined = jax.tree.map(lambda *leaves: np.concatenate(leaves), *found)
    for ours, theirs in zip(joined, whole, strict=True):
        np.testing.assert_array_equal(ours, np.asarray(theirs)[rows])
