"""Laws of all attacks: more radius or more steps is never worse, targets are reached, linear models fall at their margins."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from known_models import KEY, ORDER, SHAPE, known_margins, mlp
from rows import slow_but

from jaxdiff.attacks import autoattack, directions
from jaxdiff.attacks.ascents.apgd import apgd
from jaxdiff.attacks.ascents.apgd_l1 import apgd_l1
from jaxdiff.attacks.ascents.ascent import fgsm, pgd
from jaxdiff.attacks.attack import targeted, untargeted
from jaxdiff.attacks.cascade import in_order
from jaxdiff.attacks.least.carlini_wagner import carlini_wagner
from jaxdiff.attacks.least.deepfool import deepfool
from jaxdiff.attacks.least.fab import fab, fab_targeted
from jaxdiff.attacks.multi import multi_targeted
from jaxdiff.attacks.objectives import cross_entropy, margin, targeted_dlr
from jaxdiff.attacks.pool import pooled
from jaxdiff.attacks.queries.estimate import nes
from jaxdiff.attacks.queries.one_pixel import pixels
from jaxdiff.attacks.queries.square import square_l1, square_l2, square_linf
from jaxdiff.attacks.threats.l1 import l1
from jaxdiff.attacks.threats.threat import l2, linf

CLASSES = 5


def _linear(classes, shape=SHAPE):
    w = jax.random.normal(jax.random.key(3), (classes, int(np.prod(shape))))
    return w, lambda x, key: w @ (x.ravel() - 0.5)


def _batch(classifier, n, shape=SHAPE, spread=0.04):
    """Images in the middle of the box, which limits nobody; their classes, and keys."""
    x = 0.5 + spread * jax.random.normal(jax.random.key(1), (n, *shape))
    return x, jax.vmap(lambda x: classifier(x, None).argmax())(x), jax.random.split(KEY, n)


def _norms(x_adv, x, norm):
    return np.linalg.norm(np.asarray(x_adv - x).reshape(len(x), -1), ORDER[norm], axis=1)


def _check_fallen(found, classifier, x, y, norm, radius):
    """`won` is what the classifier says, and all images are allowed ones."""
    assert np.max(_norms(found.x, x, norm)) <= radius * (1 + 1e-5)
    assert jnp.min(found.x) >= 0.0 and jnp.max(found.x) <= 1.0
    seen = jax.vmap(lambda x: classifier(x, None).argmax())(found.x)
    np.testing.assert_array_equal(seen != y, found.won)


# ---- Radius and budget ----

BUDGETS = {"square_linf": 40, "square_l2": 40, "nes": 60}
BY_RADIUS = {
    "apgd_l2": ((0.05, 0.15), lambda r: untargeted(apgd(l2(r), 8), cross_entropy())),
    "square_linf": ((0.02, 0.06), lambda r: untargeted(square_linf(r, 40), margin())),
    "square_l2": ((0.1, 0.25), lambda r: untargeted(square_l2(r, 40), margin())),
    # A step is 2 x 5 + 1 evaluations: 5 of them are 55.
    "nes": ((0.02, 0.06), lambda r: untargeted(nes(linf(r), r / 2, 60, samples=5), margin())),
}


@pytest.mark.parametrize("name", slow_but(BY_RADIUS, "square_linf"))
def test_a_larger_radius_breaks_more_within_the_budget(name):
    """In a pool, by the same keys: more images fall, and those that stand at either radius stand less firmly."""
    radii, make = BY_RADIUS[name]
    x, y, keys = _batch(mlp, 32, spread=0.2)
    x = jnp.clip(x, 0.0, 1.0)
    run = jax.jit(lambda radius: pooled(make(radius), 8)(mlp, x, y, keys))
    found = [jax.tree.map(np.asarray, run(radius)) for radius in radii]
    smaller, larger = found
    assert np.sum(larger.won) >= np.sum(smaller.won) + 6
    both = ~smaller.won & ~larger.won
    assert np.sum(both) >= 4 and np.mean(larger.loss[both] > smaller.loss[both]) >= 0.8
    for best, radius in zip(found, radii, strict=True):
        _check_fallen(best, mlp, x, y, "l2" if name.endswith("l2") else "linf", radius)
        if name in BUDGETS:
            spent = 55 if name == "nes" else 40
            assert np.max(best.queries) <= BUDGETS[name]
            np.testing.assert_array_equal(best.queries[~best.won], spent)
            assert np.any(best.queries < spent)


BY_STEPS = {
    "fab": lambda n: fab(l2(jnp.inf), n),
    "carlini_wagner": lambda n: carlini_wagner(n, 20, lr=0.05, initial_const=0.1),
    "pixels": lambda n: pixels(1, 4, n),
    "nes": lambda n: untargeted(nes(linf(0.05), 0.01, 11 * n, samples=5), margin()),
}


@pytest.mark.parametrize("name", slow_but(BY_STEPS, "carlini_wagner"))
def test_more_steps_are_never_worse(name):
    """A longer run begins as the shorter one does: no image fares worse by it, and some fare better."""
    x, y, keys = _batch(mlp, 16, spread=0.2)
    x = jnp.clip(x, 0.0, 1.0)
    run = lambda n: jax.vmap(lambda *problem: BY_STEPS[name](n).run(mlp, *problem))(x, y, keys)
    few, many = jax.tree.map(np.asarray, jax.jit(lambda: (run(2), run(6)))())
    assert np.all(many.won >= few.won)
    same = many.won == few.won
    assert np.all(many.loss[same] >= few.loss[same])
    assert np.any(many.won > few.won) or np.any(many.loss[same] > few.loss[same])
    assert np.all(many.queries >= few.queries)


# ---- Targets ----

_ball, _small = linf(0.3), l2(1.5)
TARGETED = {
    "apgd_linf": ("linf", 0.3, apgd(_ball, 10)),
    "apgd_l2": ("l2", 1.5, apgd(_small, 10)),
    "apgd_l1": ("l1", 5.0, apgd_l1(5.0, 20)),
    "square_linf": ("linf", 0.3, square_linf(0.3, 100)),
    "square_l2": ("l2", 1.5, square_l2(1.5, 200)),
    "square_l1": ("l1", 5.0, square_l1(5.0, 200)),
    "nes": ("linf", 0.3, nes(_ball, 0.05, 410, samples=20)),
    "momentum": ("linf", 0.3, pgd(_ball, 0.05, 10, tx=directions.momentum(_ball))),
    "nesterov": ("linf", 0.3, pgd(_ball, 0.05, 10, tx=directions.nesterov(_ball))),
    "adam": ("linf", 0.3, pgd(_ball, 0.05, 10, tx=directions.adam())),
    "pgd_l2": ("l2", 1.5, pgd(_small, 0.3, 10)),
    "pgd_l1": ("l1", 5.0, pgd(l1(5.0), 0.5, 20)),
    "fgsm": ("linf", 0.3, fgsm(_ball, 0.3)),
    "fgsm_clip": ("linf", 0.3, fgsm(_ball, 2.0, form="clip")),
}


@pytest.mark.parametrize("name", slow_but(TARGETED, "fgsm", "fgsm_clip", "nesterov"))
def test_every_target_is_reached(name):
    """The radii let every class of the linear model win: towards each of them, and not merely away from the label."""
    norm, radius, ascent = TARGETED[name]
    _, model = _linear(CLASSES)
    x, _, keys = _batch(model, 3)
    attack = targeted(ascent, cross_entropy())
    targets = jnp.arange(CLASSES)
    towards = jax.vmap(lambda x, key: jax.vmap(lambda t: attack(model, x, t, key))(targets))
    x_adv = jax.jit(towards)(x, keys)
    seen = jax.vmap(jax.vmap(lambda x: model(x, None).argmax()))(x_adv)
    np.testing.assert_array_equal(seen, np.broadcast_to(targets, seen.shape))
    for t in targets:
        assert np.max(_norms(x_adv[:, t], x, norm)) <= radius * (1 + 1e-5)
    assert jnp.min(x_adv) >= 0.0 and jnp.max(x_adv) <= 1.0


# ---- AutoAttack ----

STEPS, QUERIES = 8, 150
ENSEMBLES = {
    "standard": lambda norm, r, classes: autoattack.standard(norm, r, classes, STEPS, QUERIES),
    "plus": lambda norm, r, classes: autoattack.plus(norm, r, classes, STEPS, QUERIES),
    "rand": lambda norm, r, classes: autoattack.rand(norm, r, classes, STEPS, draws=2),
}
QUICK = [("standard", "l1", 5, "fab-t")]


def _stages():
    """Every stage of every version, in every norm, for 2, 3 and 5 classes."""
    for version, make in ENSEMBLES.items():
        for norm in ORDER:
            for classes in (2, 3, 5):
                for stage in make(norm, 0.1, classes):
                    shared = version == "plus" and stage in (
                        "apgd-t",
                        "fab-t",
                        "square",
                    )  # those of `standard`
                    case = (version, norm, classes, stage)
                    if not shared:
                        yield case


@pytest.mark.parametrize(("version", "norm", "classes", "stage"), slow_but(_stages(), *QUICK))
def test_every_stage_falls_at_the_margin(version, norm, classes, stage):
    """Alone it breaks what is well within the radius, and nothing that is beyond it."""
    w, model = _linear(classes)
    x, y, keys = _batch(model, 16)
    margins = known_margins(w, x, y, norm)
    radius = float(np.quantile(margins, 0.7))
    attack = ENSEMBLES[version](norm, radius, classes)[stage]
    found = jax.jit(lambda: pooled(attack, 16)(model, x, y, keys))()
    _check_fallen(found, model, x, y, norm, radius)
    # Cross-entropy climbs towards the strongest of several rivals, which need not be the nearest.
    loose = stage == "square" or (stage == "apgd-ce" and classes > 2)
    near = margins < (0.4 if loose else 0.75) * radius
    assert np.sum(near) >= 3 and np.sum(margins > radius) >= 3
    assert np.all(found.won[near])
    assert not np.any(found.won[margins > radius])


@functools.cache
def _standard():
    """(radius, scale, rounded) -> what standard AutoAttack makes of 32 images of a linear model; compiled once."""
    w, model = _linear(3)
    x, y, keys = _batch(model, 32)

    def run(radius, scale, rounded):
        def classifier(x, key):
            logits = scale * model(x, key)
            return jnp.where(rounded, jnp.round(logits), logits)

        attacks = autoattack.standard("linf", radius, 3, STEPS, QUERIES)
        return in_order(attacks, 32)(classifier, x, y, keys)

    run = jax.jit(run)
    traced = lambda radius, scale, rounded: run(jnp.float32(radius), jnp.float32(scale), rounded)
    return traced, known_margins(w, x, y, "linf"), model, x, y


APGD = STEPS + 1  # evaluations of one run
BEFORE_FAB = 1 + APGD + 2 * APGD + 1
BEFORE_SQUARE = BEFORE_FAB + 2 * 2 * STEPS + 1


@pytest.mark.slow
def test_autoattack_breaks_more_at_larger_radii():
    run, margins, model, x, y = _standard()
    radii = np.quantile(margins, [0.2, 0.5, 0.8])
    won = []
    for radius in radii:
        found = run(radius, 1.0, False)
        _check_fallen(found, model, x, y, "linf", radius)
        won.append(np.asarray(found.won))
    assert np.all(won[1] >= won[0]) and np.all(won[2] >= won[1])
    assert np.all(np.diff(np.sum(won, axis=1)) >= 6)


@pytest.mark.slow
def test_later_stages_win_where_the_cross_entropy_is_flat():
    """Logits times 1e4 have softmax gradients of exactly 0, and the next stage has its own loss; rounded ones have
    no gradient at all, and only the search of Square is left."""
    run, margins, _, _, _ = _standard()
    radius = float(np.quantile(margins, 0.7))
    near = margins < 0.7 * radius
    steep = run(radius, 1e4, False)
    later = steep.queries > 1 + APGD
    assert np.all(steep.won[near]) and np.sum(later[near]) >= 3
    flat = run(radius, 1e4, True)
    late = np.asarray(flat.queries) > BEFORE_SQUARE
    near = margins < 0.4 * radius
    assert np.all(flat.won[near]) and np.sum(late[near]) >= 3
    far = margins > radius
    assert not np.any(steep.won[far]) and not np.any(flat.won[far])


# ---- Many classes ----


@pytest.mark.slow
def test_a_thousand_classes():
    shape, radius = (4, 4, 1), 0.2
    w, model = _linear(1000, shape)
    x, y, keys = _batch(model, 3, shape)
    ball = linf(radius)
    attacks = {
        "apgd-t": multi_targeted(apgd(ball, 5), targeted_dlr(), 9),
        "fab-t": fab_targeted(ball, 9, 5),
        "fab": fab(ball, 5),
        "square": untargeted(square_linf(radius, 50), margin()),
        "deepfool": deepfool(ball, 10),
    }
    batched = lambda attack: jax.vmap(lambda *problem: attack.run(model, *problem))(x, y, keys)
    for found in jax.jit(lambda: [batched(attack) for attack in attacks.values()])():
        _check_fallen(found, model, x, y, "linf", radius)
        assert np.all(found.won)
    assert np.all(known_margins(w, x, y, "linf") > 0)
