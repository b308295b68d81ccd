"""From a config to a part: a name in a config is the name of a function in one module.

There is no registry: the module is the registry, its `__all__` is the list of names, and a signature is the schema.
"""

import inspect
import numbers
import os
import types
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any, Protocol, Union, get_args, get_origin, runtime_checkable

import numpy as np

from jaxdiff.checks import nearest


@runtime_checkable
class Spec(Protocol):
    """A part in a config, {"name": ..., argument: value, ...}: a dict, or a ConfigDict, which is no Mapping."""

    def __contains__(self, name: Any) -> bool: ...

    def __getitem__(self, name: str) -> Any: ...

    def items(self) -> Iterable[tuple[str, Any]]:
        """Names and values."""


def public_names(namespace: ModuleType) -> list[str]:
    """Names a config may use from `namespace`, sorted."""
    return sorted(n for n in namespace.__all__ if callable(getattr(namespace, n)))


def build(namespace: ModuleType, spec: Spec, **context: Any) -> Any:
    """Calls `namespace.<spec["name"]>` with the rest of `spec` as arguments; lists become tuples, which can be hashed.

    `context` holds what a config cannot say (a process, a threat): each entry is passed if the function takes an
    argument of that name. Raises ValueError for a spec that is no dict, an unknown name, an unknown or a missing argument,
    and a value that is not of the type its annotation says; the message lists what exists.
    """
    name = _name(namespace, spec)
    where, function = f"{namespace.__name__}.{name}", getattr(namespace, name)
    signature = inspect.signature(function)
    parameters = [p for p in signature.parameters if p not in ("parent", "self")]
    arguments = {k: _frozen(v) for k, v in spec.items() if k != "name"}
    unknown = sorted(set(arguments) - set(parameters), key=str)
    if unknown:
        raise ValueError(
            f"{where} has no argument {unknown[0]!r}{nearest(str(unknown[0]), parameters)} "
            f"Its arguments: {', '.join(parameters)}."
        )
    for k, v in arguments.items():
        wanted = signature.parameters[k].annotation
        if not fits(v, wanted):
            raise ValueError(f"{where} needs {k} as {expected(wanted)}; got {v!r}.")
    arguments |= {k: v for k, v in context.items() if k in parameters and k not in arguments}
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise ValueError(f"{where}: {error}. Its arguments: {', '.join(parameters)}.") from error
    return function(**arguments)


def fits(value: Any, annotation: Any) -> bool:
    """Whether `value` can be of the type `annotation`; only plain data of a config are judged, all else fits.

    An integer fits a float, a tuple a sequence or an array; truth values are no numbers.
    """
    origin, inner = get_origin(annotation), get_args(annotation)
    if not _is_plain(value) or annotation in (inspect.Parameter.empty, Any, object):
        return True
    if origin in (Union, types.UnionType):
        return any(fits(value, member) for member in inner if not (member is bool and float in inner))
    kind = origin or annotation
    if value is None or kind in (None, types.NoneType):
        return value is None and kind in (None, types.NoneType)
    if not isinstance(kind, type):
        return True
    if isinstance(value, str):
        return kind is str or issubclass(kind, os.PathLike)
    if kind is int:
        return isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if _is_array(kind) or _is_number(kind):
        plain = numbers.Real | tuple if _is_array(kind) else numbers.Real
        return isinstance(value, plain) and not isinstance(value, bool)
    if issubclass(kind, Mapping):
        return isinstance(value, Spec)
    if isinstance(value, tuple) and issubclass(kind, Iterable):
        return all(fits(v, inner[0] if inner else Any) for v in value)
    try:
        return isinstance(value, kind)
    except TypeError:  # a protocol that cannot be asked
        return True


def _name(namespace: ModuleType, spec: Any) -> str:
    """The name of a part, which exists; or ValueError."""
    where, names = namespace.__name__, public_names(namespace)
    if not isinstance(spec, Spec):
        raise ValueError(
            f"A part of {where} is a dict {{'name': ..., argument: value}}; got {spec!r}. Known names: {names}."
        )
    if "name" not in spec:
        raise ValueError(f"A part of {where} needs a 'name'; got {dict(spec.items())}. Known: {names}.")
    name = spec["name"]
    if not isinstance(name, str) or name not in names:
        raise ValueError(f"{where} has no {name!r}{nearest(str(name), names)} Known: {names}.")
    return name


def _is_plain(value: Any) -> bool:
    """Data as a file can hold; a named tuple is none."""
    return value is None or type(value) is tuple or isinstance(value, str | numbers.Number | Spec)


def _is_array(kind: type) -> bool:
    return hasattr(kind, "array_type") or kind is np.ndarray  # the former is of jaxtyping


def _is_number(kind: type) -> bool:
    return kind in (float, complex) or kind.__module__ == "numpy"


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if type(value) in (list, tuple) else value


def expected(annotation: Any) -> str:
    """A type in words."""
    origin, inner = get_origin(annotation), get_args(annotation)
    plain = {
        int: "a whole number",
        str: "a string",
        bool: "True or False",
        None: "None",
        types.NoneType: "None",
    }
    if origin in (Union, types.UnionType):
        told = dict.fromkeys(expected(member) for member in inner)
        narrower = ("a whole number", "True or False", "an array") if "a number" in told else ()
        return " or ".join(t for t in told if t not in narrower)
    if origin is not None and issubclass(origin, Mapping):
        return "a dict"
    if origin is not None:
        return f"a sequence, each {expected(inner[0])}" if issubclass(origin, Iterable) else "a function"
    if annotation in plain:
        return plain[annotation]
    if not isinstance(annotation, type):
        return str(annotation)
    if _is_array(annotation):
        return "an array"
    return "a number" if _is_number(annotation) else f"a {annotation.__name__}"
