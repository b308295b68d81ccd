"""Attacks as cells of a config: which parts of `jaxdiff.attacks` make one, and how it is built at a radius.

What needs more than an image and its label is called in Python and is no cell: universal perturbations, patches, synthesis
of a class.
"""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from jaxtyping import Array

import jaxdiff.attacks
from jaxdiff.attacks import (
    Stepwise,
    autoattack,
    averaged,
    directions,
    ensemble,
    eot_logits,
    l2,
    low_frequency,
    multi_targeted,
    restarts,
    transfer,
    untargeted,
)
from jaxdiff.build import build
from jaxdiff.types import Attack, Classifier, Objective

Cell = Mapping[str, Any]


def arguments_of(cell: Cell) -> set[str]:
    """The names of the arguments of a cell's ascent or attack."""
    kind = next((kind for kind in ("ascent", "attack") if kind in cell), None)
    return set(inspect.signature(getattr(jaxdiff.attacks, cell[kind]["name"])).parameters) if kind else set()


def given_by_threat(cell: Cell) -> set[str]:
    """The names of the arguments that an attack is given by its cell, not by its own part."""
    more = {"norm", "classes"} if "autoattack" in cell else set()
    return more | set(_context(cell, cell["threat"]["radius"]))


def build_attack(cell: Cell, radius: Any) -> Attack:
    """The attack of a cell at a radius; step lengths scale with it. A cell without an attack leaves images alone.

    `ascent` climbs `objective` (or, with `targets`, a targeted objective towards each of so many classes in turn);
    `attack` is any other attack of `jaxdiff.attacks`. For random classifiers `draws` averages gradients, `eot` logits.
    """
    context = _context(cell, radius) if "threat" in cell else {}
    if "attack" in cell:
        attack = build(jaxdiff.attacks, cell["attack"], **context)
    elif "ascent" in cell:
        attack = _climb(cell, radius, context)
    else:
        attack = lambda classifier, x, y, key: x
    if cell.get("eot", 1) > 1:
        attack = against_mean_logits(attack, cell["eot"])
    n = cell.get("restarts", 1)
    return restarts(attack, n, judged_by(cell)) if n > 1 else attack


def _context(cell: Cell, radius: Any) -> dict[str, Any]:
    ball = lambda radius: build(jaxdiff.attacks, {**cell["threat"], "radius": radius})
    limits = ball(radius)
    if "low_frequency" in cell:
        limits = low_frequency(limits, cell["low_frequency"])
    context = {"threat": limits, "radius": radius, "ball": ball}
    return context | {"bound": radius} if cell["threat"]["name"] == "flow_field" else context


def _climb(cell: Cell, radius: Any, context: dict[str, Any]) -> Attack:
    spec, targets = dict(cell["ascent"]), cell.get("targets")
    if "lr" in spec and cell["threat"]["radius"]:
        spec["lr"] = spec["lr"] * radius / cell["threat"]["radius"]
    if "tx" in spec:
        spec["tx"] = build(directions, spec["tx"], threat=context.get("threat"))
    climb = build(jaxdiff.attacks, spec, **context)
    if cell.get("draws", 1) > 1:
        climb = averaged(climb, cell["draws"])
    objective = build(jaxdiff.attacks, cell["objective"])
    if not targets:
        return untargeted(climb, objective)
    if not isinstance(climb, Stepwise):
        raise ValueError(f"targets need an ascent in steps, such as apgd; {spec['name']} is none.")
    return multi_targeted(climb, objective, targets)


def judged_by(cell: Cell) -> Objective:
    """What results are compared by: the objective, if it is one of the label alone; else the margin."""
    return build(
        jaxdiff.attacks,
        {"name": "margin"} if "targets" in cell else cell.get("objective", {"name": "margin"}),
    )


def without_radius(cell: Cell) -> bool:
    """Whether the attack of a cell knows no radius: what it finds counts only within that of the threat."""
    return "attack" in cell and "threat" in cell and not given_by_threat(cell) & arguments_of(cell)


def against_mean_logits(attack: Attack, n: int) -> Attack:
    """The attack on the classifier whose logits are the mean over n draws, each of them a query."""
    mean = lambda problem: (eot_logits(problem[0], n), *problem[1:])
    if not isinstance(attack, Stepwise):
        return lambda *problem: attack(*mean(problem))
    return attack.on(mean).recounted(lambda queries: n * queries)


def stages_of(cell: Cell, classes: int) -> dict[str, Callable[[Any], Attack]]:
    """{name: radius -> attack} of a cell: one, or those of an AutoAttack in their order."""
    if "autoattack" not in cell:
        return {"": lambda radius: build_attack(cell, radius)}

    def stage(radius, name):
        attack = parts(radius)[name]
        return against_mean_logits(attack, cell["eot"]) if cell.get("eot", 1) > 1 else attack

    norm = cell["threat"]["name"]
    parts = lambda radius: build(autoattack, cell["autoattack"], norm=norm, radius=radius, classes=classes)
    return {name: partial(stage, name=name) for name in parts(cell["threat"]["radius"])}


def transferred(cell: Cell, attack: Attack, surrogates: Mapping[str, Classifier]) -> Attack:
    """The attack of a cell with `surrogates`: made, restarts and all, on the mean of their logits, and tried once on the
    victim; else as it is.
    """
    if "surrogates" not in cell:
        return attack
    return transfer(attack, ensemble(*(surrogates[name] for name in cell["surrogates"])), judged_by(cell))


def norm_of(cell: Cell) -> Callable[[Array], Array]:
    """The norm in which the perturbations of a cell are measured: that of its threat if it is one of pixels, else L2."""
    known = cell.get("threat", {}).get("name") in autoattack.NORMS
    return (build(jaxdiff.attacks, cell["threat"]) if known else l2(1.0)).norm
