"""Protocols on classifiers that are right with a known probability."""

import functools
import itertools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rows import slow_but

from jaxdiff.attacks import apgd, linf, margin, pgd, restarts, square_linf, untargeted
from jaxdiff.defenses.protocols import (
    Judgement,
    at_least,
    attacked,
    average,
    final_draw,
    judge,
    known_randomness,
    known_to,
    majority,
    one_shot,
    standing,
    worst_of,
)

N = 1000
X, Y = jnp.zeros(4), jnp.asarray(1)


def _right_with(p, classes=2):
    """Says the true class 1 with probability p, else one of the others."""

    def classifier(x, key):
        luck_key, other_key = jax.random.split(key)
        other = jax.random.randint(other_key, (), 2, classes + 1) % classes
        return 5.0 * jax.nn.one_hot(jnp.where(jax.random.uniform(luck_key) < p, 1, other), classes)

    return classifier


def _judged(classifier, *protocols):
    """The judgements of N examples by each of the protocols."""
    every = lambda key: [judge(protocol, classifier, X, Y, key) for protocol in protocols]
    return jax.jit(jax.vmap(every))(jax.random.split(jax.random.key(0), N))


def _verdicts(classifier, *protocols):
    return [judged.verdict for judged in _judged(classifier, *protocols)]


def test_of_one_draw_all_protocols_agree():
    once, *others = _verdicts(
        _right_with(0.6), one_shot(), average(1), worst_of(1), majority(1), at_least(1, 1)
    )
    assert jnp.mean(once) == pytest.approx(0.6, abs=0.05)
    for verdict in others:
        np.testing.assert_array_equal(verdict, once)


def test_worst_average_best_on_every_example():
    """And worst_of(n) can only fall as n grows, because the first draws stay."""
    protocols = worst_of(4), average(4), at_least(1, 4), worst_of(2)
    worst, mean, best, worst_2 = _verdicts(_right_with(0.8), *protocols)
    assert jnp.all(worst <= mean) and jnp.all(mean <= best) and jnp.all(worst <= worst_2)
    for verdicts, expected in ((worst_2, 0.64), (worst, 0.8**4), (mean, 0.8), (best, 1 - 0.2**4)):
        assert jnp.mean(verdicts) == pytest.approx(expected, abs=0.05)


def test_a_vote_of_k_of_n_is_binomial():
    shares = [float(jnp.mean(v)) for v in _verdicts(_right_with(0.5), at_least(3, 4), at_least(2, 4))]
    assert shares == pytest.approx([5 / 16, 11 / 16], abs=0.05)


def test_majority_of_a_slightly_good_classifier_becomes_right():
    """Condorcet: p = 0.6 of two classes; with ten classes p = 0.35 is enough, if the others share the rest."""
    protocols = [majority(n) for n in (1, 11, 51, 2)]
    *shares, tied = [float(jnp.mean(v)) for v in _verdicts(_right_with(0.6), *protocols)]
    assert shares == sorted(shares) and shares[1] > 0.7 and shares[2] > 0.9
    assert tied == pytest.approx(0.36, abs=0.05)  # one vote each is no majority
    (plural,) = _verdicts(_right_with(0.35, 10), majority(51))
    assert jnp.mean(plural) > 0.95


def test_final_is_independent_of_what_was_selected():
    """Among the survivors of a vote a random classifier is no better than it was."""
    (judged,) = _judged(_right_with(0.5), worst_of(3))
    assert jnp.mean(judged.final[judged.verdict == 1]) == pytest.approx(0.5, abs=0.12)
    assert jnp.mean(judged.final) == pytest.approx(0.5, abs=0.05)


def test_logits_that_are_not_finite_are_lost():
    """Also where argmax would name the true class."""
    for value in (jnp.nan, jnp.inf):
        broken = lambda x, key, value=value: jnp.array([0.0, value, 0.0])
        for judged in _judged(broken, one_shot(), at_least(1, 3), majority(3)):
            assert not jnp.any(judged.verdict) and not jnp.any(judged.correct) and not jnp.any(judged.final)


