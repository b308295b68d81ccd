"""Parts of a config: functions by the names of where they live, with the arguments that a config can say.

A config is plain values, and three rules read all of it:

    a dict with "name" is a part: the function of that name, called with the rest, which is built first;       (1)
    a string "@score" is the product of the stage of that name;                                               (2)
    anything else is a value.                                                                                 (3)

There is no schema: a signature is the schema. What a config cannot say, such as the threat of a cell, is passed down as context
to every part that has a parameter of that name and does not set it; a product with `offers`, names and values such as the
process of a score network, offers them to the whole part that it is named in.

Two annotations say more of a parameter. `Aside[int]`: a product does not depend on it (how often something is logged).
`Later`: the function is given its part unbuilt, to build it with more context, or with the arrays of a jit.
"""

import inspect
import types
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from ml_collections import ConfigDict, config_dict

from jaxdiff.build import expected, fits
from jaxdiff.checks import nearest
from jaxdiff.study.bound import Bound
from jaxdiff.study.names import function_of, name_of

Sections = Mapping[str, Any] | ConfigDict  # which is no Mapping

NO_ARGUMENTS = ("self", "parent", "name")  # the latter two of Flax modules

T = TypeVar("T")
ASIDE = "aside"
Aside = Annotated[T, ASIDE]


@dataclass(frozen=True, eq=False)
class Later:
    """A part that is not built yet, or parts by their names, as a function of more context and of the arrays of the products
    that it names: these are arguments of a jit, never constants of it.
    """

    spec: Any
    products: Mapping[str, Any]
    context: Mapping[str, Any]

    def __call__(self, arrays: Mapping[str, Any] | None = None, /, **context: Any) -> Any:
        """What it stands for; `arrays`, by stages, take the place of those of its products."""
        given = self.arrays if arrays is None else {**self.arrays, **arrays}
        made = {name: product.make(given[name]) for name, product in self._bound().items()}
        return build(self.spec, {**self.products, **made}, **{**self.context, **context})

    @property
    def arrays(self) -> dict[str, Any]:
        """The arrays of the products that it names, by their stages."""
        return {name: product.arrays for name, product in self._bound().items()}

    @property
    def needs(self) -> tuple[str, ...]:
        """The stages whose products it names."""
        return needs(self.spec)

    def replaced(self, spec: Any) -> "Later":
        """Another part in its place, with the same products and context."""
        return replace(self, spec=spec)

    def _bound(self) -> dict[str, Bound]:
        named = {name: self.products[name] for name in self.needs}
        return {name: product for name, product in named.items() if isinstance(product, Bound)}


def part(function: Any, /, **arguments: Any) -> ConfigDict:
    """The part that calls `function` with `arguments`: parts, "@stages" or plain values, checked at once against its signature.

    It holds the defaults of the function too, so that a config says all that its numbers depend on and every field can be
    overridden: one that is None takes the type of its annotation. ValueError for a function without a name of its own, an
    argument that it does not have, or a value of another type.
    """
    return completed({"name": name_of(function), **arguments})


def completed(spec: Any) -> Any:
    """The tree with all its parts as `part` makes them: checked, with their defaults, mappings in the order they came in."""
    if is_part(spec):
        return _complete(spec)
    if _is_mapping(spec):
        tree = ConfigDict(sort_keys=False)
        for name, value in spec.items():
            tree[name] = completed(value)
        return tree
    return tuple(map(completed, spec)) if isinstance(spec, list | tuple) else spec


def build(tree: Any, products: Mapping[str, Any] | None = None, **context: Any) -> Any:
    """What a tree of a config stands for, by rules (1) to (3); sequences are tuples, which can be hashed.

    `products` are those of stages by their names. ValueError, with what there is, for a name or an argument that does not
    exist; an error of a function itself is its own, with a note of the part that it was called for.
    """
    products = {} if products is None else products
    if is_part(tree):
        return _call(tree, products, context)
    if _is_mapping(tree):
        return {name: build(value, products, **context) for name, value in tree.items()}
    if isinstance(tree, list | tuple):
        return tuple(build(value, products, **context) for value in tree)
    if not is_product(tree):
        return tree
    if tree[1:] not in products:
        raise ValueError(
            f"There is no product {tree!r}{nearest(tree[1:], products)} Known: {sorted(products)}."
        )
    return products[tree[1:]]


def needs(tree: Any) -> tuple[str, ...]:
    """The stages whose products a tree names, once each, in order."""
    if is_product(tree):
        return (tree[1:],)
    inner = tree.values() if _is_mapping(tree) else tree if isinstance(tree, list | tuple) else ()
    return tuple(dict.fromkeys(name for value in inner for name in needs(value)))


def asked(tree: Any) -> tuple[str, ...]:
    """Of these stages those whose products are given to a function as they are, and not to a part that is built later."""
    if is_product(tree):
        return (tree[1:],)
    if is_part(tree):
        parameters = _parameters(tree["name"])
        inner = [
            v for n, v in tree.items() if n != "name" and Later not in _alternatives(parameters[n].annotation)
        ]
    else:
        inner = tree.values() if _is_mapping(tree) else tree if isinstance(tree, list | tuple) else ()
    return tuple(dict.fromkeys(name for value in inner for name in asked(value)))


def takes(tree: Any, name: str) -> bool:
    """Whether a part of a tree has a parameter of this name that it leaves to the context."""
    if is_part(tree) and name in _parameters(tree["name"]) and tree.get(name) is None:
        return True
    inner = tree.values() if _is_mapping(tree) else tree if isinstance(tree, list | tuple) else ()
    return any(takes(value, name) for value in inner)


