"""Attacks as cells of a config: which parts of `jaxdiff.attacks` make one, and how it is built at a radius."""

from collections.abc import Callable, Mapping
from typing import Any

from common import check_known
from jaxtyping import Array

import jaxdiff.attacks
from jaxdiff.attacks import (
    Stepwise,
    autoattack,
    averaged,
    directions,
    eot_logits,
    l2,
    low_frequency,
    multi_targeted,
    restarts,
    untargeted,
)
from jaxdiff.build import build
from jaxdiff.types import Attack

CELL = {
    "threat", "low_frequency", "ascent", "attack", "autoattack", "objective", "targets", "restarts",
    "gradient", "eot", "draws", "stop", "judge", "n",
}  # fmt: skip
Cell = Mapping[str, Any]


def check_cell(where: str, cell: Cell) -> None:
    """ValueError unless a cell says one attack in known fields."""
    check_known(where, cell, CELL)
    kinds = [kind for kind in ("ascent", "attack", "autoattack") if kind in cell]
    if len(kinds) > 1:
        raise ValueError(f"{where} names one of ascent, attack and autoattack; got {kinds}.")
    if "ascent" in cell and "objective" not in cell:
        raise ValueError(f"{where} has an ascent, which needs an objective; got {sorted(cell)}.")
    if "autoattack" in cell and "threat" not in cell:
        raise ValueError(
            f"{where} has an autoattack, which needs a threat (linf, l2 or l1); got {sorted(cell)}."
        )


def build_attack(cell: Cell, radius: Any) -> Attack:
    """The attack of a cell at a radius; step lengths scale with it. A cell without an attack leaves images alone.

    `ascent` climbs `objective` (or, with `targets`, a targeted objective towards each of so many classes in turn);
    `attack` is any other attack of `jaxdiff.attacks`. For random classifiers `draws` averages gradients, `eot` logits.
    """
    threat = cell.get("threat")
    ball = lambda radius: build(jaxdiff.attacks, {**threat, "radius": radius})  # noqa: E731
    limits = ball(radius) if threat else None
    if "low_frequency" in cell:
        limits = low_frequency(limits, cell["low_frequency"])
    context = {"threat": limits, "radius": radius, "ball": ball}
    if "attack" in cell:
        attack = build(jaxdiff.attacks, cell["attack"], **context)
    elif "ascent" in cell:
        spec = cell["ascent"]
        spec = {**spec, "lr": spec["lr"] * radius / threat["radius"]} if "lr" in spec else spec
        if "tx" in spec:
            spec = {**spec, "tx": build(directions, spec["tx"], threat=limits)}
        climb = build(jaxdiff.attacks, spec, **context)
        if cell.get("draws", 1) > 1:
            climb = averaged(climb, cell["draws"])
        objective = build(jaxdiff.attacks, cell["objective"])
        targets = cell.get("targets")
        attack = multi_targeted(climb, objective, targets) if targets else untargeted(climb, objective)
    else:
        attack = lambda classifier, x, y, key: x  # noqa: E731
    if cell.get("eot", 1) > 1:
        attack = against_mean_logits(attack, cell["eot"])
    n = cell.get("restarts", 1)
    return restarts(attack, n, build(jaxdiff.attacks, cell["objective"])) if n > 1 else attack


def against_mean_logits(attack: Attack, n: int) -> Attack:
    """The attack on the classifier whose logits are the mean over n draws."""
    mean = lambda problem: (eot_logits(problem[0], n), *problem[1:])  # noqa: E731
    if isinstance(attack, Stepwise):
        return attack.on(mean)
    return lambda *problem: attack(*mean(problem))


def stages_of(cell: Cell, classes: int) -> dict[str, Callable[[Any], Attack]]:
    """{name: radius -> attack} of a cell: one, or those of an AutoAttack in their order."""
    if "autoattack" not in cell:
        return {"": lambda radius: build_attack(cell, radius)}
    norm = cell["threat"]["name"]
    ensemble = lambda radius: build(autoattack, cell["autoattack"], norm=norm, radius=radius, classes=classes)  # noqa: E731
    return {
        name: (lambda radius, name=name: ensemble(radius)[name])
        for name in ensemble(cell["threat"]["radius"])
    }


def norm_of(cell: Cell) -> Callable[[Array], Array]:
    """The norm in which the perturbations of a cell are measured: that of its threat if it is one of pixels, else L2."""
    known = cell.get("threat", {}).get("name") in autoattack.NORMS
    return (build(jaxdiff.attacks, cell["threat"]) if known else l2(1.0)).norm
