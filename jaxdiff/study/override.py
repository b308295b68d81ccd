"""Fields of a config set from a command line: `--config.stages.score.train.steps=500`.

A value is written as in Python (500, 1e-3, None, (0.9, 0.99)); a text needs no quotation marks. A part can be replaced whole,
by another with its arguments: `--config.stages.score.process=diffusion.linear(steps=100, beta_max=0.02)`. Whatever is set is
checked as when the config was written.
"""

import ast
from collections.abc import Iterable, Mapping
from typing import Any

from ml_collections import ConfigDict

from jaxdiff.checks import nearest
from jaxdiff.study.parts import completed, is_part


def overridden(config: ConfigDict, settings: Iterable[tuple[str, str]]) -> ConfigDict:
    """The config with fields set, {dotted path: text}, in their order; ValueError for a path or a value that can not be."""
    tree = completed(config)
    for path, text in settings:
        tree = with_value(tree, path, valued(text, field(tree, path)))
    return tree.lock()


def with_value(config: Any, path: str, value: Any) -> ConfigDict:
    """The config with one field set to a plain value, a part or a "@stage", checked by the function that it is for."""
    tree = completed(config)  # a copy that keeps the order of its fields
    *parents, last = path.split(".")
    inner = field(tree, ".".join(parents)) if parents else tree
    field(tree, path)
    with inner.ignore_type(), inner.unlocked():
        inner[last] = value
    try:
        return completed(tree)
    except ValueError as error:
        raise ValueError(f"config.{path}: {error}") from error


def field(config: Any, path: str) -> Any:
    """What stands at a dotted path; ValueError, with the nearest name, if there is no such field."""
    found, passed = config, "config"
    for name in path.split("."):
        known = list(found) if isinstance(found, Mapping | ConfigDict) else []
        if name not in known:
            raise ValueError(f"{passed} has no field {name!r}{nearest(name, known)} Its fields: {known}.")
        found, passed = found[name], f"{passed}.{name}"
    return found


def valued(text: str, now: Any) -> Any:
    """The value that a text stands for, where `now` stands."""
    if isinstance(now, str) and not _is_call(text):
        return _unquoted(text)
    try:
        return _value(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ValueError):
        if is_part(now) or isinstance(now, bool | int | float | tuple):
            if text.startswith("@"):
                return text
            raise ValueError(
                f"{text!r} is no value: write numbers, truths and tuples as in Python, a part as "
                "diffusion.linear(steps=100), the product of a stage as @score."
            ) from None
        return text


def _value(node: ast.expr) -> Any:
    """A literal, or a part written as a call with named arguments."""
    if isinstance(node, ast.Call):
        if node.args or any(keyword.arg is None for keyword in node.keywords):
            raise ValueError("A part has named arguments.")
        return {"name": ast.unparse(node.func), **{k.arg: _value(k.value) for k in node.keywords}}
    if isinstance(node, ast.Tuple | ast.List):
        return tuple(_value(each) for each in node.elts)
    if isinstance(node, ast.Dict):
        return {ast.literal_eval(k): _value(v) for k, v in zip(node.keys, node.values, strict=True)}
    if isinstance(node, ast.Name | ast.Attribute):  # a text without quotation marks
        return ast.unparse(node)
    return ast.literal_eval(node)


def _is_call(text: str) -> bool:
    try:
        return isinstance(ast.parse(text.strip(), mode="eval").body, ast.Call)
    except SyntaxError:
        return False


def _unquoted(text: str) -> str:
    try:
        value = ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text
    return value if isinstance(value, str) else text