def lasting(tree: Any) -> Any:
    """The tree without the fields that no product depends on."""
    if isinstance(tree, list | tuple):
        return [lasting(value) for value in tree]
    if not _is_mapping(tree):
        return tree
    aside = _aside(tree["name"]) if is_part(tree) else ()
    return {name: lasting(value) for name, value in tree.items() if name not in aside}


def is_part(value: Any) -> bool:
    """Rule (1)."""
    return _is_mapping(value) and "name" in value


def is_product(value: Any) -> bool:
    """Rule (2)."""
    return isinstance(value, str) and value.startswith("@")


def _complete(spec: Any) -> ConfigDict:
    """A part, checked, with the defaults of its function after what it sets."""
    parameters = _parameters(spec["name"])
    _check_arguments(spec, parameters)
    tree = ConfigDict({"name": spec["name"]}, sort_keys=False)
    for name, value in spec.items():
        if name != "name":
            _set(tree, name, completed(value), parameters[name])
    for name, parameter in parameters.items():
        if name not in tree and _is_plain(parameter.default):
            _set(tree, name, parameter.default, parameter)
    return tree


def _set(tree: ConfigDict, name: str, value: Any, parameter: inspect.Parameter) -> None:
    """Sets a field so that it can be overridden by what its annotation allows: ConfigDict keeps the type of a first value."""
    kinds = _alternatives(parameter.annotation)
    if value is None:
        plain = [kind for kind in (str, tuple, float, int, bool) if kind in kinds]
        number = float in plain and not {str, tuple} & set(plain)
        tree[name] = config_dict.placeholder(float if number else plain[0] if len(plain) == 1 else object)
    elif float in kinds and isinstance(value, int) and not isinstance(value, bool):
        either = {*kinds} - {type(None)} == {float, int}  # a share or a number of images, say
        tree[name] = config_dict.FieldReference(value, field_type=object) if either else float(value)
    else:
        tree[name] = value


def _call(spec: Any, products: Mapping[str, Any], context: Mapping[str, Any]) -> Any:
    parameters = _parameters(spec["name"])
    _check_arguments(spec, parameters)
    context = {**context, **_offers(spec, products)}
    given = {name: value for name, value in spec.items() if name != "name"}
    arguments = {
        name: Later(value, products, context)
        if value is not None and Later in _alternatives(parameters[name].annotation)
        else build(value, products, **context)
        for name, value in given.items()
    }
    offered = {name: value for name, value in context.items() if name in parameters}
    arguments |= {name: value for name, value in offered.items() if arguments.get(name) is None}
    missing = [n for n, p in parameters.items() if p.default is p.empty and n not in arguments]
    if missing:
        raise ValueError(f"{spec['name']} needs {missing[0]!r}; its arguments are: {', '.join(parameters)}.")
    with noted(f"in the part {spec['name']!r}"):
        return function_of(spec["name"])(**arguments)


def _offers(spec: Any, products: Mapping[str, Any]) -> dict[str, Any]:
    named = [products[name] for name in needs(spec) if name in products]
    return {name: value for product in named for name, value in getattr(product, "offers", {}).items()}


def _check_arguments(spec: Any, parameters: Mapping[str, inspect.Parameter]) -> None:
    """ValueError for an argument that the function does not have, or whose plain value is of no type that it takes."""
    for name, value in spec.items():
        if name == "name":
            continue
        if name not in parameters:
            raise ValueError(
                f"{spec['name']} has no argument {name!r}{nearest(str(name), parameters)} "
                f"Its arguments: {', '.join(parameters)}."
            )
        if callable(value) and not _is_mapping(value):
            raise ValueError(
                f"{spec['name']} is given a function as {name}; a config holds plain values: write part({name_of(value)})."
            )
        annotation = parameters[name].annotation
        judged = not (is_product(value) or _is_mapping(value) or _holds_parts(value))
        if judged and not fits(_frozen(value), annotation):
            wanted = "a part" if Later in _alternatives(annotation) else expected(annotation)
            raise ValueError(f"{spec['name']} needs {name} as {wanted}; got {value!r}.")


def _parameters(name: Any) -> dict[str, inspect.Parameter]:
    """The arguments that a config can give to a function; a `**` of it takes none."""
    return {n: p.replace(annotation=_bare(p.annotation)) for n, p in _signature(name).items()}


def _aside(name: Any) -> list[str]:
    """The arguments of a function that its product does not depend on."""
    return [n for n, p in _signature(name).items() if ASIDE in getattr(p.annotation, "__metadata__", ())]


def _signature(name: Any) -> dict[str, inspect.Parameter]:
    found = inspect.signature(function_of(name), eval_str=True).parameters
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {n: p for n, p in found.items() if n not in NO_ARGUMENTS and p.kind in kinds}


def _bare(annotation: Any) -> Any:
    return annotation.__origin__ if ASIDE in getattr(annotation, "__metadata__", ()) else annotation


def _alternatives(annotation: Any) -> list[Any]:
    if get_origin(annotation) in (Union, types.UnionType):
        return [kind for each in get_args(annotation) for kind in _alternatives(each)]
    return [get_origin(annotation) or annotation]


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def _is_mapping(value: Any) -> bool:
    return isinstance(value, Mapping | ConfigDict)


def _holds_parts(value: Any) -> bool:
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and any(is_product(v) or _is_mapping(v) or _holds_parts(v) for v in value)
    )


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


@contextmanager
def noted(note: str) -> Iterator[None]:
    """Adds a note to an error of what is done inside."""
    try:
        yield
    except Exception as error:
        error.add_note(note)
        raise
