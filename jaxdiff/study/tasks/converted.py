"""The stages of networks that others have trained: weights of PyTorch in an npz file."""

import hashlib
import inspect
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from jaxdiff import checks
from jaxdiff.data.dataset import Dataset
from jaxdiff.diffusion import Kind, Process
from jaxdiff.diffusion.prediction import row_of
from jaxdiff.models import load_weights
from jaxdiff.study.names import function_of
from jaxdiff.study.networks import (
    bound_classifier,
    bound_score,
    check_output,
    check_score,
    example_inputs,
    shapes_of,
    shown_by,
)
from jaxdiff.study.parts import Later
from jaxdiff.study.study import Plan


def converted(
    data: Callable[[str], Dataset], model: Any, weights: str, converter: str, sha256: str = ""
) -> Plan:
    """A classifier with the weights of a file, which may contain environment variables: "$JAXDIFF_WEIGHTS_DIR/resnet20.npz".

    `converter` is the name of a function (arrays) -> variables, such as "models.resnet_cifar_from_torch"; `sha256`, if it is
    given, the first digits of the sum of the file. ValueError if the weights are not those of the model, or of other classes.
    """
    dataset = data("test")
    inputs = example_inputs(dataset.image_shape, times=False)
    shapes = check_output("The classifier", model, inputs, (dataset.num_classes,))
    variables = _converted(model, weights, converter, sha256, shapes)
    product = bound_classifier(model, variables)
    return Plan(product, lambda run: product)


def feature_network(
    data: Callable[[str], Dataset], model: Any, weights: str, converter: str, sha256: str = ""
) -> Plan:
    """A classifier of whatever classes with the weights of a file, for part(models.features, classifier="@..."): that of FID is
    model=part(models.InceptionV3), converter="models.inception_from_torch". Everything else is as in `converted`.
    """
    inputs = example_inputs(data("train").image_shape, times=False)
    variables = _converted(model, weights, converter, sha256, shapes_of(model, inputs))
    product = bound_classifier(model, variables)
    return Plan(product, lambda run: product)


def converted_score(
    data: Callable[[str], Dataset],
    model: Any,
    process: Process,
    kind: Kind,
    label: Later,
    weights: str,
    converter: str,
    sha256: str = "",
) -> Plan:
    """A score network with the weights of a file; `converter` is a function (arrays, model) -> variables, such as
    "models.unet_from_diffusers". Everything else is as in `converted` and `score`.
    """
    row_of(kind)
    shown_by(label, process)
    dataset = data("train")
    inputs = example_inputs(dataset.image_shape, times=True)
    shapes, learned = check_score(model, inputs)
    variables = _converted(model, weights, converter, sha256, shapes)
    product = bound_score(model, process, kind, label, learned, variables)
    return Plan(product, lambda run: product)


def weights_path(weights: str) -> Path:
    """The file that is meant; ValueError if an environment variable in it is not set, or there is no such file."""
    checks.instance("converted", str, "'$JAXDIFF_WEIGHTS_DIR/resnet20.npz'", weights=weights)
    path = os.path.expandvars(weights)
    if unset := re.search(r"\$\{?(\w+)", path):
        raise ValueError(
            f"The weights {weights!r} need the environment variable {unset[1]}, which is not set."
        )
    if not Path(path).is_file():
        raise ValueError(f"There are no weights at {path!r} ({weights!r}).")
    return Path(path).expanduser()


def _converted(model: Any, weights: str, converter: str, sha256: str, shapes: Any) -> Any:
    path, convert = weights_path(weights), function_of(converter)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if not found.startswith(sha256):
        raise ValueError(
            f"The weights {weights!r} have the SHA-256 {found[:16]}..., not {sha256}: another file."
        )
    takes_model = len(_positional(convert)) > 1
    variables = convert(load_weights(path), model) if takes_model else convert(load_weights(path))
    of = lambda tree: jax.tree.map(lambda a: tuple(a.shape), dict(tree))
    if of(shapes) != of(variables):
        raise ValueError(f"The weights {weights!r} do not belong to the model {model!r:.200}.")
    return variables


def _positional(function: Callable) -> list[str]:
    parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
