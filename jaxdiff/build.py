"""From a config to a part: a name in a config is the name of a function in one module.

There is no registry: the module is the registry, and its `__all__` is the list of names.
"""

import inspect
from collections.abc import Iterable
from types import ModuleType
from typing import Any, Protocol, runtime_checkable

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
    """Calls `namespace.<spec["name"]>` with the rest of `spec` as arguments.

    `context` holds what a config cannot say (a process, a threat): each entry is passed if the function takes an
    argument of that name. Raises ValueError for an unknown name, an unknown or a missing argument; the message lists
    what exists.
    """
    where = namespace.__name__
    if "name" not in spec:
        raise ValueError(
            f"A part of {where} needs a 'name'; got {dict(spec.items())}. Known: {public_names(namespace)}."
        )
    name, names = spec["name"], public_names(namespace)
    if name not in names:
        raise ValueError(f"{where} has no {name!r}{nearest(str(name), names)} Known: {names}.")
    function = getattr(namespace, name)
    signature = inspect.signature(function)
    parameters = [p for p in signature.parameters if p not in ("parent", "self")]
    arguments = {k: v for k, v in spec.items() if k != "name"}
    unknown = sorted(set(arguments) - set(parameters))
    if unknown:
        raise ValueError(
            f"{where}.{name} has no argument {unknown[0]!r}{nearest(unknown[0], parameters)} "
            f"Its arguments: {', '.join(parameters)}."
        )
    arguments |= {k: v for k, v in context.items() if k in parameters and k not in arguments}
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise ValueError(f"{where}.{name}: {error}. Its arguments: {', '.join(parameters)}.") from error
    return function(**arguments)
