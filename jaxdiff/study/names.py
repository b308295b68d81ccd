"""Names of functions: where they live. "attacks.pgd" is one of jaxdiff, "my_package.module.function" one of anybody.

There is no registry: the `__all__` of a module lists what there is.
"""

import importlib
import pkgutil
import sys
import types
from collections.abc import Callable
from typing import Any

from jaxdiff.checks import nearest

HOME = "jaxdiff"


def name_of(function: Any) -> str:
    """The name by which a config finds a function; ValueError if there is none."""
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    if not callable(function) or not module or "<" in name or module == "__main__":
        raise ValueError(
            f"A part needs a function that can be imported by its name; got {function!r}. Define it at the top of a module."
        )
    inside = module.split(".")
    if inside[0] == HOME:  # the shortest public name is the one that people write
        for depth in range(2, len(inside)):
            package = importlib.import_module(".".join(inside[:depth]))
            if getattr(package, name, None) is function:
                return ".".join([*inside[1:depth], name])
            if getattr(package, inside[-1], None) is sys.modules[module]:
                return ".".join([*inside[1:depth], inside[-1], name])
        module = ".".join(inside[1:])
    return f"{module}.{name}"


def function_of(name: Any) -> Callable:
    """The function of a name; ValueError, with the nearest and all that there are, if there is none."""
    if not isinstance(name, str) or "." not in name:
        raise ValueError(
            f"The name of a part is where its function lives, 'module.function' in jaxdiff or "
            f"'my_package.module.function' elsewhere; got {name!r}."
        )
    module, _, last = name.rpartition(".")
    found = _module(module)
    value = getattr(found, last, None)
    if not callable(value):
        names = [n for n in getattr(found, "__all__", dir(found)) if callable(getattr(found, n, None))]
        names = [n for n in names if not n.startswith("_")]
        raise ValueError(f"{module} has no {last!r}{nearest(last, names)} Known: {sorted(names)}.")
    return value


def _module(name: str) -> types.ModuleType:
    """A module of jaxdiff, or else of anybody, where it lies or where a package shows it; an error inside of it is its own."""
    for path in (f"{HOME}.{name}", name):
        try:
            return importlib.import_module(path)
        except ModuleNotFoundError as error:
            if not error.name or not (path == error.name or path.startswith(error.name + ".")):
                raise
            package, _, last = path.rpartition(".")
            shown = getattr(sys.modules.get(package), last, None)
            if isinstance(shown, types.ModuleType):
                return shown
    ours = [module.name for module in pkgutil.iter_modules(importlib.import_module(HOME).__path__)]
    raise ValueError(
        f"There is no module {name!r}{nearest(name, ours)} It is neither in jaxdiff nor elsewhere: is it installed, or its "
        "folder in PYTHONPATH?"
    )
