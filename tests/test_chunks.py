"""Chunks of one width: equal bit by bit for any batch and order, where a plain batch is not; every size, empty ones too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.chunks import in_chunks, size

WIDE = jnp.sin(jnp.arange(64.0 * 96.0)).reshape(64, 96)
BATCH = {
    "x": np.random.default_rng(0).normal(size=(23, 64)).astype(np.float32),
    "i": np.arange(23, dtype=np.int32),
}


def climb(batch):
    """Gradients through wide products, which XLA sums in another order for another shape of batch."""
    height = lambda x: jnp.sum(jnp.tanh(x @ WIDE) ** 2)
    return {"x": jax.grad(height)(batch["x"]), "i": batch["i"] + 1}


def joined(run, parts):
    results = [jax.device_get(run(jax.tree.map(lambda a: a[p], BATCH))) for p in parts]
    return jax.tree.map(lambda *a: np.concatenate(a), *results)


ORDER = np.arange(23)
SHUFFLED = np.random.default_rng(1).permutation(23)
PARTS = {
    "one by one": np.split(ORDER, 23),
    "fives": np.array_split(ORDER, 5),
    "shuffled": [SHUFFLED],
    "shuffled halves": np.array_split(SHUFFLED, 2),
}


@pytest.fixture(scope="module")
def chunked():
    return jax.jit(in_chunks(climb, 4))


@pytest.mark.bits
@pytest.mark.parametrize("parts", PARTS)
def test_equal_bit_by_bit_whatever_the_company(chunked, parts):
    whole, found = joined(chunked, [ORDER]), joined(chunked, PARTS[parts])
    rows = np.concatenate(PARTS[parts])
    np.testing.assert_array_equal(found["x"], whole["x"][rows])
    np.testing.assert_array_equal(found["i"], rows + 1)


def test_the_function_itself_is_not(chunked):
    """Else the test above proves nothing; the values are those of the function, up to rounding."""
    plain = jax.jit(climb)
    whole = joined(plain, [ORDER])["x"]
    assert (joined(plain, PARTS["one by one"])["x"] != whole).any()
    np.testing.assert_allclose(joined(chunked, [ORDER])["x"], whole, rtol=1e-4, atol=1e-4)


def test_an_empty_batch_gives_empty_results(chunked):
    found = joined(chunked, [ORDER[:0]])
    assert found["x"].shape == (0, 64) and found["i"].shape == (0,) and found["i"].dtype == BATCH["i"].dtype


def test_bad_arguments():
    with pytest.raises(ValueError, match="width as a whole number >= 1; got 0"):
        in_chunks(climb, 0)
    with pytest.raises(ValueError, match="one first axis"):
        size({"x": jnp.ones((3, 2)), "y": jnp.ones(2)})
    with pytest.raises(ValueError, match="one first axis"):
        size({"x": jnp.ones(3), "y": 1.0})
