"""Where a classifier comes from: (module, variables) of a converted, a trained, a quickly fitted or an untrained one, by a
spec in a config.
"""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from common import check_fields, purpose
from ml_collections import ConfigDict
from train_classifier import train_classifier

import jaxdiff.models
from jaxdiff.build import build
from jaxdiff.data import dataset
from jaxdiff.models import convert, load_npz

__all__ = ["converted", "fitted", "trained", "untrained"]


def converted(model: Mapping, weights: str, converter: str, image_shape: tuple[int, ...]) -> tuple[Any, Any]:
    """A PyTorch state dict saved as npz; `weights` may contain environment variables, `converter` is in `models.convert`."""
    path = os.path.expandvars(weights)
    if unset := re.search(r"\$\{?(\w+)", path):
        raise ValueError(
            f"The weights {weights!r} need the environment variable {unset[1]}, which is not set."
        )
    module, convertible = build(jaxdiff.models, model), getattr(convert, converter, None)
    if convertible is None:
        raise ValueError(f"jaxdiff.models.convert has no {converter!r}; one is 'resnet_cifar_from_torch'.")
    variables = convertible(load_npz(path))
    expected = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, *image_shape)))
    shapes = lambda tree: jax.tree.map(jnp.shape, tree)  # noqa: E731
    if shapes(expected) != shapes(variables):
        raise ValueError(f"The weights {weights!r} do not belong to the model {dict(model)}.")
    return module, variables


def trained(workdir: str, section: str) -> tuple[Any, Any]:
    """The classifier of `section` in the workdir of another experiment; one that is not finished is trained on."""
    path = Path(workdir) / "config.json"
    if not path.is_file():
        raise ValueError(
            f"No experiment in {workdir!r}: train a classifier there first (experiments/train_classifier.py)."
        )
    config = ConfigDict(json.loads(path.read_text()))
    check_fields(config)
    if section not in config:
        raise ValueError(f"The experiment in {workdir!r} has no {section!r}; it has {sorted(config)}.")
    return build(jaxdiff.models, config[section].model), train_classifier(config, Path(workdir), section)


def untrained(model: Mapping, image_shape: tuple[int, ...], seed: int = 0) -> tuple[Any, Any]:
    """Random weights: for trying things out."""
    module = build(jaxdiff.models, model)
    key = purpose(jax.random.key(seed), "initialise")
    return module, jax.jit(module.init)(key, jnp.zeros((1, *image_shape)))


def fitted(
    model: Mapping,
    data: Mapping,
    image_shape: tuple[int, ...],
    steps: int = 100,
    batch_size: int = 64,
    lr: float = 1e-2,
    seed: int = 0,
) -> tuple[Any, Any]:
    """A few steps of Adam on the train split of `data`, in memory: right on some images, for trying things out in earnest.

    Only parameters are trained: batch statistics stay as they were initialised.
    """
    module, variables = untrained(model, image_shape, seed)
    train, tx = build(dataset, data, split="train"), optax.adam(lr)
    params = variables["params"]
    state, random = tx.init(params), np.random.RandomState(seed)

    def loss(params, image, label):
        logits = module.apply({**variables, "params": params}, image)
        return optax.softmax_cross_entropy_with_integer_labels(logits, label).mean()

    @jax.jit
    def step(params, state, image, label):
        updates, state = tx.update(jax.grad(loss)(params, image, label), state)
        return optax.apply_updates(params, updates), state

    for _ in range(steps):
        batch = train.fetch(random.randint(len(train), size=batch_size))
        params, state = step(params, state, batch["image"], batch["label"])
    return module, {**variables, "params": params}