def test_who_knows_the_randomness_attacks_the_draw_that_counts():
    """Noise hides the sign of a linear classifier's gradient from all but the attacker who knows the draw."""

    def scrambled(x, key):
        signs = jax.random.rademacher(key, x.shape, x.dtype)
        return jnp.stack([jnp.sum(signs * (0.5 - x)), 1.0])

    attack = untargeted(pgd(linf(0.4), 0.1, 8, random_start=False), margin())
    x = jnp.full(16, 0.5)

    def stands(protocol, key):
        x_adv = attack(attacked(protocol, scrambled, key), x, Y, key)
        return judge(protocol, scrambled, x_adv, Y, key)

    run = lambda protocol: jax.jit(jax.vmap(lambda key: stands(protocol, key)))(
        jax.random.split(jax.random.key(0), 200)
    )
    unknown, known = run(one_shot()), run(known_randomness(one_shot()))
    assert jnp.mean(known.verdict) == 0.0
    assert jnp.mean(unknown.verdict) > 0.5
    assert jnp.mean(known.final) > 0.5  # the independent draw was not attacked


def test_known_randomness_is_the_judges():
    """`attacked` gives the mean logits of exactly the judge's draws, whatever key the attack uses."""
    noisy = lambda x, key: x + jax.random.normal(key, x.shape)
    shows = known_randomness(average(3))
    seen = attacked(shows, noisy, jax.random.key(5))
    np.testing.assert_array_equal(seen(X, jax.random.key(1)), seen(X, jax.random.key(2)))
    drawn = []
    spy = shows._replace(verdict=lambda logits, correct, y: drawn.append(logits) or jnp.mean(logits))
    judge(spy, noisy, X, Y, jax.random.key(5))
    np.testing.assert_allclose(seen(X, jax.random.key(1)), jnp.mean(drawn[0], axis=0), rtol=1e-6)
    assert attacked(average(3), noisy, jax.random.key(5)) is noisy


PROTOCOLS = {
    "one_shot": one_shot(),
    "average": average(3),
    "worst_of": worst_of(3),
    "at_least": at_least(2, 3),
    "majority": majority(3),
    "known_randomness": known_randomness(at_least(2, 3)),
    "known shares": known_randomness(average(3)),
}
NO, YES, BROKEN, INFINITE = range(4)
ANSWERS = jnp.array(  # by answer, for the label 1: argmax names it in three of them
    [[5.0, 0.0, 1.0], [0.0, 5.0, 1.0], [0.0, jnp.nan, 1.0], [0.0, jnp.inf, 1.0]]
)


def _scripts(answers, draws):
    """All sequences of so many answers, [n, draws]."""
    return np.array(list(itertools.product(answers, repeat=draws)))


def _on(protocol, script):
    """The judgement of a protocol whose draws answer as the script says."""
    logits = ANSWERS[script]
    correct = script == YES
    verdict = protocol.verdict(logits, correct, Y)
    return Judgement(verdict, logits, correct, correct[0], jnp.all(script < BROKEN))


def _by_hand(name, script):
    """What the docstring of the module says of a script."""
    right = np.sum(script == YES)
    share, half = (
        right / len(script),
        right > np.sum(script == NO),
    )  # of two classes; what is broken does not vote
    verdicts = {"one_shot": share, "average": share, "known shares": share, "worst_of": share == 1.0}
    return float(
        (verdicts | {"at_least": right >= 2, "known_randomness": right >= 2, "majority": half})[name]
    )


@pytest.mark.parametrize("name", slow_but(PROTOCOLS, "one_shot", "average", "at_least", "majority"))
def test_what_stands_is_the_product_of_before_and_after(name):
    """For all pairs of scripts: of a verdict the product, of a share the draws that are right in both."""
    protocol = PROTOCOLS[name]
    scripts = _scripts((NO, YES, BROKEN), protocol.draws)
    every = lambda f: jax.vmap(jax.vmap(f, (None, 0)), (0, None))
    one = lambda a, b: standing(protocol, _on(protocol, a), _on(protocol, b), Y)
    stands = np.asarray(jax.jit(every(one))(scripts, scripts))
    shares = name in ("one_shot", "average", "known shares")
    for before, row in zip(scripts, stands, strict=True):
        for after, stand in zip(scripts, row, strict=True):
            both = np.where((before == YES) & (after == YES), YES, NO)
            product = _by_hand(name, before) * _by_hand(name, after)
            expected = _by_hand(name, both) if shares else product
            assert stand == pytest.approx(expected, abs=1e-6)
    assert 0.0 < stands.mean() < 1.0


