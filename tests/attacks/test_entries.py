"""What enters an attack: wrong images and labels are refused where they are concrete, and marked where they are traced.

And what comes out of it says what it is: whether it has moved, who has won, whether the example can be believed.
"""

import itertools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rows import slow_but

from jaxdiff.attacks import (
    apgd,
    autoattack,
    carlini_wagner,
    cross_entropy,
    fab,
    fgsm,
    l2,
    linf,
    margin,
    multi_targeted,
    pgd,
    pooled,
    restarts,
    targeted_margin,
    untargeted,
)
from jaxdiff.attacks.cascade import in_order
from jaxdiff.attacks.stepwise import Stepwise, improve, start

W = np.random.default_rng(0).normal(size=(4, 12)).astype(np.float32)
X = np.random.default_rng(1).uniform(0.2, 0.8, size=(6, 2, 2, 3)).astype(np.float32)
CLASSIFIER = lambda x, key: W @ x.ravel()
Y = np.argmax(X.reshape(6, 12) @ W.T, axis=1).astype(np.int32)
KEYS = jax.random.split(jax.random.key(0), 6)
STEPWISE = untargeted(apgd(linf(0.285), 3), cross_entropy())
PLAIN = untargeted(pgd(linf(0.1), 0.05, 2), cross_entropy())
POOL = pooled(STEPWISE, 2)
ORDER = in_order({"apgd": STEPWISE, "second": untargeted(apgd(linf(0.285), 1), margin())}, 2)

WRONG = {
    "signed": (4 * X - 2, Y, r"\(images \+ 1\) / 2"),
    "bytes": (255 * X, Y, "divide by 255"),
    "uint8": ((255 * X).astype(np.uint8), Y, "uint8"),
    "nan": (np.where(np.arange(12).reshape(2, 2, 3) == 3, np.nan, X).astype(np.float32), Y, "finite"),
    "labels from 1": (X, np.array([1, 2, 3, 4, 1, 2]), "Use y - 1"),
    "label 255": (X, np.full(6, 255), "between 0 and 3; got 255"),
    "label -1": (X, np.full(6, -1), "between 0 and 3; got -1"),
    "float labels": (X, Y.astype(np.float32), "integers"),
    "one-hot": (X, np.eye(4, dtype=int)[Y], "argmax"),
}


BATCHED, SINGLE = {"pooled": POOL, "in_order": ORDER}, {"stepwise": STEPWISE, "plain": PLAIN}


def every_case_with(first, second, cases):
    """All of `cases` with the entry `first` by default, and one with `second`."""
    rows = itertools.product((first, second), cases)
    return slow_but(rows, *((first, case) for case in cases), (second, "signed"))


@pytest.mark.parametrize(("name", "case"), every_case_with("pooled", "in_order", WRONG))
def test_a_wrong_batch_is_refused(name, case):
    x, y, words = WRONG[case]
    with pytest.raises(ValueError, match=words):
        BATCHED[name](CLASSIFIER, x, y, KEYS)


@pytest.mark.parametrize(
    ("name", "case"),
    every_case_with("stepwise", "plain", [c for c in WRONG if c not in ("float labels", "labels from 1")]),
)
def test_a_wrong_example_is_refused(name, case):
    x, y, words = WRONG[case]
    with pytest.raises(ValueError, match=words):
        SINGLE[name](CLASSIFIER, x[0], y[0], KEYS[0])


BROKEN = {
    "above": (X[2] + np.float32(0.5), Y[2]),
    "below": (X[2] - np.float32(0.5), Y[2]),
    "nan": (np.full_like(X[2], np.nan), Y[2]),
    "too large a label": (X[2], np.int32(4)),
    "negative label": (X[2], np.int32(-1)),
}


def broken(case):
    x, y = X.copy(), Y.copy()
    x[2], y[2] = BROKEN[case]
    return x, y


@pytest.mark.parametrize("run", [POOL, ORDER], ids=["pooled", "in_order"])
def test_where_it_is_traced_it_is_neither_robust_nor_fallen(run):
    """One broken example in a batch of good ones: it alone is marked, and the others do not notice."""
    jitted = jax.jit(lambda x, y: run(CLASSIFIER, x, y, KEYS))
    good = jitted(X, Y)
    assert good.valid.all() and good.won.any() and good.robust.any()
    for case in BROKEN:
        found = jitted(*broken(case))
        assert found.valid.tolist() == [True, True, False, True, True, True]
        assert not found.won[2] and not found.robust[2] and found.attack[2] == -1
        assert jnp.isnan(found.x[2]).all() and jnp.isnan(found.loss[2]) and found.queries[2] == 0
        others = np.array([0, 1, 3, 4, 5])
        for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(good), strict=True):
            np.testing.assert_array_equal(ours[others], theirs[others])


