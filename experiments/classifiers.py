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
from common import check_fields
from ml_collections import ConfigDict
from train_classifier import train_classifier

import jaxdiff.models
from jaxdiff import checks
from jaxdiff.build import build
from jaxdiff.data import dataset
from jaxdiff.keys import purpose
from jaxdiff.models import convert, load_npz

__all__ = ["converted", "fitted", "trained", "untrained"]


def converted(model: Mapping, weights: str, converter: str, image_shape: tuple[int, ...]) -> tuple[Any, Any]:
    """A PyTorch state dict saved as npz; `weights` may contain environment variables, `converter` is in `models.convert`."""
    checks.instance("converted", str, "'$JAXDIFF_WEIGHTS_DIR/resnet20.npz'", weights=weights)
    converters = [n for n in dir(convert) if n.endswith("_from_torch")]
    checks.known("converted", converters, converter=converter)
    path = os.path.expandvars(weights)
    if unset := re.search(r"\$\{?(\w+)", path):
        raise ValueError(
            f"The weights {weights!r} need the environment variable {unset[1]}, which is not set."
        )
    module = build(jaxdiff.models, model)
    variables = getattr(convert, converter)(load_npz(path))
    expected = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, *image_shape)))
    shapes = lambda tree: jax.tree.map(jnp.shape, tree)
    if shapes(expected) != shapes(variables):
        raise ValueError(f"The weights {weights!r} do not belong to the model {dict(model)}.")
    return module, variables


def trained(workdir: str, section: str) -> tuple[Any, Any]:
    """The classifier of `section` in the workdir of another experiment; one that is not finished is trained on."""
    checks.instance("trained", (str, Path), "'runs/digits'", workdir=workdir)
    if not str(workdir):
        raise ValueError("trained needs the workdir of an experiment; got ''.")
    workdir = Path(workdir).expanduser()
    path = workdir / "config.json"
    if not path.is_file():
        raise ValueError(
            f"No experiment in {str(workdir)!r}: train a classifier there first (experiments/train_classifier.py)."
        )
    try:
        config = ConfigDict(json.loads(path.read_text()))
    except ValueError as error:
        raise ValueError(f"{path} is unreadable ({error}); restore it, or choose another workdir.") from error
    check_fields(config)
    if section not in config:
        raise ValueError(f"The experiment in {str(workdir)!r} has no {section!r}; it has {sorted(config)}.")
    return build(jaxdiff.models, config[section].model), train_classifier(config, workdir, section)


def untrained(model: Mapping, image_shape: tuple[int, ...], seed: int = 0) -> tuple[Any, Any]:
    """Random weights: for trying things out."""
    checks.count("untrained", 0, 2**63 - 1, seed=seed)
    module = build(jaxdiff.models, model)
    key = purpose(jax.random.key(seed), "initialise")
    return module, jax.jit(module.init)(key, jnp.zeros((1, *image_shape)))


def fitted(
    model: Mapping,
    data: Mapping,
    image_shape: tuple[int, ...],
    steps: int = 100,
    batch_size: int = 64,
    lr: float | int = 1e-2,
    seed: int = 0,
) -> tuple[Any, Any]:
    """A few steps of Adam on the train split of `data`, in memory: right on some images, for trying things out in earnest.

    Only parameters are trained: batch statistics stay as they were initialised.
    """
    checks.count("fitted", steps=steps, batch_size=batch_size)
    checks.number("fitted", "(0, inf)", lr=lr)
    checks.count("fitted", 0, 2**32 - 1, seed=seed)
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