def test_worst_average_and_best_on_every_script():
    """The verdicts by hand, and their order, also with draws that are not finite."""
    scripts = _scripts((NO, YES, BROKEN, INFINITE), 4)
    protocols = {"worst": worst_of(4), "mean": average(4), "two": at_least(2, 4), "best": at_least(1, 4)}
    judged = jax.jit(
        jax.vmap(lambda s: {k: p.verdict(ANSWERS[s], s == YES, Y) for k, p in protocols.items()})
    )
    found = {name: np.asarray(v) for name, v in judged(scripts).items()}
    right = np.sum(scripts == YES, axis=1)
    for name, expected in (
        ("worst", right == 4),
        ("mean", right / 4),
        ("two", right >= 2),
        ("best", right >= 1),
    ):
        np.testing.assert_array_equal(found[name], expected)
    assert np.all(found["worst"] <= found["mean"]) and np.all(found["mean"] <= found["best"])


def test_votes_are_counted_and_ties_are_lost():
    """Of 4 draws over 3 classes, whichever is the true one; a broken draw votes for none."""
    votes = _scripts(range(4), 4)  # the fourth is broken
    logits = jnp.concatenate([jnp.eye(3), jnp.array([[jnp.nan, 0.0, 0.0]])])
    one = lambda vote, y: majority(4).verdict(logits[vote], vote == y, y)
    for y in range(3):
        found = jax.jit(jax.vmap(one, (0, None)))(votes, jnp.asarray(y))
        counts = np.stack([np.sum(votes == c, axis=1) for c in range(3)])
        others = np.max(np.delete(counts, y, axis=0), axis=0)
        np.testing.assert_array_equal(found, counts[y] > others)


def _told(key):
    """The bits of a key as four whole numbers that float32 holds: logits that say which key was used."""
    data = jax.random.key_data(key)
    return jnp.concatenate([data >> 16, data & 0xFFFF]).astype(jnp.float32)


def _key_of(logits):
    return tuple(int(v) for v in logits)


def _telling(x, key):
    """A random classifier, whose logits are the bits of its key; it moves with the image."""
    return _told(key) + 0.0 * jnp.sum(x)


def test_a_draw_that_breaks_is_not_finite_whichever_it_is():
    """One of those of the verdict, or the independent one, which the verdict does not know."""
    key, protocol = jax.random.key(7), at_least(1, 3)
    judged = judge(protocol, _telling, X, Y, key)
    draws = [*judged.logits, final_draw(_telling, X, key)]
    assert judged.finite

    def breaking(x, key, bad):
        return jnp.where(jnp.all(_told(key) == bad), jnp.nan, jnp.array([0.0, 1.0]))

    for i, bad in enumerate(draws):
        judged = judge(protocol, lambda x, key, bad=bad: breaking(x, key, bad), X, Y, key)
        assert not judged.finite and judged.verdict == 1.0
        assert judged.final == (i < 3) and jnp.sum(judged.correct) == (3 if i == 3 else 2)


ATTACKS = {
    "pgd": untargeted(pgd(linf(0.1), 0.01, 300, keep_best=True), margin()),
    "restarts": restarts(untargeted(pgd(linf(0.1), 0.01, 20), margin()), 10),
    "apgd": untargeted(apgd(linf(0.1), 100), margin()),
    "square": untargeted(square_linf(0.1, 300), margin()),
}


@pytest.mark.parametrize("name", slow_but(ATTACKS, "pgd"))
def test_the_judge_draws_what_no_attacker_has_seen(name):
    """From the same key, whatever the number of steps and draws; known randomness is exactly the judge's."""
    seen, key, x = set(), jax.random.key(11), jnp.full((3, 3, 1), 0.5)

    def watched(x, key):
        logits = _telling(x, key)
        jax.debug.callback(lambda values: seen.update(map(_key_of, np.atleast_2d(values))), logits)
        return logits

    def keys_seen(classifier):
        seen.clear()
        jax.block_until_ready(jax.jit(lambda x, key: ATTACKS[name](classifier, x, Y, key))(x, key))
        jax.effects_barrier()
        return set(seen)

    judged = judge(worst_of(500), _telling, x, Y, key)
    draws, final = {_key_of(z) for z in judged.logits}, _key_of(final_draw(_telling, x, key))
    assert len(draws) == 500 and final not in draws
    attacker = keys_seen(watched)
    assert len(attacker) > 90 and not attacker & (draws | {final})
    if name == "pgd":
        shown = attacked(known_randomness(worst_of(7)), watched, key)
        assert keys_seen(shown) == {_key_of(z) for z in judged.logits[:7]}