@pytest.mark.parametrize("attack", [STEPWISE, PLAIN], ids=["stepwise", "plain"])
def test_a_single_traced_example_is_marked(attack):
    jitted = jax.jit(lambda x, y: attack(CLASSIFIER, x, y, KEYS[0]))
    assert jnp.isfinite(jitted(X[2], Y[2])).all()
    for case in BROKEN.values():
        assert jnp.isnan(jitted(*case)).all()


def test_a_run_of_a_traced_example_says_that_it_is_not_valid():
    """Also where the classifier takes what is no image for another class: nothing has fallen there."""
    run = jax.jit(lambda x, y: STEPWISE.run(CLASSIFIER, x, y, KEYS[0]))
    assert run(X[2], Y[2]).valid
    for x, y in BROKEN.values():
        found = run(x, y)
        assert not (found.valid | found.won | found.robust | found.moved) and found.attack == -1


@pytest.mark.slow
def test_numpy_and_jax_arrays_are_the_same():
    for run in (POOL, ORDER):
        ours = run(CLASSIFIER, X, Y, KEYS, np.arange(6) < 4)
        theirs = run(CLASSIFIER, jnp.asarray(X), jnp.asarray(Y), KEYS, jnp.arange(6) < 4)
        for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
            np.testing.assert_array_equal(a, b)
    for attack in (STEPWISE, PLAIN):
        np.testing.assert_array_equal(
            attack(CLASSIFIER, X[0], Y[0], KEYS[0]),
            attack(CLASSIFIER, jnp.asarray(X[0]), jnp.asarray(Y[0]), KEYS[0]),
        )


def test_an_empty_batch_is_an_empty_result():
    for run in (POOL, ORDER):
        found = run(CLASSIFIER, X[:0], Y[:0], KEYS[:0])
        assert found.x.shape == (0, 2, 2, 3) and found.won.shape == (0,)


def test_a_stepwise_attack_can_be_jitted_checkpointed_and_hashed():
    np.testing.assert_allclose(
        jax.jit(STEPWISE, static_argnums=0)(CLASSIFIER, X[0], Y[0], KEYS[0]),
        STEPWISE(CLASSIFIER, X[0], Y[0], KEYS[0]),
        atol=1e-6,
    )
    run = jax.jit(lambda attack, x, y, key: attack(CLASSIFIER, x, y, key), static_argnums=0)
    np.testing.assert_allclose(run(STEPWISE, X[0], Y[0], KEYS[0]), run(STEPWISE, X[0], Y[0], KEYS[0]))
    assert run._cache_size() == 1
    jax.checkpoint(lambda x: STEPWISE(CLASSIFIER, x, Y[0], KEYS[0]))(X[0])
    assert len({STEPWISE, STEPWISE, STEPWISE.replace(steps=2)}) == 2


def _init(problem):
    return start(problem[1])


def _step(problem, best, i):
    return improve(best, problem[1], jnp.asarray(True), jnp.asarray(0.0))


def _best(best):
    return best


def test_it_pickles_where_its_parts_do():
    attack = pickle.loads(pickle.dumps(Stepwise(1, _init, _step, _best)))
    assert attack.run(CLASSIFIER, X[0], Y[0], KEYS[0]).won


