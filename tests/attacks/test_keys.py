"""Which keys a classifier is called with: another at every step, and one for what is compared with each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from every_attack import linear
from rows import slow_but

from jaxdiff import attacks as a
from jaxdiff.attacks import patch, universal
from jaxdiff.attacks.cascade import in_order
from jaxdiff.attacks.queries.one_pixel import pixel_evolution
from jaxdiff.attacks.stadv import flow_ascent, flow_lbfgs
from jaxdiff.attacks.stepwise import Stepwise, start

KEY = jax.random.key(3)
LINF, L2 = a.linf(0.1), a.l2(0.5)
X = jnp.asarray(0.5 + 0.1 * np.random.default_rng(0).normal(size=(4, 4, 1)).clip(-2, 2), jnp.float32)
BATCH, LABELS = jnp.stack([X, 1 - X]), jnp.arange(2)
# The ascent or attack, and of how many keys it knows the answers.
ASCENTS = {
    "apgd: every evaluation": (a.apgd(LINF, 3), 4),
    "apgd_l1: every evaluation": (a.apgd_l1(1.0, 3), 6),
    "square: every query": (a.square_linf(0.1, 4), 4),
    "nes: every probe and where they lead": (a.nes(LINF, 0.1, 14, samples=3), 14),
    "pixels: one for a generation": (pixel_evolution(1, 5, 2), 3),
    "flows: every evaluation": (flow_ascent(0.1, 3, 0.01, 0.05), 4),
    "flows by lbfgs: one for a line search": (flow_lbfgs(0.05, 1.0, 3), 3),
    "rotations: one for all that are compared": (a.worst_of_k(4), 1),
}
ATTACKS = {
    "fab: twice a step": (a.fab(LINF, 3), 6),
    "fab_targeted: and the clean image": (a.fab_targeted(LINF, 2, 2), 9),
    "deepfool: every evaluation": (a.deepfool(L2, 3), 3),
    "ddn: every evaluation": (a.ddn(4), 4),
    "carlini_wagner: every evaluation": (a.carlini_wagner(2, 2), 4),
    "hop_skip_jump: every query": (a.hop_skip_jump(a.l2, 1.0, 15), 15),
    "boundary: every query": (a.boundary(a.l2, 1.0, 12, block=4), 12),
    "synthesise: every evaluation": (a.synthesise(3, 0.1), 3),
}
SETS = {
    "universal_pgd: every image of every step": (
        lambda f: universal.universal_pgd(LINF, a.margin(), 0.1)(f, BATCH[None], LABELS[None], KEY),
        2,
    ),
    "fooling_rate: every image": (lambda f: universal.fooling_rate(LINF, X, f, BATCH, LABELS, KEY), 2),
    "train_patch: every image of every step": (
        lambda f: patch.train_patch(
            f, BATCH, LABELS, KEY, a.margin(), patch.square_mask(2), patch.random_placement(), 2, 3
        ),
        6,
    ),
}


def _seen(run):
    """How many different keys `run(classifier)` calls its classifier with."""
    seen = set()
    jax.block_until_ready(jax.jit(lambda: run(_noting(seen)))())
    jax.effects_barrier()
    return len(seen)


def _noting(seen):
    """A classifier that puts the keys it is called with into the set."""

    def classifier(x, key):
        _note(seen, key)
        return linear(3, 16)(x, key)

    return classifier


def _note(seen, key):
    jax.debug.callback(lambda k: seen.add(np.asarray(k).tobytes()), jax.random.key_data(key))


@pytest.mark.parametrize("name", slow_but(ASCENTS, *list(ASCENTS)[:5]))
def test_ascents(name):
    ascent, keys = ASCENTS[name]
    assert _seen(lambda f: ascent.run(lambda x, key: f(x, key)[0], X, KEY)) == keys


@pytest.mark.parametrize("name", slow_but(ATTACKS, *list(ATTACKS)[1::2]))
def test_attacks(name):
    attack, keys = ATTACKS[name]
    y = jnp.argmax(linear(3, 16)(X, None))
    assert _seen(lambda f: attack.run(f, X, y, KEY)) == keys


@pytest.mark.parametrize("name", SETS)
def test_sets(name):
    run, keys = SETS[name]
    assert _seen(run) == keys


COUNTED = {
    "multi_targeted": a.multi_targeted(a.apgd(LINF, 3), a.targeted_margin(), 2),
    "fab_targeted": a.fab_targeted(LINF, 2, 2),
}


@pytest.mark.parametrize("name", COUNTED)
def test_what_is_asked_of_the_clean_image_is_counted(name):
    y = jnp.argmax(linear(3, 16)(X, None))
    run = jax.jit(lambda: COUNTED[name].run(linear(3, 16), X, y, KEY))
    assert run().queries == _seen(lambda f: COUNTED[name].run(f, X, y, KEY))


def test_candidates_are_judged_by_draws_that_no_run_has_seen():
    attacked, judged = set(), set()

    def attack(classifier, x, y, key):
        _note(attacked, key)
        return x

    best = a.restarts(attack, 3)
    jax.jit(lambda: best(_noting(judged), X, jnp.asarray(0), KEY))().block_until_ready()
    jax.effects_barrier()
    assert len(attacked) == 3 and len(judged) == 3 and not attacked & judged


def test_clean_images_are_judged_by_draws_that_no_attack_begins_with():
    attacked, judged = set(), set()

    def step(problem, best, i):
        _note(attacked, problem[-1])
        return best

    spy = Stepwise(1, lambda problem: start(problem[1]), step, lambda best: best)
    keys = jax.random.split(KEY, 2)
    labels = jnp.argmax(jax.vmap(lambda x: linear(3, 16)(x, None))(BATCH), axis=1)
    run = in_order({"first": spy, "second": spy}, 2)
    jax.block_until_ready(jax.jit(lambda: run(_noting(judged), BATCH, labels, keys))())
    jax.effects_barrier()
    assert len(attacked) == 4 and len(judged) == 2
    given = {np.asarray(k).tobytes() for k in jax.random.key_data(keys)}
    assert not judged & (attacked | given) and not attacked & given
