"""AutoAttack (Croce and Hein 2020, arXiv 2003.01690): a few attacks without parameters, each run on what still stands.

    standard   APGD-CE, APGD-T (9 targets), FAB-T (9 targets), Square (5000 queries)
    rand       APGD-CE, APGD-DLR, gradients averaged over 20 draws: for classifiers that draw random numbers
    plus       APGD-CE, APGD-DLR and FAB with 5 restarts, Square, APGD-T, FAB-T

For L1 (Croce and Hein 2021, arXiv 2103.01208) APGD starts at three times the radius, APGD-CE has 5 restarts and APGD-T 5
targets. Fewer classes give fewer targets; with two or three classes, where the DLR losses do not exist, the margin takes
their place.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, ScalarLike

from jaxdiff import checks
from jaxdiff.attacks.ascents.apgd import apgd
from jaxdiff.attacks.ascents.apgd_l1 import apgd_l1
from jaxdiff.attacks.attack import as_stepwise, lost, restarts, untargeted
from jaxdiff.attacks.least.fab import fab, fab_targeted
from jaxdiff.attacks.multi import multi_targeted
from jaxdiff.attacks.objectives import cross_entropy, dlr, margin, targeted_dlr, targeted_margin
from jaxdiff.attacks.pool import checked_batch, run_pool
from jaxdiff.attacks.queries.square import square_l1, square_l2, square_linf
from jaxdiff.attacks.stepwise import Best, Stepwise, choose, marked, start
from jaxdiff.attacks.threats.l1 import l1
from jaxdiff.attacks.threats.threat import Threat, l2, linf
from jaxdiff.attacks.transforms import averaged
from jaxdiff.chunks import in_chunks
from jaxdiff.types import Attack, Classifier, PRNGKeys

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


def in_order(
    attacks: Attack | Mapping[str, Attack],
    slots: int,
    stop: bool | None = None,
    is_lost: Callable[..., Bool[Array, ""]] | None = None,
    fold: bool = True,
) -> Callable[..., Best]:
    """(classifier, x [B, ...], y [B], keys [B], todo [B] = all) -> `Best` [B]: each attack on what the ones before left.

    Images that the classifier gets wrong as they are come back unchanged, with `won` and attack = -1; else `attack` is the
    place of the one that has won. One pure function for one jit; `slots` and `stop` as in `pooled`. One attack is an ensemble
    of one. Each draws from a key of its own (see `numbered`), unless `fold` says that they do so themselves.

    `won` is what one evaluation said: a random classifier loses images here by one unlucky draw. Use `stop=False`, and judge
    the images again (`jaxdiff.defenses.protocols`), or give `is_lost(classifier, x, y, key)`, which judges what every attack
    has found, by the example's own key, and clean images not at all. Of an image that stands, `x` is what the last one found.
    """
    if callable(attacks):
        attacks = {"": attacks}
    if not (isinstance(attacks, Mapping) and attacks):
        raise ValueError(
            f"in_order needs attacks by their names, such as autoattack.standard(...); got {attacks!r}."
        )
    checks.function("in_order", **{f"attacks[{name!r}]": attack for name, attack in attacks.items()})
    ordered = [
        numbered(attack, i) if fold else as_stepwise(attack) for i, attack in enumerate(attacks.values())
    ]
    pools = [run_pool("in_order", attack, slots, stop) for attack in ordered]
    judge = is_lost or (lambda classifier, x, y, key: lost(classifier(x, key), y))

    def run(classifier: Classifier, x: Any, y: Any, keys: PRNGKeys, todo: Any = None) -> Best:
        (x, y, keys, todo), valid = checked_batch("in_order", classifier, x, y, keys, todo)
        clean = jax.vmap(lambda key: jax.random.fold_in(key, len(pools)))(keys)
        judged = in_chunks(lambda e: jax.vmap(lambda *one: judge(classifier, *one))(*e), slots)
        wrong = judged((x, y, clean)) if is_lost is None else jnp.zeros(len(x), bool)
        best = jax.vmap(start)(x)._replace(won=wrong & todo, queries=todo.astype(int))
        for i, pool in enumerate(pools):
            standing = todo & ~best.won
            found = pool(classifier, x, y, keys, standing)
            if is_lost is not None:
                found = found._replace(won=judged((found.x, y, keys)))
            mine = jnp.where(found.won, i, -1)
            found = found._replace(queries=best.queries + found.queries, attack=mine)
            best = jax.vmap(choose)(standing, found, best)
        return jax.vmap(marked)(best, x, valid)

    return run


def numbered(attack: Attack, i: int) -> Stepwise:
    """The attack with a key of its own, as the i-th of several that are given one key."""
    return as_stepwise(attack).on(lambda problem: (*problem[:-1], jax.random.fold_in(problem[-1], i)))


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
