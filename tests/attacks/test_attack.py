"""Attacks, objectives and function transforms on classifiers whose answers are known."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rows import slow_but

from jaxdiff.attacks import (
    apgd,
    bpda,
    cross_entropy,
    defend,
    eot,
    kl,
    linf,
    margin,
    multi_targeted,
    pgd,
    restarts,
    square_linf,
    targeted,
    targeted_margin,
    untargeted,
)
from jaxdiff.defenses import attackers_view

W = jax.random.normal(jax.random.key(3), (3, 8))
X = jnp.full((8,), 0.5)
LABEL = jnp.asarray(int(jnp.argmax(W @ X)))
OBJECTIVES = {"cross_entropy": cross_entropy(), "margin": margin()}


def _linear(x, key):
    return W @ x


def _attack(radius, objective=None, steps=80):
    objective = objective or margin()
    return untargeted(pgd(linf(radius), radius / 10, steps, keep_best=True), objective)


def _minimal_radius():
    """The smallest L-infinity radius that changes the class of the linear model: min margin / |w_j - w_y|_1."""
    gaps = [(W[LABEL] - W[j]) @ X / jnp.sum(jnp.abs(W[LABEL] - W[j])) for j in range(3) if j != LABEL]
    return float(min(gaps))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_linear_model_falls_exactly_at_its_margin(objective, key):
    minimal = _minimal_radius()
    for factor, falls in ((0.97, False), (1.03, True)):
        x_adv = _attack(factor * minimal, OBJECTIVES[objective])(_linear, X, LABEL, key)
        assert bool(jnp.argmax(W @ x_adv) != LABEL) is falls


@pytest.mark.slow
def test_stronger_is_never_weaker(key):
    """The loss that pgd reaches grows with radius, with steps (of the best iterate), and with restarts."""
    bent = lambda x, key: jnp.tanh(W @ x) + 0.1 * W @ x
    wavy = lambda x, key: jnp.sin(3 * W @ x) + W @ x
    height = lambda f, attack: float(jax.jit(lambda: margin()(f(attack(f, X, LABEL, key), key), LABEL))())
    by_radius = [height(bent, _attack(r)) for r in (0.05, 0.1, 0.2, 0.4)]
    by_steps = [height(wavy, _attack(0.3, steps=n)) for n in (1, 5, 25)]
    by_restarts = [height(wavy, restarts(_attack(0.3, steps=1), n)) for n in (1, 2, 16)]
    for heights in (by_radius, by_steps, by_restarts):
        assert heights == sorted(heights) and heights[0] < heights[-1]


def test_targeted_reaches_its_target(key):
    for target in range(3):
        attack = targeted(pgd(linf(0.5), 0.05, 60), cross_entropy())
        assert jnp.argmax(W @ attack(_linear, X, jnp.asarray(target), key)) == target


def test_more_restarts_hold_the_fewer(key):
    """For every key: n + 1 runs are never worse than n, the single run without restarts included."""
    wavy = lambda x, key: jnp.sin(3 * W @ x) + W @ x
    start = untargeted(pgd(linf(0.3), 0.0, 1), margin())  # a random start and nothing else
    keys = jax.random.split(key, 50)
    heights = [
        jax.jit(jax.vmap(lambda k: margin()(wavy(restarts(start, n)(wavy, X, LABEL, k), k), LABEL)))(keys)
        for n in (1, 2, 3, 4)
    ]
    for fewer, more in itertools.pairwise(heights):
        assert jnp.all(more >= fewer) and jnp.any(more > fewer)


@pytest.mark.parametrize("stepwise", slow_but([False, True], False))
def test_restarts_of_a_targeted_attack_reach_more(stepwise, key):
    """Random starts alone reach a rare class now and then; of eight, one that has is kept."""
    ascent = square_linf(0.3, 1) if stepwise else pgd(linf(0.3), 0.0, 1)
    rarest = jnp.argmin(W @ X)
    shifted = lambda x, key: W @ x.ravel() - 0.6 * (W @ X)
    x, keys = X.reshape(2, 4, 1), jax.random.split(key, 64)

    def reached(n):
        attack = restarts(targeted(ascent, margin()), n)
        found = jax.jit(jax.vmap(lambda k: attack(shifted, x, rarest, k)))(keys)
        return jnp.mean(jax.vmap(lambda x: jnp.argmax(shifted(x, key)) == rarest)(found))

    assert 0.0 < reached(1) < reached(8)


def test_restarts_keep_the_best_of_independent_runs(key):
    """With one step from random starts, the best of n beats the median of single runs, and NaN runs lose."""
    noisy = untargeted(pgd(linf(0.3), 0.0, 1), margin())  # a random start and nothing else
    height = lambda attack: jax.jit(lambda k: margin()(W @ attack(_linear, X, LABEL, k), LABEL))
    singles = jax.vmap(height(noisy))(jax.random.split(key, 32))
    best = height(restarts(noisy, 32))(key)
    assert best > np.quantile(singles, 0.75)

    def sometimes_nan(classifier, x, y, key):
        return jnp.where(jax.random.bernoulli(key), jnp.nan, x)

    found = jax.jit(lambda: restarts(sometimes_nan, 16)(_linear, X, LABEL, key))()
    assert jnp.all(jnp.isfinite(found))


def test_restarts_of_steps_need_no_objective():
    """They know their best point themselves, whatever their objective looks like."""
    attack = multi_targeted(apgd(linf(0.1), 2), targeted_margin(), 1)
    assert restarts(attack, 3).steps == 3 * attack.steps and restarts(attack, 1) is attack


def test_objectives_take_more_than_they_need():
    """Whatever can be called as (logits, y) is an objective."""
    for objective in (lambda logits, y, **more: logits[0], lambda logits, y=None: logits[0]):
        untargeted(apgd(linf(0.1), 2), objective)


def test_objectives_are_their_definitions():
    logits = jnp.array([3.0, 2.0, 5.0, 1.0])
    p = np.exp(logits) / np.exp(logits).sum()
    assert cross_entropy()(logits, jnp.asarray(1)) == pytest.approx(-np.log(p[1]), rel=1e-6)
    assert margin()(logits, jnp.asarray(1)) == 3.0
    assert margin()(logits, jnp.asarray(2)) == -2.0
    other = jnp.array([0.0, 1.0, 0.5, -1.0])
    q = np.exp(other) / np.exp(other).sum()
    assert kl()(other, logits) == pytest.approx(np.sum(p * np.log(p / q)), rel=1e-5)
    assert kl()(logits, logits) == pytest.approx(0.0, abs=1e-6)
    assert jnp.isfinite(cross_entropy()(1e4 * logits, jnp.asarray(3)))
    assert margin()(logits[:2], jnp.asarray(0)) == -1.0
    with pytest.raises(ValueError, match="two classes"):
        margin()(logits[:1], jnp.asarray(0))


def test_eot_is_the_expectation(key):
    """Means and gradients over many keys converge to those of the expected function."""
    function = lambda x, key: jnp.square(x + jax.random.normal(key, x.shape))  # E = x^2 + 1
    mean = eot(function, 20_000)
    np.testing.assert_allclose(mean(X, key), X**2 + 1, atol=0.1)
    gradient = jax.grad(lambda x: jnp.sum(mean(x, key)))(X)
    np.testing.assert_allclose(gradient, 2 * X, atol=0.06)
    np.testing.assert_allclose(eot(function, 10, batch_size=3)(X, key), eot(function, 10)(X, key), rtol=1e-5)
    np.testing.assert_allclose(eot(_linear, 5)(X, key), W @ X, rtol=1e-5)
    with pytest.raises(ValueError, match="n as a whole number >= 1"):
        eot(function, 0)


def test_bpda_is_the_defense_forward_and_the_identity_backward(key):
    defense = lambda x, key: jnp.round(x * 7) / 7 + 0.01 * jax.random.normal(key, x.shape)
    straight = bpda(defense)
    np.testing.assert_array_equal(straight(X, key), defense(X, key))
    cotangent = jnp.arange(8.0)
    np.testing.assert_array_equal(jax.vjp(lambda x: straight(x, key), X)[1](cotangent)[0], cotangent)


def test_views_of_the_attacker(key):
    """exact: the chain rule; bpda: the classifier's gradient where the defense leads; blind: no defense at all."""
    defense = lambda x, key: jnp.tanh(3 * x) + 0.1 * jax.random.normal(key, x.shape)
    classifier = lambda x, key: jnp.sin(W @ x)
    defended = defend(classifier, defense)
    purified = defense(X, jax.random.split(key)[0])
    inner = jax.jacobian(lambda x: classifier(x, key))(purified)
    views = {g: attackers_view(classifier, defense, g) for g in ("exact", "bpda", "blind")}
    jacobians = {g: jax.jacobian(lambda x: v(x, key))(X) for g, v in views.items()}
    np.testing.assert_allclose(
        jacobians["exact"], inner * 3 / np.cosh(3 * X)[None] ** 2, rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(jacobians["bpda"], inner, rtol=1e-5)
    np.testing.assert_allclose(jacobians["blind"], jax.jacobian(lambda x: classifier(x, key))(X), rtol=1e-6)
    np.testing.assert_allclose(views["exact"](X, key), defended(X, key))
    np.testing.assert_allclose(views["bpda"](X, key), defended(X, key))
    with pytest.raises(ValueError, match=r"'adjoint'.*blind"):
        attackers_view(classifier, defense, "adjoint")


def test_adaptive_beats_blind_on_a_known_defense(key):
    """A defense that flips the image fools an attacker who does not know it, and no other."""
    flip = lambda x, key: 1.0 - x
    label = jnp.argmax(W @ (1 - X))
    radius = 0.3
    heights = {}
    for gradient in ("exact", "blind"):
        view = attackers_view(_linear, flip, gradient)
        x_adv = _attack(radius)(view, X, label, key)
        heights[gradient] = margin()(defend(_linear, flip)(x_adv, key), label)
    assert heights["exact"] > 0 > heights["blind"]
