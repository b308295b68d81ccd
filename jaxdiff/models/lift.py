"""From batch-first modules to functions of one example.

f(x) = apply(variables, x[None])[0]; under `jax.vmap` the added axis disappears again, at no cost.
`variables` are closed over, not copied: build the function inside the jitted one that takes them as an
argument.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array

from jaxdiff import checks
from jaxdiff.types import Classifier, Features, Image, Logits, Net, PRNGKey, Time, Variables


def as_net(model: nn.Module, variables: Variables, **kwargs: Any) -> Net:
    """The function (x_t, t) -> output of one example; `kwargs` go to the module unchanged."""
    return partial(_net, *_network("as_net", model, variables), kwargs)


def as_classifier(model: nn.Module, variables: Variables, **kwargs: Any) -> Classifier:
    """The function (x, key) -> logits of one example in [0, 1]; a deterministic module ignores the key."""
    return LiftedClassifier(*_network("as_classifier", model, variables), kwargs)


def features(classifier: Any) -> Features:
    """The function x -> (features [d], logits) of a lifted classifier: what goes into its last dense layer, and what comes out.

    ValueError for a function that is no lifted network, or a network that has no dense layer.
    """
    if not hasattr(classifier, "features"):
        raise ValueError(
            f"features needs the classifier of a stage, or of as_classifier; got {classifier!r:.80}. Any function "
            "x -> (features, logits) does in its place."
        )
    return classifier.features


# At the top of the module, so that what is lifted can be pickled with its module and variables.
def _net(model: nn.Module, variables: Variables, options: Mapping[str, Any], x_t: Image, t: Time) -> Array:
    return model.apply(variables, _batch_of_one("A network", x_t), jnp.asarray(t)[None], **options)[0]


@dataclass(frozen=True, eq=False)
class LiftedClassifier:
    """A module and its variables as a classifier of one example."""

    model: nn.Module
    variables: Variables
    options: Mapping[str, Any]

    def __call__(self, x: Image, key: PRNGKey | None = None) -> Logits:
        """The logits."""
        del key
        return self.model.apply(self.variables, _batch_of_one("A classifier", x), **self.options)[0]

    def features(self, x: Image) -> tuple[Array, Logits]:
        """(what goes into the last dense layer, the logits)."""
        seen: list[Array] = []

        def watched(call: Callable, inputs: tuple, kwargs: dict, context: Any) -> Any:
            if isinstance(context.module, nn.Dense) and context.method_name == "__call__":
                seen.append(inputs[0])
            return call(*inputs, **kwargs)

        with nn.intercept_methods(watched):
            logits = self(x)
        if not seen:
            raise ValueError(f"{type(self.model).__name__} has no dense layer to take features from.")
        return seen[-1][0], logits


def _batch_of_one(who: str, x: Any) -> Array:
    return checks.floats(who, x)[None]


def _network(who: str, model: Any, variables: Any) -> tuple[nn.Module, Variables]:
    checks.instance(who, nn.Module, "CNN()", model=model)
    if not isinstance(variables, Mapping) or "params" not in variables:
        told = (
            f"keys {sorted(map(str, variables))[:3]}"
            if isinstance(variables, Mapping)
            else repr(variables)[:60]
        )
        raise ValueError(f"{who} needs variables as {{'params': ..., **model_state}}; got {told}.")
    return model, variables


def initialise(model: nn.Module, key: PRNGKey, *inputs: Array) -> tuple[Variables, Variables]:
    """(params, model_state) of `model` for batches like `inputs`; model_state holds all but the parameters.

    One jitted call. `model.apply({"params": params, **model_state}, ...)` takes them together again.
    """
    checks.instance("initialise", nn.Module, "CNN()", model=model)
    checks.key("initialise", key)
    variables = dict(jax.jit(lambda key, *inputs: model.init(key, *inputs))(key, *inputs))
    return variables.pop("params"), variables


def count(tree: Any) -> int:
    """The number of scalars in a pytree of arrays or shapes."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree))
