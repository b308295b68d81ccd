"""Cells and victims are checked before anything is trained, up to the trace of their attacks: hours later would be too late."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import jax
import jax.numpy as jnp

from jaxdiff.checks import logits_of, nearest
from jaxdiff.study.bound import shapes
from jaxdiff.study.parts import Later, noted
from jaxdiff.study.table.attack import attack_function
from jaxdiff.study.table.cell import Cell, Curve
from jaxdiff.study.table.judge import judge_function
from jaxdiff.study.table.place import Place, Places
from jaxdiff.study.table.victim import Victim


def placed(victims: Mapping[str, Victim], cells: Mapping[str, Cell]) -> Places:
    """Every victim with every cell that is for it, in the order of the table.

    ValueError for names that are no words joined by single dashes, a cell that is for no victim, or two of a victim under the
    head of one column.
    """
    for name in [*victims, *cells, *(cell.column for cell in cells.values() if cell.column)]:
        if not re.fullmatch(r"[\w.+]+(-[\w.+]+)*", name):
            raise ValueError(
                f"Names of victims, cells and columns are words joined by single dashes; got {name!r}."
            )
    for name, cell in cells.items():
        if not any(cell.matches(victim) for victim in victims):
            raise ValueError(
                f"The cell {name!r} is on {', '.join(map(repr, cell.on))}{nearest(cell.on[0], victims)} "
                f"The victims are {list(victims)}."
            )
    places = [
        Place(victim, cell.column or name, victims[victim], cell)
        for victim in victims
        for name, cell in cells.items()
        if cell.matches(victim)
    ]
    for key, several in Counter(place.key for place in places).items():
        if several > 1:
            raise ValueError(f"Several cells are {'/'.join(key)!r}: say by `on` which victims each is for.")
    return places


def matching_places(who: str, patterns: Sequence[str], places: Places) -> Places:
    """The places whose "victim/column" fits a pattern, each once; ValueError for a pattern that fits none."""
    chosen: Places = []
    for pattern in patterns:
        found = [place for place in places if fnmatchcase("/".join(place.key), pattern)]
        if not found:
            known = ["/".join(place.key) for place in places]
            raise ValueError(f"{who} names {pattern!r}{nearest(pattern, known)} Known: {known}.")
        chosen += [place for place in found if place not in chosen]
    return chosen


def curve_places(name: str, curve: Curve, places: Places) -> Places:
    """The cells of a curve; ValueError for a pattern of none, a cell without a threat, or cells of several kinds of threats."""
    chosen = matching_places(f"The curve {name!r}", curve.cells, places)
    kinds = {}
    for place in chosen:
        where, cell = "/".join(place.key), place.cell
        if cell.threat is None:
            raise ValueError(f"The curve {name!r} has the cell {where!r}, which has no threat, so no radius.")
        kinds.setdefault(cell.limits().name, where)
        for radius in curve.radii:
            with noted(f"in the curve {name!r}"):
                cell.limits(radius)
    if len(kinds) > 1:
        raise ValueError(
            f"The curve {name!r} has cells of several threats, whose radii differ in kind: {kinds}."
        )
    return chosen


def checked(places: Places, shape: tuple[int, ...], classes: int) -> Places:
    """The places, with the names of their attacks.

    ValueError, or the error of a part itself, with the cell or victim that it is about, unless all can be traced on images
    of this shape: every attack once, on a classifier that costs nothing, and every victim as every view of it.
    """
    found, views, attacks = [], set(), {}
    for place in places:
        name, victim, cell = place.name, place.victim, place.cell
        with noted(f"in the cell {place.column!r} on {name!r}"):
            view = cell.seen_as()
            if (name, view) not in views:
                check_victim(victim, view, shape, classes)
                views.add((name, view))
            if id(cell) not in attacks:
                attacks[id(cell)] = check_attacks(cell, classes)
                check_cell(cell, attacks[id(cell)], victim.random, shape, classes)
        found.append(place._replace(attacks=attacks[id(cell)]))
    return found


def check_victim(victim: Victim, view: Any, shape: tuple[int, ...], classes: int) -> None:
    """Traces a victim as an attacker sees it, and its gradient."""

    def slope(arrays, x, key):
        classifier = victim.seen(arrays, view)
        found = logits_of("A victim", classifier, x, key)
        if found != classes:
            raise ValueError(f"The classifier has {found} classes; the data has {classes}.")
        return jax.grad(lambda x: jnp.sum(classifier(x, key)))(x)

    image = jax.ShapeDtypeStruct(shape, jnp.float32)
    jax.eval_shape(slope, shapes(victim.arrays), image, jax.random.key(0))


def check_attacks(cell: Cell, classes: int) -> tuple[str, ...]:
    """The names of the attacks of a cell; ValueError for one that no cell can have."""
    attacks = cell.attacks({}, classes)
    for attack in attacks.values():
        if getattr(attack, "least_norm", False) and cell.threat is None:
            raise ValueError(
                "This attack looks for the least perturbation, however large: without a threat any victory would count."
            )
        if getattr(attack, "targeted", False):
            raise ValueError(
                "A targeted attack aims at the label that it is given, and a cell gives the true one. Towards other classes: "
                "part(attacks.multi_targeted, ascent=..., objective=part(attacks.targeted_dlr), n=...)."
            )
    return tuple(attacks)


def check_cell(
    cell: Cell, attacks: tuple[str, ...], random: bool, shape: tuple[int, ...], classes: int
) -> None:
    """Traces attack and judge of a cell; the views of a victim are traced with it."""
    stand_in = _stand_in(classes, random or cell.judge is not None)
    place = Place("stand-in", "", stand_in, cell._replace(view="exact"), attacks)
    attack, judge = attack_function(place, classes, slots=1), judge_function(place)

    def run(arguments, batch):
        return judge(arguments, batch | {"adversarial": attack(arguments, batch)["adversarial"]})

    struct = jax.ShapeDtypeStruct
    arguments = {
        "arrays": shapes(cell.arrays),
        "key": jax.random.key(0),
        "radius": struct((), jnp.float32),
    }
    batch = {
        "image": struct((1, *shape), jnp.float32),
        "label": struct((1,), jnp.int32),
        "id": struct((1,), jnp.int32),
        "real": struct((1,), bool),
    }
    jax.eval_shape(run, arguments, batch)


def _stand_in(classes: int, random: bool) -> Victim:
    """A victim that costs nothing."""
    classifier = lambda x, key: jnp.mean(x) * jnp.arange(classes, dtype=jnp.float32)
    return Victim(Later("@stand-in", {"stand-in": classifier}, {}), None, random)
