"""Cells are checked before anything runs, up to the trace of their attacks: hours later would be too late."""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from cells import Cell, arguments_of, given_by_threat, judged_by, stages_of, without_radius
from field_checks import check_known
from part_checks import check_arguments

import jaxdiff.attacks
from jaxdiff.attacks import autoattack, patch, universal
from jaxdiff.build import build
from jaxdiff.checks import nearest
from jaxdiff.defenses import protocols
from jaxdiff.defenses.gradients import VIEWS

EVERY = {"threat", "objective", "gradient", "eot", "stop", "judge", "n"}
READ = {
    "ascent": EVERY | {"surrogates", "low_frequency", "targets", "draws", "restarts"},
    "attack": EVERY | {"surrogates", "low_frequency", "restarts"},
    "autoattack": EVERY | {"surrogates"},
}
CELL = set(READ).union(*READ.values())

ROLES = {
    "threat": ("flow_field", "fourier_l2", "l1", "l2", "linf"),
    "ascent": (
        "apgd", "apgd_l1", "fgsm", "flow_ascent", "nes", "pgd", "rotation_translation", "spsa", "square_l1",
        "square_l2", "square_linf", "worst_of_k",
    ),
    "attack": (
        "boundary", "carlini_wagner", "ddn", "deepfool", "fab", "fab_targeted", "hop_skip_jump", "pixels", "stadv",
        "stadv_original",
    ),
    "autoattack": tuple(autoattack.__all__),
    "objective": ("cross_entropy", "dlr", "margin"),
    "judge": tuple(protocols.__all__),
    "targeted objective": ("targeted_cross_entropy", "targeted_dlr", "targeted_margin"),
}  # fmt: skip
AIMED = ("stay_near", "synthesise")  # always at the class that they are given; a cell gives the true one
LIBRARY = {*jaxdiff.attacks.__all__, *patch.__all__, *universal.__all__, "patch", "universal"}
# These know neither a threat nor a bound of their own: without a threat any of their victories would count.
UNBOUNDED = ("carlini_wagner", "ddn", "stadv_original")
OWN_NORM = {"apgd_l1": "l1", "square_l1": "l1", "square_l2": "l2", "square_linf": "linf"}
# What the defenses know; only purifiers carry the last two.
GRADIENTS = (*VIEWS, "adjoint", "surrogate")
COUNTS = ("n", "eot", "draws", "restarts", "targets")
NAMESPACES = {"autoattack": autoattack, "judge": protocols}  # of the others' parts: jaxdiff.attacks


def check_cell(
    where: str,
    cell: Cell,
    image_shape: tuple[int, ...],
    classes: int,
    surrogates: Iterable[str] = (),
) -> None:
    """ValueError unless a cell says one attack that can run, and nothing that this attack does not read.

    The attack is built and traced on images of this shape, without compiling it. `surrogates` are the names of the classifiers
    that attacks may be made on.
    """
    check_known(where, cell, CELL)
    try:
        _check_fields(cell)
        _check_limits(cell)
        _check_surrogates(cell, sorted(surrogates))
        _trace(cell, image_shape, classes)
    except (TypeError, ValueError, ArithmeticError, AttributeError) as error:
        raise ValueError(f"{where}: {error}") from error


def _check_fields(cell: Cell) -> None:
    kinds = [kind for kind in READ if kind in cell]
    if len(kinds) > 1:
        raise ValueError(f"a cell names one of {', '.join(READ)}; got {kinds}.")
    ignored = sorted(set(cell).difference(READ[kinds[0]] if kinds else EVERY, kinds))
    if ignored:
        who = f"an {kinds[0]}" if kinds else "a cell without an attack"
        raise ValueError(f"{who} does not read {ignored[0]!r}.")
    for name in COUNTS:
        count = cell.get(name, 1)
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ValueError(f"{name!r} is a whole number from 1; got {count!r}.")
    if "ascent" in cell and "objective" not in cell:
        raise ValueError(f"an ascent needs an objective; got {sorted(cell)}.")
    for field in ("threat", *kinds, "objective", "judge"):
        if field in cell:
            targeted = field == "objective" and "targets" in cell
            _check_part(field, cell[field], "targeted objective" if targeted else field)
            check_arguments(repr(field), NAMESPACES.get(field, jaxdiff.attacks), cell[field])
    if not isinstance(cell.get("stop", True), bool):
        raise ValueError(f"'stop' is True or False; got {cell['stop']!r}.")
    known = cell.get("judge", {}).get("known", False)
    if not isinstance(known, bool):
        raise ValueError(f"'known' of a judge is True or False; got {known!r}.")
    gradient = cell.get("gradient", "exact")
    if gradient not in GRADIENTS:
        raise ValueError(
            f"there is no gradient {gradient!r}{nearest(str(gradient), list(GRADIENTS))} Known: {GRADIENTS}."
        )


