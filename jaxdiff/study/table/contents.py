"""What a table is of, checked before anything runs: victims, every one with its cells, curves, checks, reference values."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jaxdiff import checks as check
from jaxdiff.data.dataset import Dataset
from jaxdiff.study.parts import noted
from jaxdiff.study.table.cell import CLEAN, Cell, Curve, cell
from jaxdiff.study.table.check import checked, curve_places, matching_places, placed
from jaxdiff.study.table.examine import Check, matching
from jaxdiff.study.table.place import Places
from jaxdiff.study.table.victim import Victim

Reference = Mapping[str, Mapping[str, float]]


class Contents(NamedTuple):
    """What a table is of."""

    victims: Mapping[str, Victim]
    places: Places
    curves: Mapping[str, tuple[Curve, Places]]
    checks: Mapping[str, Check]
    minima: bool
    reference: Reference
    panel: tuple[tuple[str, str], ...]  # victim, column
    show: int


def contents(
    victims: Mapping[str, Any],
    cells: Mapping[str, Any],
    data: Dataset,
    curves: Mapping[str, Any] | None = None,
    checks: Mapping[str, Any] | None = None,
    minima: bool = False,
    reference: Mapping[str, Any] | None = None,
    panel: Sequence[str] = (),
    show: int = 8,
) -> Contents:
    """The contents of a table, with a column without an attack, traced on images of the data.

    ValueError for what can not be.
    """
    if not victims:
        raise ValueError("A table needs at least one victim, part(victim, classifier=...), by its name.")
    for kind, like, of in (
        (Victim, "part(victim, classifier='@plain')", victims),
        (Cell, "part(cell, attack=..., threat=...)", cells),
        (Curve, "part(curve, cells='*/pgd', radii=...)", curves or {}),
        (Check, "part(check, examine=...)", checks or {}),
    ):
        check.instance("A table", kind, like, **dict(of))
    check.count("A table", show=show)
    for victim, row in (reference or {}).items():
        check.instance("A table", Mapping, '{"none": {"pgd": 0.1}}', **{f"reference[{victim!r}]": row})
        check.number(f"The reference values of {victim!r}", "[0, 1]", **row)
    every = cells if any(c.attack is None for c in cells.values()) else {CLEAN: cell(), **cells}
    places = placed(victims, every)
    for place in places:
        n = place.cell.n
        if n is not None and n > len(data):
            raise ValueError(
                f"The cell {'/'.join(place.key)!r} has n = {n}; {data.name} has {len(data)} images."
            )
    places = checked(places, data.image_shape, data.num_classes)
    over = {name: (each, curve_places(name, each, places)) for name, each in (curves or {}).items()}
    for name, each in (checks or {}).items():
        with noted(f"in the check {name!r}"):
            matching(each, list(victims))
    drawn = tuple(
        place.key for pattern in panel for place in matching_places("The panel", (pattern,), places)
    )
    return Contents(victims, places, over, checks or {}, minima, reference or {}, drawn, show)
