"""Random numbers for classifiers of tests."""

import jax
import jax.numpy as jnp


def luck(key):
    """A number in [0, 1) from the bits of a key: much less to compile than a drawn one."""
    return (jax.random.key_data(key)[-1] >> 8).astype(jnp.float32) / 2**24
