"""The battery trips on classifiers that hide their gradient, and on no smooth one."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.attacks import linf, margin, pgd, untargeted
from jaxdiff.defenses.masking import margin_pgd, masking_battery
from jaxdiff.defenses.symptoms import (
    eot_noise,
    huge_radius,
    queries_against_gradients,
    signal_to_noise,
    steps_curve,
)

KEY = jax.random.key(0)
W1 = 0.5 * jax.random.normal(jax.random.key(1), (16, 16))
W2 = jax.random.normal(jax.random.key(2), (4, 16))
IMAGES = jax.random.uniform(jax.random.key(3), (32, 4, 4, 1))


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Compiling takes nearly all of the time here."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def _smooth(x, key):
    return W2 @ jnp.tanh(W1 @ (x.ravel() - 0.5))


def _linear(x, key):
    return W2 @ (x.ravel() - 0.5)


LABELS = jax.jit(jax.vmap(lambda x: jnp.argmax(_smooth(x, KEY))))(IMAGES)


def _battery(classifier, **kwargs):
    settings = {"steps": (1, 8), "restarts": 2} | kwargs
    return masking_battery(classifier, IMAGES, LABELS, KEY, 0.1, **settings)


def test_a_smooth_classifier_trips_nothing():
    battery = _battery(_smooth)
    assert battery.tripped == [] and "No check tripped" in str(battery)
    values = {check.name: check.value for check in battery.checks}
    assert values["eot_noise"] == np.inf and values["randomness"] == 0.0
    assert values["black_box"] <= 0.0  # gradients find all that queries find


def test_a_quantised_classifier_is_unmasked():
    battery = _battery(lambda x, key: _smooth(jnp.round(4 * x) / 4, key))
    assert {"zero_gradients", "flat_dlr", "huge_radius", "black_box"} <= set(battery.tripped)
    assert "Gradient masking is likely" in battery.verdict
    shares = {check.name: check.value for check in battery.checks}
    assert shares["zero_gradients"] == shares["flat_dlr"] == 1.0


def test_a_noisy_classifier_is_seen_to_be_random():
    noisy = lambda x, key: _smooth(x + 8.0 * jax.random.normal(key, x.shape), key)  # noqa: E731
    battery = _battery(noisy, black_box=lambda radius: margin_pgd(radius, 1))
    assert {"eot_noise", "randomness"} <= set(battery.tripped)
    assert "average" in battery.verdict and "random" in battery.verdict


def test_an_attack_that_goes_the_wrong_way_is_noticed():
    """Descending in place of climbing: queries win, more steps protect, and no radius is large enough."""

    def backward(radius, steps):
        attack = margin_pgd(radius, steps)
        return lambda classifier, x, y, key: attack(lambda x, key: -classifier(x, key), x, y, key)

    assert {"black_box", "huge_radius"} <= set(_battery(_smooth, white_box=backward).tripped)


def test_an_attack_that_more_steps_do_not_help_is_noticed():
    """The gradient is right at the images and 0 after the first step: accuracy is flat, and queries know better."""

    def trap(x, key):
        at_home = jnp.any(jnp.all(x[None] == IMAGES, (1, 2, 3)))
        return _smooth(jnp.where(at_home, x, jax.lax.stop_gradient(x)), key)

    def small_steps(radius, steps):
        return untargeted(pgd(linf(radius), radius / 8, steps, random_start=False), margin())

    battery = _battery(trap, white_box=small_steps, steps=(1, 16), draws=2)
    assert "steps" in battery.tripped and not {"zero_gradients", "flat_dlr"} & set(battery.tripped)
    assert "Gradient masking is likely: steps" in battery.verdict and "flat" in str(battery)


def test_a_flat_curve_with_nothing_to_gain_trips_nothing():
    """One step reaches the optimum of a linear model, so more do not help: that is no masking."""
    labels = jax.jit(jax.vmap(lambda x: jnp.argmax(_linear(x, KEY))))(IMAGES)
    battery = masking_battery(_linear, IMAGES, labels, KEY, 0.1, steps=(1, 8), restarts=2, draws=2)
    assert battery.tripped == []
    curve = next(check.words for check in battery.checks if check.name == "steps")
    accuracies = set(re.findall(r"\d+%", curve))
    assert len(accuracies) == 1 and accuracies != {"0%"}, "the curve should be flat here, above 0"


def test_signal_to_noise_is_that_of_the_draws():
    """Gradients m + s z in d dimensions: |m|^2 / (d s^2) for one draw, four times that for means of four."""
    d, m, s = 50, 0.5, 2.0
    draws = m + s * jax.random.normal(KEY, (4000, d))
    expected = m**2 / s**2
    assert signal_to_noise(draws) == pytest.approx(expected, rel=0.05)
    assert signal_to_noise(draws.reshape(1000, 4, d).mean(1)) == pytest.approx(4 * expected, rel=0.05)
    pure = jax.random.normal(KEY, (200, 16, d))  # no signal at all: the estimate is without bias
    assert np.median(jax.vmap(signal_to_noise)(pure)) < 0.01
    assert signal_to_noise(jnp.ones((4, d))) == jnp.inf


def test_thresholds():
    steps = (1, 10, 50)
    assert not steps_curve([0.6, 0.3, 0.3], steps, 0.0, 0.05).tripped
    assert steps_curve([0.3, 0.2, 0.4], steps, 0.0, 0.05).tripped
    assert steps_curve([0.6, 0.6, 0.6], steps, 0.3, 0.05).tripped  # flat, and queries find more
    assert not steps_curve([0.6, 0.6, 0.6], steps, 0.0, 0.05).tripped  # flat, and nobody finds more
    assert not steps_curve([0.6, 0.3, 0.3], steps, 0.3, 0.05).tripped  # the business of `black_box`
    assert huge_radius(0.1, 0.05).tripped and not huge_radius(0.0, 0.05).tripped
    assert queries_against_gradients(0.5, 0.3, 0.05).tripped
    assert not queries_against_gradients(0.3, 0.5, 0.05).tripped
    weak = eot_noise(np.array([0.01, 0.01, 5.0]))
    assert weak.tripped and "100 draws" in weak.words
    assert not eot_noise(np.array([0.5])).tripped and "no signal" in eot_noise(np.zeros(3)).words


def test_settings_that_measure_nothing_are_refused():
    for settings in ({"steps": (8, 1)}, {"steps": (8,)}, {"restarts": 1}, {"draws": 1}):
        with pytest.raises(ValueError, match="growing numbers of steps"):
            _battery(_smooth, **settings)
    with pytest.raises(ValueError, match="none of these images right"):
        _battery(
            lambda x, key: -jax.nn.one_hot(LABELS[0], 4) + 0.0 * x.sum() + jnp.array([0.0, 0, 0, jnp.nan])
        )