def test_a_result_says_who_has_won():
    """In order: wrong as it is (-1, won), fallen to the first (0), to the second (1), standing (-1)."""
    labels = Y.copy()
    labels[0] = (Y[0] + 1) % 4
    logits = np.sort(X.reshape(6, 12) @ W.T, axis=1)
    gap = logits[:, -1] - logits[:, -2]
    order = np.argsort(gap)
    reach = lambda i: 1.01 * gap[i]

    def falls_within(distance):
        """Wins where the gap is at most `distance`, and moves the image only then."""

        def step(problem, best, i):
            classifier, x, _, key = problem
            top = jax.lax.top_k(classifier(x, key), 2)[0]
            return improve(best, jnp.clip(x + 0.1, 0, 1), top[0] - top[1] <= distance, top[1] - top[0])

        return Stepwise(1, lambda problem: start(problem[1]), step, lambda best: best)

    ordered = [i for i in order if i]
    small, large = reach(ordered[1]), reach(ordered[3])
    attacks = {"near": falls_within(small), "far": falls_within(large)}
    found = in_order(attacks, 2)(CLASSIFIER, X, labels, KEYS)
    wanted = np.where(gap <= small, 0, np.where(gap <= large, 1, -1))
    wanted[0] = -1
    assert found.attack.tolist() == wanted.tolist()
    assert found.won.tolist() == [bool(w >= 0 or i == 0) for i, w in enumerate(wanted)]
    assert not found.moved[0] and (found.moved[1:]).all()
    np.testing.assert_array_equal(found.x[0], X[0])


def test_a_single_attack_says_so_too():
    found = POOL(CLASSIFIER, X, Y, KEYS)
    np.testing.assert_array_equal(found.attack, np.where(found.won, 0, -1))
    assert found.won.any() and not found.won.all()


@pytest.mark.parametrize(
    "attack",
    [
        STEPWISE,
        pytest.param(untargeted(apgd(l2(0.01), 2), margin()), marks=pytest.mark.slow),
        fab(linf(0.1), 3),
        pytest.param(fab(linf(0.001), 3), marks=pytest.mark.slow),
        pytest.param(restarts(STEPWISE, 2), marks=pytest.mark.slow),
        multi_targeted(apgd(linf(0.05), 2), targeted_margin(), 2),
        carlini_wagner(2, 10),
    ],
    ids=["apgd", "tiny", "fab", "fab out of reach", "restarts", "multi", "c&w"],
)
def test_moved_says_whether_the_image_is_another(attack):
    found = pooled(attack, 3)(CLASSIFIER, X, Y, KEYS)
    np.testing.assert_array_equal(found.moved, (np.asarray(found.x) != X).any(axis=(1, 2, 3)))


def test_a_search_for_the_least_norm_goes_on_after_its_first_victory():
    """By itself: the pool's default is what the attack looks for."""
    attack = fab(l2(np.inf), 10)
    assert attack.least_norm and not STEPWISE.least_norm
    assert restarts(attack, 1).least_norm
    alone = jax.vmap(lambda x, y, key: attack.run(CLASSIFIER, x, y, key))(X, Y, KEYS)
    found, hasty = (
        pooled(attack, 3)(CLASSIFIER, X, Y, KEYS),
        pooled(attack, 3, stop=True)(CLASSIFIER, X, Y, KEYS),
    )
    np.testing.assert_allclose(found.loss, alone.loss, rtol=1e-4)
    assert (hasty.loss < found.loss - 1e-3).any() and (hasty.loss <= found.loss + 1e-6).all()


def test_autoattack_refuses_a_model_of_other_classes():
    for ensemble in (autoattack.standard, autoattack.plus):
        attacks = ensemble("linf", 0.1, 3, steps=3, queries=5)
        with pytest.raises(ValueError, match="classes = 3; this model has 4"):
            in_order(attacks, 2)(CLASSIFIER, X, Y, KEYS)
    with pytest.raises(ValueError, match="classes = 10; this model has 4"):
        pooled(autoattack.rand("l2", 0.1, 10, steps=2, draws=2)["apgd-dlr"], 2)(CLASSIFIER, X, Y, KEYS)


def test_a_radius_of_255_parts_is_refused():
    with pytest.raises(ValueError, match="write 8 / 255"):
        linf(8)
    assert linf(8.0, beyond=True).radius == 8.0 and linf(jnp.inf).radius == jnp.inf
    assert (
        jax.jit(lambda r: linf(r).norm(linf(r).project(9 * jnp.ones((1, 1, 1)), jnp.zeros((1, 1, 1)))))(8.0)
        == 1.0
    )


def test_one_step_with_keep_best_is_fgsm():
    """On a linear loss the one step is better than the start: keep_best must return it, and not the start."""
    kept = untargeted(pgd(linf(0.1), 0.1, 1, random_start=False, keep_best=True), margin())
    plain = untargeted(fgsm(linf(0.1), 0.1), margin())
    for x, y, key in zip(X, Y, KEYS, strict=True):
        np.testing.assert_array_equal(kept(CLASSIFIER, x, y, key), plain(CLASSIFIER, x, y, key))
