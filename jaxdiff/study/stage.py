"""Stages: the named parts of a study, what they need of each other, and a digest of all that their products depend on."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxdiff.checks import nearest
from jaxdiff.evaluate.fingerprints import fingerprint
from jaxdiff.study.parts import Sections, is_part, is_product, lasting, needs


class Stage(NamedTuple):
    """A part of a study; `digest` changes with anything that its product depends on, and with nothing else."""

    name: str
    spec: Any
    needs: tuple[str, ...]
    digest: str

    @property
    def folder(self) -> str:
        """Its folder's name within a workdir."""
        return f"{self.name}-{self.digest}"


def in_order(specs: Sections, common: Any = None) -> dict[str, Stage]:
    """The stages, those that others need first, otherwise as they come; `common` is what all of them depend on.

    A stage depends on its name (from which its random numbers come), its part but for what is `Aside`, the digests of what it
    needs, and `common`: data and seed. So the variants of a sweep share what they have in common. ValueError for a stage that
    is no part, that needs one that does not exist, or that needs itself in the end.
    """
    found: dict[str, Stage] = {}

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            circle = " -> ".join([*path[path.index(name) :], name])
            raise ValueError(f"Stages need each other in a circle: {circle}.")
        if name in found:
            return
        wanted = _needs(name, specs)
        for other in wanted:
            visit(other, (*path, name))
        digests = {other: found[other].digest for other in wanted}
        found[name] = Stage(
            name, specs[name], wanted, fingerprint(name, _resolved(lasting(specs[name]), digests), common)
        )

    for name in specs:
        visit(name, ())
    return found


def _needs(name: str, specs: Sections) -> tuple[str, ...]:
    spec = specs[name]
    if not is_part(spec):
        raise ValueError(f"The stage {name!r} is a part, part(function, ...); got {spec!r}.")
    for other in needs(spec):
        if other not in specs:
            raise ValueError(
                f"The stage {name!r} needs '@{other}'{nearest(other, specs)} The stages are {list(specs)}."
            )
    return needs(spec)


def _resolved(tree: Any, digests: Mapping[str, str]) -> Any:
    """The tree with a digest in place of every "@name"."""
    if is_product(tree):
        return {"@": digests[tree[1:]]}
    if isinstance(tree, list | tuple):
        return [_resolved(value, digests) for value in tree]
    if hasattr(tree, "items"):
        return {name: _resolved(value, digests) for name, value in tree.items()}
    return tree
