"""The parts of a config are made, and its networks traced on an image of its data, before anything is trained or written."""

import inspect
import math
import numbers
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp

import jaxdiff.attacks
import jaxdiff.models
from jaxdiff.attacks import ascent, objectives, threat
from jaxdiff.build import build
from jaxdiff.data import augment, dataset
from jaxdiff.data.dataset import Dataset
from jaxdiff.defenses import diffpure, training
from jaxdiff.diffusion import denoiser, grids, losses, prior, process, sample, solvers
from jaxdiff.train import optimizer

TRAINED = ("score", "classifier", "adversarial_training")


def check_parts(config: Mapping) -> None:
    """ValueError, with the field that it is about, unless every part of a config (plain dicts) can be made for its data."""
    data = made(config, "data", dataset, split="test")
    noise = {"process": made(config, "score.process", process)} if "score" in config else {}
    for section in filter(config.__contains__, TRAINED):
        _check_trained(config, section, data)
    if noise:
        for name in ("weight", "time"):
            made(config, f"score.{name}", losses)
        for path in ("score.sample", "robustness.purify"):
            if path == "score.sample" or "purify" in config.get("robustness", {}):
                _check_solved(config, path, noise["process"], data.image_shape)
    if "attack" in config.get("adversarial_training", {}):
        limits = made(config, "adversarial_training.attack.threat", threat)
        made(config, "adversarial_training.attack.ascent", ascent, threat=limits)
        made(config, "adversarial_training.attack.objective", objectives)
    for name in ("threat", "objective") if "robustness" in config else ():
        made(config, f"robustness.{name}", jaxdiff.attacks)


def _check_solved(config: Mapping, path: str, noise: Any, shape: tuple[int, ...]) -> None:
    """ValueError unless solver, grid and the kind of prediction go together, traced on one image."""
    solver, ts = (
        made(config, f"{path}.{name}", kinds, process=noise)
        for name, kinds in (("solver", solvers), ("grid", grids))
    )
    section, name = path.split(".")
    spec = config[section][name]
    with about(f"config.{path}"):
        denoise = denoiser(noise, config["score"]["kind"], lambda x, t: jnp.zeros_like(x), clip=spec["clip"])
        if section == "score":
            run = lambda x, key: sample(solver, denoise, prior(noise, ts, shape, key), ts, key)
        else:
            run = diffpure(noise, solver, denoise, ts, spec["remat"], spec.get("surrogate_steps"))
        jax.eval_shape(run, jax.ShapeDtypeStruct(shape, jnp.float32), jax.random.key(0))


def _check_trained(config: Mapping, section: str, data: Dataset) -> None:
    spec = config[section]
    made(config, f"{section}.optimizer", optimizer, total=spec["train"]["steps"])
    for i, each in enumerate(spec["augment"]):
        made({"augment": each}, "augment", augment, where=f"config.{section}.augment[{i}]")
    if "loss" in spec:
        attack = (lambda classifier, x, y, key: x) if "attack" in spec else None
        made(config, f"{section}.loss", training, attack=attack)
    score = section == "score"
    out = traced(
        f"config.{section}.model",
        made(config, f"{section}.model", jaxdiff.models),
        (1, *data.image_shape),
        *([(1,)] if score else []),
    )
    wanted = data.image_shape if score else (data.num_classes,)
    if out != (1, *wanted):
        raise ValueError(
            f"config.{section}.model has the output {list(out[1:])}; for {data.name} it is {list(wanted)}."
        )


def check_n(section: str, n: int, data: Dataset) -> None:
    """ValueError unless the data has n images to attack."""
    if not 1 <= n <= len(data):
        raise ValueError(f"config.{section}.n is between 1 and the {len(data)} test images; got {n}.")


def made(config: Mapping, path: str, namespace: ModuleType, where: str = "", **context: Any) -> Any:
    """The part at a path; ValueError, with the path, if it can not be."""
    spec, where = config, where or f"config.{path}"
    for name in path.split("."):
        spec = spec[name]
    check_arguments(where, namespace, spec)
    with about(where):
        return build(namespace, spec, **context)


def traced(where: str, model: Any, *shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a network's output for inputs of these shapes, without computing it."""
    inputs = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    with about(where):
        return jax.eval_shape(
            lambda key, *x: model.init_with_output(key, *x)[0], jax.random.key(0), *inputs
        ).shape


@contextmanager
def about(where: str) -> Iterator[None]:
    """What goes wrong inside is a ValueError that says where."""
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as error:  # of a library too, from a value that it knows nothing to do with
        raise ValueError(f"{where}: {error}") from error


def check_arguments(where: str, namespace: ModuleType, spec: Mapping) -> None:
    """ValueError unless the arguments that a part gives are of the kinds that its function says; numbers are finite."""
    function = getattr(namespace, str(spec.get("name")), None)
    if function is None or spec["name"] not in namespace.__all__:
        return  # `build` knows what there is
    parameters = inspect.signature(function).parameters
    for name, value in spec.items():
        if name == "name" or name not in parameters:
            continue
        kinds = _kinds(parameters[name].annotation)
        if float in kinds:  # where a number is wanted, True is none, though arrays and JAX would take it
            kinds = [kind for kind in kinds if kind in (float, str, type(None))]
        if not any(_fits(kind, value) for kind in kinds):
            words = " or ".join(dict.fromkeys(_in_words(kind) for kind in kinds))
            raise ValueError(f"{where} needs {name} as {words}; got {value!r}.")


def _kinds(annotation: Any) -> Iterable[Any]:
    """The alternatives of an annotation."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return [kind for each in typing.get_args(annotation) for kind in _kinds(each)]
    return [annotation]


def _fits(kind: Any, value: Any) -> bool:
    """Whether a plain value is of a kind; what a config can not say fits everything but None."""
    if kind in (Any, inspect.Parameter.empty):
        return True
    if kind in WORDS:
        return WORDS[kind][1](value)
    origin, kinds = typing.get_origin(kind), typing.get_args(kind)
    if origin in (tuple, Sequence):
        parts = [k for k in kinds if k is not ...]
        return isinstance(value, list | tuple) and all(
            any(_fits(k, v) for p in parts for k in _kinds(p)) for v in value
        )
    return (isinstance(kind, type) and isinstance(value, kind)) or isinstance(value, Mapping)


def _in_words(kind: Any) -> str:
    if kind in WORDS:
        return WORDS[kind][0]
    inner = [WORDS[k][0].removeprefix("a ") for k in typing.get_args(kind) if k in WORDS]
    return f"a list, of each {inner[0]}" if inner else getattr(kind, "__name__", str(kind))


def _whole(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _finite(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)


WORDS = {
    int: ("a whole number", _whole),
    float: ("a finite number", _finite),
    bool: ("True or False", lambda value: isinstance(value, bool)),
    str: ("a name", lambda value: isinstance(value, str)),
    type(None): ("None", lambda value: value is None),
}
