"""Cells: how victims are attacked and judged. A column of a table is a cell, or several on different victims."""

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from jaxtyping import ScalarLike

from jaxdiff import checks
from jaxdiff.attacks import Threat, l2
from jaxdiff.study.parts import Later, is_part
from jaxdiff.types import Attack, Image, Scalar

CLEAN = "standard"  # the column without an attack


class Cell(NamedTuple):
    """How: an attack within a threat, on what of its victim an attacker differentiates (`view`), and who judges; which images;
    on which victims; under the head of which column.
    """

    attack: Later | None
    threat: Later | None
    view: Later | str
    judge: Later | None
    n: int | None
    on: tuple[str, ...]
    column: str
    stop: bool | None

    @property
    def arrays(self) -> dict[str, Any]:
        """The arrays of the products that its attack names, by their stages."""
        return self.attack.arrays if self.attack else {}

    @property
    def needs(self) -> tuple[str, ...]:
        """The stages whose products its attack names."""
        return self.attack.needs if self.attack else ()

    @property
    def spec(self) -> dict[str, Any]:
        """All that its outcomes depend on, but for the victim."""
        said = {name: getattr(getattr(self, name), "spec", None) for name in ("attack", "threat", "judge")}
        view = self.view.spec if isinstance(self.view, Later) else self.view
        return said | {"view": view, "stop": self.stop}

    def seen_as(self) -> Any:
        """The name of its view, or the function."""
        return self.view() if isinstance(self.view, Later) else self.view

    def limits(self, radius: ScalarLike | None = None) -> Threat | None:
        """The threat, at another radius if one is given."""
        if self.threat is None:
            return None
        spec = self.threat.spec if radius is None else with_radius(self.threat.spec, radius)
        return self.threat.replaced(spec)()

    def attacks(
        self, arrays: Mapping[str, Any], classes: int, radius: ScalarLike | None = None
    ) -> dict[str, Attack]:
        """Its attacks by their names: of an ensemble several, of one attack that under the name ""; none without an attack."""
        if self.attack is None:
            return {}
        limits = self.limits(radius)
        attack = self.attack(arrays, classes=classes, **_facts(limits, self))
        return dict(attack) if isinstance(attack, Mapping) else {"": attack}

    def matches(self, victim: str) -> bool:
        """Whether it is made on the victim of this name."""
        return any(fnmatchcase(victim, pattern) for pattern in self.on)


def cell(
    attack: Later | None = None,
    threat: Later | None = None,
    view: Later | str = "exact",
    judge: Later | None = None,
    n: int | None = None,
    on: str | Sequence[str] = "*",
    column: str = "",
    stop: bool | None = None,
) -> Cell:
    """A cell of a table.

    `attack` is given the `threat`, and its radius and norm, wherever it takes them: an attack, or an ensemble such as
    `autoattack.standard`; without one images are left alone. `view` names what an attacker differentiates behind a defense
    (see `attackers_view`), or is a function (classifier, defense) -> classifier. `judge` is a protocol, by default one draw.
    The first `n` images are attacked, by default all of the table. `on` are patterns of victims, `column` the head under which
    it stands, by default the cell's name. `stop` says whether an image is done at the first victory: by default yes, unless the
    victim is random or the attack looks for the least norm. ValueError for a count or names that can not be.
    """
    if n is not None:
        checks.count("cell", n=n)
    patterns = (on,) if isinstance(on, str) else tuple(on)
    if not patterns or not all(isinstance(pattern, str) and pattern for pattern in patterns):
        raise ValueError(
            f"cell needs on as a pattern of victims, such as 'diffpure*', or several; got {on!r}."
        )
    return Cell(attack, threat, view, judge, n, patterns, column, stop)


class Curve(NamedTuple):
    """Cells over the radius: `cells` are patterns of "victim/column"."""

    cells: tuple[str, ...]
    radii: tuple[float, ...]
    n: int | None


def curve(cells: str | Sequence[str], radii: Sequence[float], n: int | None = None) -> Curve:
    """Some cells of one threat at several radii, on the first `n` images; `cells` are patterns of "victim/column"."""
    if n is not None:
        checks.count("curve", n=n)
    if not len(radii):
        raise ValueError("curve needs at least one radius.")
    checks.number("curve", "[0, inf)", **{f"radii[{i}]": radius for i, radius in enumerate(radii)})
    return Curve((cells,) if isinstance(cells, str) else tuple(cells), tuple(map(float, radii)), n)


def with_radius(spec: Any, radius: ScalarLike) -> Any:
    """The part of a threat with another radius, also that of a threat inside of it."""
    if not is_part(spec):
        return spec
    return {name: radius if name == "radius" else with_radius(value, radius) for name, value in spec.items()}


def distance(limits: Threat | None) -> Callable[[Image], Scalar]:
    """The norm in which what an attack has added to an image is measured: the threat's, or L2 if that is not of pixels."""
    return limits.measure if limits is not None and limits.measure is not None else l2(1.0).norm


def _facts(limits: Threat | None, cell: Cell) -> dict[str, Any]:
    """What attacks are told of the threat."""
    if limits is None:
        return {}
    return {"threat": limits, "radius": limits.radius, "norm": limits.name, "ball": cell.limits}
