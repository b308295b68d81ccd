"""Random variables and jitted calls, for the tests of the models."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np


def randomised(model, *inputs):
    """Random variables of `model` that leave no branch at zero, no scale and no variance near it."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), *inputs)
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        centre = {"scale": 1.0, "var": 1.0}.get(path[-1].key, 0.0)
        fan_in = leaf.size / leaf.shape[-1]
        return jnp.asarray(centre + rng.uniform(-0.7, 0.7, leaf.shape) / fan_in**0.5, leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def apply(model, variables, *inputs, **options):
    """`model.apply` under jit: one compilation instead of one for each operation."""
    return jax.jit(partial(model.apply, **options))(variables, *inputs)