@pytest.mark.parametrize("name", slow_but(PROTOCOLS, "average", "majority", "known_randomness"))
def test_what_is_no_example_is_neither_robust_nor_fallen(name):
    """Where values are traced: NaN, not finite, and standing nowhere; the other examples keep their verdicts."""
    protocol = PROTOCOLS[name]
    x, y = jnp.full((6, 4), 0.5), jnp.full(6, 1)
    bad_x = x.at[1, 0].set(1.5).at[2, 1].set(-0.01).at[3, 3].set(jnp.nan)
    bad_y = y.at[4].set(2).at[5].set(-1)
    clear = lambda x, key: jnp.stack([jnp.sum(x), 10.0])

    @jax.jit
    @jax.vmap
    def found(x, x_bad, y):
        key = jax.random.key(0)
        good, bad = (judge(protocol, clear, image, y, key) for image in (x, x_bad))
        return bad, standing(protocol, good, bad, y), standing(protocol, bad, good, y)

    judged, *stands = found(x, bad_x, bad_y)
    for values in (judged.verdict, *stands):
        assert values[0] == 1.0 and jnp.all(jnp.isnan(values[1:]))
    assert judged.finite[0] and judged.final[0] and jnp.all(judged.correct[0])
    assert not jnp.any(judged.finite[1:] | judged.final[1:] | jnp.any(judged.correct[1:], axis=1))


@pytest.mark.parametrize("dtype", slow_but(["bfloat16", "float16", "float32", "float64"], "bfloat16"))
def test_verdicts_in_every_precision(dtype, x64):
    """999 draws of 1000 are not all of them, nor is a vote won by one of 2001 lost in rounding."""
    correct = jnp.arange(1000) > 0
    logits = jax.nn.one_hot(correct.astype(int), 2, dtype=dtype)
    assert average(1000).verdict(logits, correct, Y) == pytest.approx(0.999, abs=1e-6)
    assert average(1000).verdict(logits, correct | True, Y) == 1.0
    assert at_least(999, 1000).verdict(logits, correct, Y) == 1.0
    assert worst_of(1000).verdict(logits, correct, Y) == 0.0
    votes = jax.nn.one_hot(jnp.arange(2001) % 2, 2, dtype=dtype)
    assert [majority(2001).verdict(votes, votes[:, 0] > 0, jnp.asarray(y)) for y in (0, 1)] == [1.0, 0.0]
    for protocol in PROTOCOLS.values():
        judged = judge(protocol, lambda x, key: x, jnp.array([0.1, 0.9, 0.2], dtype), Y, jax.random.key(0))
        assert judged.verdict == 1.0 and judged.finite and judged.final


def test_a_protocol_is_a_value():
    """Equal protocols hash alike, pickle, and are one static argument."""
    traces = []

    @functools.partial(jax.jit, static_argnums=0)
    def verdict(protocol, x):
        traces.append(protocol)
        return judge(protocol, lambda x, key: x, x, Y, jax.random.key(0)).verdict

    makers = [
        lambda: average(2),
        lambda: at_least(1, 3),
        lambda: at_least(2, 3),
        lambda: majority(3),
        lambda: known_randomness(worst_of(2)),
    ]
    for make in makers:
        again = pickle.loads(pickle.dumps(make()))
        assert again == make() and hash(again) == hash(make())
        assert verdict(again, jnp.array([0.2, 0.9])) == verdict(make(), jnp.array([0.2, 0.9])) == 1.0
    assert len(traces) == len(makers) == len(set(traces))


def test_numpy_is_as_good_as_jax():
    x, key = np.array([0.2, 0.9], np.float32), jax.random.key(0)
    for y in (np.int64(1), 1, np.array(1, np.int16)):
        assert judge(worst_of(2), lambda x, key: x, x, y, key).verdict == 1.0


def test_known_randomness_is_shown_to_every_kind_of_attack():
    """A plain attack and one in steps meet the judge's mean; without it they are left alone."""
    noisy = lambda x, key: x[:2] + jax.random.uniform(key, (2,))
    key, known = jax.random.key(3), known_randomness(average(3))
    expected = jnp.mean(judge(known, noisy, X, Y, key).logits, axis=0)
    plain = lambda classifier, x, y, key: x.at[:2].set(classifier(x, jax.random.key(8)))
    np.testing.assert_allclose(known_to(known, plain)(noisy, X, Y, key)[:2], expected, rtol=1e-6)
    assert known_to(average(3), plain) is plain
