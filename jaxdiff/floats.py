"""In what floats things are computed: in float32 at least, whatever the dtype of the images."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, DTypeLike


def wide(x: Array) -> Array:
    """x in float32, or wider if it is."""
    return x.astype(wide_dtype(x.dtype))


def wide_dtype(dtype: DTypeLike) -> np.dtype:
    """float32, or the dtype if it is wider."""
    return jnp.promote_types(dtype, jnp.float32)