def _check_surrogates(cell: Cell, known: list[str]) -> None:
    if "surrogates" not in cell:
        return
    names = cell["surrogates"]
    if not isinstance(names, list | tuple) or not names:
        raise ValueError(f"'surrogates' is a list of names of classifiers; got {names!r}.")
    if not known:
        raise ValueError("surrogates are defined in config.attack.surrogates, and there are none.")
    if "gradient" in cell:
        raise ValueError("the gradient is that of the surrogates; got a 'gradient' of the victim as well.")
    if without_radius(cell):
        raise ValueError(
            f"{cell['attack']['name']} goes no further than the boundary of a surrogate, where no other falls; take an attack "
            "with a radius."
        )
    for name in names:
        if name not in known:
            raise ValueError(f"there is no surrogate {name!r}{nearest(str(name), known)} Known: {known}.")


def _check_part(field: str, spec: Any, role: str) -> None:
    """ValueError unless a field names a part of its role; the message says where the name belongs."""
    if not isinstance(spec, Mapping) or "name" not in spec:
        raise ValueError(f"{field!r} is a part, {{'name': ..., argument: value, ...}}; got {spec!r}.")
    name, known = spec["name"], ROLES[role]
    if name in known:
        if spec.get("targeted") or spec.get("goal") == "targeted":
            raise ValueError(
                f"a targeted {name} aims at the label it is given, and a cell gives the true one. {TOWARDS}"
            )
        return
    mine = [other for other, names in ROLES.items() if name in names]
    if mine:
        hint = f" {TOWARDS}" if "targeted objective" in (*mine, role) else f" Say it as {mine[0]!r}."
        raise ValueError(f"{field!r} names {name!r}, which is no {role} but of the kind {mine[0]}.{hint}")
    if name in AIMED:
        raise ValueError(f"{name!r} makes an image of a class, and a cell gives the true one. {TOWARDS}")
    if name in ("transfer", "ensemble"):
        raise ValueError(
            f"{name!r} is said by 'surrogates': names of classifiers in config.attack.surrogates."
        )
    if name in LIBRARY:
        raise ValueError(
            f"{name!r} is a function of the library that a cell can not say: call it in Python. Known: {known}."
        )
    raise ValueError(f"there is no {role} {name!r}{nearest(str(name), list(known))} Known: {known}.")


TOWARDS = (
    "Towards other classes: an ascent in steps, such as apgd, with 'targets' (how many) and an objective out of "
    f"{ROLES['targeted objective']}."
)


def _check_limits(cell: Cell) -> None:
    """ValueError unless an attack has the threat that it needs, once, and keeps to it."""
    kind = next((kind for kind in READ if kind in cell), None)
    name, spec = cell[kind]["name"] if kind else "", cell[kind] if kind else {}
    takes, threat = arguments_of(cell), cell.get("threat")
    if threat is None:
        needing = [field for field in ("autoattack", "low_frequency") if field in cell]
        if name in UNBOUNDED or takes & {"threat", "radius"} or (kind == "ascent" and "lr" in spec):
            needing.append(name)
        if needing:
            raise ValueError(f"{needing[0]} needs a threat; got {sorted(cell)}.")
        return
    if not isinstance(threat.get("radius"), int | float):
        raise ValueError(f"the threat {threat['name']!r} needs a radius, a number; got {dict(threat)}.")
    twice = sorted(given_by_threat(cell) & set(spec))
    if twice:
        raise ValueError(f"{name} takes {twice[0]!r} from the threat of its cell; leave it out of {kind!r}.")
    if kind == "ascent" and not takes & given_by_threat(cell):
        raise ValueError(
            f"{name} knows no threat: what it finds would stand under a radius that it ignores. Leave the threat out; in a "
            "robustness config, where all cells have one, set it to None."
        )
    if "low_frequency" in cell and "threat" not in takes:
        raise ValueError(f"{name} knows no low frequencies: it takes no threat, only a radius or none.")
    if OWN_NORM.get(name, threat["name"]) != threat["name"]:
        raise ValueError(f"{name} needs the threat {OWN_NORM[name]!r}; got {threat['name']!r}.")
    if (
        kind == "attack"
        and threat["name"] not in autoattack.NORMS
        and "bound" not in takes & given_by_threat(cell)
    ):
        raise ValueError(
            f"{name} needs a threat that is a norm of pixels, out of {sorted(autoattack.NORMS)}; got {threat['name']!r}."
        )


def _trace(cell: Cell, image_shape: tuple[int, ...], classes: int) -> None:
    """Builds the attack and the judge of a cell, and traces them with a classifier that costs nothing."""
    classifier = lambda x, key: jnp.mean(x) * jnp.arange(classes, dtype=jnp.float32)
    spec = cell.get("judge", {"name": "one_shot"})
    loss, protocol = judged_by(cell), build(protocols, {k: v for k, v in spec.items() if k != "known"})

    def run(make, radius, x, y, key):
        x_adv = make(radius)(classifier, x, y, key)
        return loss(classifier(x_adv, key), y), protocols.judge(protocol, classifier, x_adv, y, key)

    number, label = jax.ShapeDtypeStruct((), jnp.float32), jax.ShapeDtypeStruct((), jnp.int32)
    image, key = jax.ShapeDtypeStruct(image_shape, jnp.float32), jax.random.key(0)
    for make in stages_of(cell, classes).values():
        make(cell.get("threat", {}).get("radius"))  # what can be checked of numbers alone
        jax.eval_shape(partial(run, make), number, image, label, key)
