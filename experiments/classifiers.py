"""Where a classifier comes from: (module, variables) of a converted, a trained or an untrained one, by a spec in a config."""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from common import check_fields, purpose
from ml_collections import ConfigDict
from train_classifier import train_classifier

import jaxdiff.models
from jaxdiff.build import build
from jaxdiff.models import convert, load_npz

__all__ = ["converted", "trained", "untrained"]


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
