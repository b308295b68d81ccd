"""Cells and victims are checked before anything is trained, up to the trace of their attacks: hours later would be too late."""

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdiff.checks import logits_of, nearest
from jaxdiff.study.bound import arrays_of, made
from jaxdiff.study.parts import noted
from jaxdiff.study.table.attack import attack_function
from jaxdiff.study.table.cell import Cell, Curve
from jaxdiff.study.table.judge import judge_function
from jaxdiff.study.table.victim import Victim
from jaxdiff.types import Classifier

Places = list[tuple[str, str, Cell]]  # victim, column, cell


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
        (victim, cell.column or name, cell)
        for victim in victims
        for name, cell in cells.items()
        if cell.matches(victim)
    ]
    twice = [f"{v}/{c}" for i, (v, c, _) in enumerate(places) if (v, c) in [p[:2] for p in places[:i]]]
    if twice:
        raise ValueError(f"Several cells are {twice[0]!r}: say by `on` which victims each is for.")
    return places


def matching_places(who: str, patterns: Sequence[str], places: Places) -> Places:
    """The places whose "victim/column" fits a pattern, each once; ValueError for a pattern that fits none."""
    chosen: Places = []
    for pattern in patterns:
        found = [place for place in places if fnmatchcase("/".join(place[:2]), pattern)]
        if not found:
            known = ["/".join(place[:2]) for place in places]
            raise ValueError(f"{who} names {pattern!r}{nearest(pattern, known)} Known: {known}.")
        chosen += [place for place in found if place not in chosen]
    return chosen


def curve_places(name: str, curve: Curve, places: Places) -> Places:
    """The cells of a curve; ValueError for a pattern of none, a cell without a threat, or cells of several kinds of threats."""
    chosen = matching_places(f"The curve {name!r}", curve.cells, places)
    kinds = {}
    for victim, column, cell in chosen:
        if cell.threat is None:
            raise ValueError(
                f"The curve {name!r} has the cell '{victim}/{column}', which has no threat, so no radius."
            )
        kinds.setdefault(cell.limits().name, f"{victim}/{column}")
        for radius in curve.radii:
            with noted(f"in the curve {name!r}"):
                cell.limits(radius)
    if len(kinds) > 1:
        raise ValueError(
            f"The curve {name!r} has cells of several threats, whose radii differ in kind: {kinds}."
        )
    return chosen


def check_places(
    places: Places,
    victims: Mapping[str, Victim],
    shape: tuple[int, ...],
    classes: int,
) -> None:
    """ValueError, or the error of a part itself, with the cell or victim that it is about, unless all can be traced on images
    of this shape: every attack once, on a classifier that costs nothing, and every victim as every view of it.
    """
    seen, done = {}, []
    for victim, column, cell in places:
        with noted(f"in the cell {column!r} on {victim!r}"):
            view = cell.seen_as()
            if (victim, str(view)) not in seen:
                seen[victim, str(view)] = check_victim(victims[victim], view, shape, classes)
            if not any(cell is other for other in done):
                done.append(cell)
                check_cell(cell, victims[victim].random, shape, classes)


def check_victim(victim: Victim, view: Any, shape: tuple[int, ...], classes: int) -> None:
    """Traces a victim as an attacker sees it, and its gradient."""
    named = victim.products

    def slope(arrays, x, key):
        classifier = victim.seen(made(named, arrays), view)
        found = logits_of("A victim", classifier, x, key)
        if found != classes:
            raise ValueError(f"The classifier has {found} classes; the data has {classes}.")
        return jax.grad(lambda x: jnp.sum(classifier(x, key)))(x)

    image = jax.ShapeDtypeStruct(shape, jnp.float32)
    jax.eval_shape(slope, _shapes(arrays_of(named)), image, jax.random.key(0))


def check_cell(cell: Cell, random: bool, shape: tuple[int, ...], classes: int) -> None:
    """Builds a cell with its own numbers, and traces attack and judge."""
    named = cell.products
    attacks = cell.attacks(made(named, arrays_of(named)), classes)
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
    stand_in = _StandIn(classes, random or cell.judge is not None)
    attack = attack_function(stand_in, cell, named, classes, slots=1)
    judge = judge_function(stand_in, cell, named, len(attacks) > 1)

    def run(arguments, batch):
        return judge(arguments, {**batch, "adversarial": attack(arguments, batch)["adversarial"]})

    struct = jax.ShapeDtypeStruct
    arguments = {
        "arrays": _shapes(arrays_of(named)),
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


class _StandIn(NamedTuple):
    """A victim that costs nothing."""

    classes: int
    random: bool

    def parts(self, products: Mapping[str, Any]) -> tuple[Classifier, None]:
        return lambda x, key: jnp.mean(x) * jnp.arange(self.classes, dtype=jnp.float32), None

    def seen(self, products: Mapping[str, Any], view: Any = "exact") -> Classifier:
        return self.parts(products)[0]


def _shapes(arrays: Any) -> Any:
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), arrays)
