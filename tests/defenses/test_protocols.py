"""Protocols on classifiers that are right with a known probability."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.attacks import linf, margin, pgd, untargeted
from jaxdiff.defenses.protocols import (
    at_least,
    attacked,
    average,
    judge,
    known_randomness,
    majority,
    one_shot,
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
    every = lambda key: [judge(protocol, classifier, X, Y, key) for protocol in protocols]  # noqa: E731
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
        broken = lambda x, key, value=value: jnp.array([0.0, value, 0.0])  # noqa: E731
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

    run = lambda protocol: jax.jit(jax.vmap(lambda key: stands(protocol, key)))(  # noqa: E731
        jax.random.split(jax.random.key(0), 200)
    )
    unknown, known = run(one_shot()), run(known_randomness(one_shot()))
    assert jnp.mean(known.verdict) == 0.0
    assert jnp.mean(unknown.verdict) > 0.5
    assert jnp.mean(known.final) > 0.5  # the independent draw was not attacked


def test_known_randomness_is_the_judges():
    """`attacked` gives the mean logits of exactly the judge's draws, whatever key the attack uses."""
    noisy = lambda x, key: x + jax.random.normal(key, x.shape)  # noqa: E731
    shows = known_randomness(average(3))
    seen = attacked(shows, noisy, jax.random.key(5))
    np.testing.assert_array_equal(seen(X, jax.random.key(1)), seen(X, jax.random.key(2)))
    drawn = []
    spy = shows._replace(verdict=lambda logits, correct, y: drawn.append(logits) or jnp.mean(logits))
    judge(spy, noisy, X, Y, jax.random.key(5))
    np.testing.assert_allclose(seen(X, jax.random.key(1)), jnp.mean(drawn[0], axis=0), rtol=1e-6)
    assert attacked(average(3), noisy, jax.random.key(5)) is noisy


@pytest.mark.parametrize("make", [lambda: average(0), lambda: at_least(3, 2), lambda: majority(0)])
def test_bad_numbers_are_refused(make):
    with pytest.raises(ValueError, match=r"n >= 1|k <= n"):
        make()
