"""AutoAttack (Croce and Hein 2020, arXiv 2003.01690): a few attacks without parameters, each run on what still stands.

    standard   APGD-CE, APGD-T (9 targets), FAB-T (9 targets), Square (5000 queries)
    rand       APGD-CE, APGD-DLR, gradients averaged over 20 draws: for classifiers that draw random numbers
    plus       APGD-CE, APGD-DLR and FAB with 5 restarts, Square, APGD-T, FAB-T

For L1 (Croce and Hein 2021, arXiv 2103.01208) APGD starts at three times the radius, APGD-CE has 5 restarts and APGD-T 5
targets. Fewer classes give fewer targets; with two or three classes, where the DLR losses do not exist, the margin takes
their place.
"""

from collections.abc import Callable
from typing import NamedTuple

from jaxtyping import ScalarLike

from jaxdiff import checks
from jaxdiff.attacks.ascents.apgd import apgd
from jaxdiff.attacks.ascents.apgd_l1 import apgd_l1
from jaxdiff.attacks.attack import restarts, untargeted
from jaxdiff.attacks.least.fab import fab, fab_targeted
from jaxdiff.attacks.multi import multi_targeted
from jaxdiff.attacks.objectives import cross_entropy, dlr, margin, targeted_dlr, targeted_margin
from jaxdiff.attacks.queries.square import square_l1, square_l2, square_linf
from jaxdiff.attacks.stepwise import Stepwise
from jaxdiff.attacks.threats.l1 import l1
from jaxdiff.attacks.threats.threat import Threat, l2, linf
from jaxdiff.attacks.transforms import averaged

__all__ = ["plus", "rand", "standard"]

Ensemble = dict[str, Stepwise]


class Norm(NamedTuple):
    """What AutoAttack does in a norm: threat(radius), apgd(threat, steps), square(radius, queries), restarts, targets."""

    threat: Callable[[ScalarLike], Threat]
    apgd: Callable[[Threat, int], Stepwise]
    square: Callable[[ScalarLike, int], Stepwise]
    restarts: int
    targets: int


NORMS = {
    "linf": Norm(linf, apgd, square_linf, 1, 9),
    "l2": Norm(l2, apgd, square_l2, 1, 9),
    "l1": Norm(l1, lambda threat, steps: apgd_l1(threat.radius, steps), square_l1, 5, 5),
}


def standard(norm: str, radius: ScalarLike, classes: int, steps: int = 100, queries: int = 5000) -> Ensemble:
    """The four attacks on which robust accuracies are compared; `norm` is "linf", "l2" or "l1"."""
    kind = _norm(norm, classes)
    climb = kind.apgd(kind.threat(radius), steps)
    attacks = {"apgd-ce": restarts(untargeted(climb, cross_entropy()), kind.restarts)}
    attacks |= _targeted(kind, radius, classes, steps)
    return _for_classes(attacks | _square(kind, radius, queries), classes)


def rand(
    norm: str,
    radius: ScalarLike,
    classes: int,
    steps: int = 100,
    draws: int = 20,
    batch_size: int | None = None,
) -> Ensemble:
    """Two attacks on randomised classifiers, whose loss and gradient are means over `draws`, `batch_size` of them at once."""
    kind = _norm(norm, classes)
    climb = averaged(kind.apgd(kind.threat(radius), steps), draws, batch_size)
    attacks = {"apgd-ce": untargeted(climb, cross_entropy()), "apgd-dlr": untargeted(climb, _dlr(classes))}
    return _for_classes(attacks, classes)


def plus(norm: str, radius: ScalarLike, classes: int, steps: int = 100, queries: int = 5000) -> Ensemble:
    """All six attacks, the untargeted ones with 5 restarts: slower, rarely stronger."""
    kind, n = _norm(norm, classes), 5
    climb = kind.apgd(kind.threat(radius), steps)
    attacks = {
        f"apgd-{name}": restarts(untargeted(climb, loss), n)
        for name, loss in (("ce", cross_entropy()), ("dlr", _dlr(classes)))
    }
    attacks["fab"] = _within(fab(kind.threat(radius), steps, restarts=n))
    attacks |= _square(kind, radius, queries) | _targeted(kind, radius, classes, steps)
    return _for_classes(attacks, classes)


def _targeted(kind: Norm, radius: ScalarLike, classes: int, steps: int) -> Ensemble:
    threat, n = kind.threat(radius), min(kind.targets, classes - 1)
    objective = targeted_dlr() if classes >= 4 else targeted_margin()
    return {
        "apgd-t": multi_targeted(kind.apgd(threat, steps), objective, n),
        "fab-t": _within(fab_targeted(threat, min(9, classes - 1), steps)),
    }


def _for_classes(attacks: Ensemble, classes: int) -> Ensemble:
    """The attacks, which refuse a model of another number of classes: fewer targets would be a weaker attack without a word."""

    def guarded(attack: Stepwise) -> Stepwise:
        def init(problem):
            classifier, x, _, key = problem
            there = checks.logits_of("AutoAttack", classifier, x, key)
            if there != classes:
                raise ValueError(
                    f"AutoAttack was made for classes = {classes}; this model has {there}. Set classes = {there}."
                )
            return attack.init(problem)

        return attack.replace(init=init)

    return {name: guarded(attack) for name, attack in attacks.items()}


def _within(attack: Stepwise) -> Stepwise:
    """A minimum-norm attack of which only a victory within the radius is wanted, not the nearest."""
    return attack.replace(least_norm=False)


def _square(kind: Norm, radius: ScalarLike, queries: int) -> Ensemble:
    return {"square": untargeted(kind.square(radius, queries), margin())}


def _dlr(classes: int) -> Callable:
    return dlr() if classes >= 3 else margin()


def _norm(name: str, classes: int) -> Norm:
    checks.known("AutoAttack", NORMS, norm=name)
    checks.count("AutoAttack", 2, classes=classes)
    return NORMS[name]
