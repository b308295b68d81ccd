"""The table of a study without a study: anybody's classifiers, images in memory, attacks, and a folder."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import checks as check
from jaxdiff.data.dataset import Dataset
from jaxdiff.data.records import from_arrays
from jaxdiff.evaluate import fingerprint
from jaxdiff.keys import purpose
from jaxdiff.study.bound import Bound
from jaxdiff.study.claim import claimed
from jaxdiff.study.parts import Later, build, completed
from jaxdiff.study.table.contents import contents
from jaxdiff.study.table.make import CELLS, make_table
from jaxdiff.study.table.run import Setting, drawn_ids, rounded, width
from jaxdiff.study.table.victim import Victim
from jaxdiff.types import Classifier

Model = Callable[[Any, Any], Any]


def robustness(
    models: Mapping[str, Any],
    images: Any,
    labels: Any,
    cells: Mapping[str, Any],
    folder: str | Path,
    *,
    label_names: Sequence[str] | None = None,
    batched: bool = True,
    random: bool = False,
    n: int | None = None,
    seed: int = 0,
    batch_size: int = 128,
    slots: int | None = None,
    curves: Mapping[str, Any] | None = None,
    checks: Mapping[str, Any] | None = None,
    reference: Mapping[str, Any] | None = None,
    minima: bool = False,
    show: int = 8,
) -> list[dict[str, Any]]:
    """Attacks models and writes report, tables (Markdown, LaTeX, CSV) and figures into `folder`; returns the records.

    `models` {name: (function, parameters)}: function(parameters, images [B, H, W, C]) -> logits [B, classes], or of one image
    where they are not `batched`; `random` ones draw numbers of their own. `images` are floats in [0, 1], `labels` integers,
    numpy or JAX. `cells` are parts, {"pgd": part(tasks.cell, attack=..., threat=...)}; everything else is as in `tasks.table`.
    Every outcome lies in a ledger: a run that was killed goes on, and nothing is attacked twice. Parameters are told apart by
    their values, functions by their names alone: another function needs another name or folder. ValueError for what can not be.
    """
    images, labels = np.asarray(_images(images)), np.asarray(_labels(labels, len(images)))
    classes = _classes(models, images, batched)
    names = tuple(label_names or map(str, range(classes)))
    data = Dataset("images", "test", images.shape[1:], names, len(images), from_arrays(images, labels), None)
    victims = {
        name: Victim(Later(f"@{name}", {name: Bound(_made(function, batched), params)}, {}), None, random)
        for name, (function, params) in models.items()
    }
    parts = [build(completed(dict(tree or {}))) for tree in (cells, curves, checks)]
    told = contents(victims, parts[0], data, parts[1], parts[2], minima, reference, (), show)
    key, workdir = purpose(jax.random.key(seed), "robustness"), Path(folder).expanduser()
    facts = fingerprint(images, labels, seed)
    ids = drawn_ids(data, len(data) if n is None else n, seed)
    setting = Setting(data, ids, key, rounded(batch_size), width(slots, batch_size), workdir / CELLS, facts)
    config = {"cells": completed(dict(cells)), "models": list(models), "n": len(ids)}
    with claimed(workdir, {"made by": "jaxdiff.study.robustness", "of": list(models)}):
        return make_table(told, setting, workdir, {}, (), config, seed)


def _made(function: Model, batched: bool) -> Callable[[Any], Classifier]:
    if batched:
        return lambda params: lambda x, key: function(params, x[None])[0]
    return lambda params: lambda x, key: function(params, x)


def _images(images: Any) -> Any:
    images = check.images("robustness", images)
    if images.ndim != 4:
        raise ValueError(f"robustness needs images [B, height, width, channels]; got {images.shape}.")
    return images.astype(jnp.float32)


def _labels(labels: Any, batch: int) -> Any:
    return check.labels("robustness", labels, batch)


def _classes(models: Mapping[str, Any], images: np.ndarray, batched: bool) -> int:
    check.instance("robustness", Mapping, '{"mine": (function, params)}', models=models)
    found = {}
    for name, model in models.items():
        if not (isinstance(model, tuple) and len(model) == 2 and callable(model[0])):
            raise ValueError(
                f"robustness needs models as {{name: (function, parameters)}}; {name!r} is {model!r:.60}."
            )
        classifier = _made(model[0], batched)(model[1])
        image = jax.ShapeDtypeStruct(images.shape[1:], jnp.float32)
        found[name] = check.logits_of(f"The model {name!r}", classifier, image, jax.random.key(0))
    if len(set(found.values())) != 1:
        raise ValueError(f"robustness needs models of the same classes; got {found}.")
    return next(iter(found.values()))
