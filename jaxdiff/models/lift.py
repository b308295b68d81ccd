"""From batch-first modules to functions of one example.

f(x) = apply(variables, x[None])[0]; under `jax.vmap` the added axis disappears again, at no cost.
`variables` are closed over, not copied: build the function inside the jitted one that takes them as an
argument.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array

from jaxdiff.types import Classifier, Image, Logits, Net, PRNGKey, Time, Variables


def as_net(model: nn.Module, variables: Variables, **kwargs: Any) -> Net:
    """The function (x_t, t) -> output of one example; `kwargs` go to the module unchanged."""

    def net(x_t: Image, t: Time) -> Image:
        return model.apply(variables, x_t[None], jnp.asarray(t)[None], **kwargs)[0]

    return net


def as_classifier(model: nn.Module, variables: Variables, **kwargs: Any) -> Classifier:
    """The function (x, key) -> logits of one example in [0, 1]; a deterministic module ignores the key."""

    def classify(x: Image, key: PRNGKey | None = None) -> Logits:
        del key
        return model.apply(variables, x[None], **kwargs)[0]

    return classify


def initialise(model: nn.Module, key: PRNGKey, *inputs: Array) -> tuple[Variables, Variables]:
    """(params, model_state) of `model` for batches like `inputs`; model_state holds all but the parameters.

    One jitted call. `model.apply({"params": params, **model_state}, ...)` takes them together again.
    """
    variables = dict(jax.jit(lambda key, *inputs: model.init(key, *inputs))(key, *inputs))
    return variables.pop("params"), variables


def count(tree: Any) -> int:
    """The number of scalars in a pytree of arrays or shapes."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree))
