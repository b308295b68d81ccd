"""A state dict of ResNet-8 for 3 channels, by inverting the layout of random variables."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import models

NAMES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


def resnet8():
    """(variables, state dict)."""
    model = models.ResNetCIFAR(8)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    rng, variables, flat = np.random.default_rng(0), [], {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(shapes):
        *names, last = [p.key for p in path[1:]]
        variables.append(rng.uniform(0.1, 1, leaf.shape).astype(np.float32))
        key = ".".join([*(n.replace("_", ".") for n in names), NAMES[last]])
        flat[key] = variables[-1].T if leaf.ndim < 4 else variables[-1].transpose(3, 2, 0, 1)
    return jax.tree.unflatten(jax.tree.structure(shapes), variables), flat
