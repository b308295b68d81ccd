"""The battery trips on classifiers that hide their gradient, and on no smooth one."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import luck
from rows import slow_but

from jaxdiff.attacks import cross_entropy, linf, margin, pgd, untargeted
from jaxdiff.defenses import masking
from jaxdiff.defenses.masking import _examined, _stands, margin_pgd, masking_battery
from jaxdiff.defenses.symptoms import (
    eot_noise,
    huge_radius,
    queries_against_gradients,
    randomness,
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


def _battery(classifier, labels=LABELS, **kwargs):
    settings = {"steps": (1, 8), "restarts": 2} | kwargs
    return masking_battery(classifier, IMAGES, labels, KEY, 0.1, **settings)


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
    noisy = lambda x, key: _smooth(x + 8.0 * jax.random.normal(key, x.shape), key)
    battery = _battery(noisy, black_box=lambda radius: margin_pgd(radius, 1))
    assert {"eot_noise", "randomness"} <= set(battery.tripped)
    assert "average" in battery.verdict and "random" in battery.verdict


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
    assert randomness(np.arange(32) == 5).tripped and not randomness(np.zeros(32, bool)).tripped
    assert not eot_noise(np.array([0.5])).tripped and "no signal" in eot_noise(np.zeros(3)).words


def _scaled(scale):
    """Confidence by a factor inside the classifier, as a number that is no power of two makes it."""
    return lambda x, key: scale * _smooth(x, key)


def _saturated(scale):
    """Which images have 1 - p_y < 2^-24, in float64."""
    z = scale * np.asarray(jax.jit(jax.vmap(lambda x: _smooth(x, KEY)))(IMAGES), np.float64)
    rivals = np.array([np.delete(row, y) - row[y] for row, y in zip(z, LABELS, strict=True)])
    return np.logaddexp.reduce(rivals, axis=1) < -24 * np.log(2)


def _seen(classifier, images=IMAGES, labels=LABELS, draws=2):
    keys = jax.random.split(KEY, len(images))
    return jax.jit(jax.vmap(_examined(classifier, draws)))(images, labels, keys)


def _twins(x, key):
    """Two classes that are always equal: the DLR of the other one is -1."""
    return jnp.asarray(np.asarray(W2)[[0, 1, 1]]) @ jnp.tanh(W1 @ (x.ravel() - 0.5))


def _noisy_cross_entropy():
    """What a compiler makes of it: a gradient in the logits with rounding errors of their size, of any sign."""

    def objective(logits, y):
        noise = jnp.finfo(logits.dtype).eps * jnp.sin(1e3 * logits) * logits
        return cross_entropy()(logits, y) + jax.lax.stop_gradient(noise) @ logits

    return objective


@pytest.mark.parametrize("width", slow_but([32, 7], 7))
@pytest.mark.parametrize("make", [cross_entropy, _noisy_cross_entropy])
def test_a_vanished_gradient_is_seen_whatever_rounding_makes_of_it(make, width, monkeypatch):
    """Exactly where float32 cannot tell p_y from 1, at any scale and width; the margin and the DLR are not starved."""
    monkeypatch.setattr(masking, "cross_entropy", make)
    compiled = jax.jit(lambda scale, x, y: _seen(_scaled(scale), x, y))
    for scale, share in ((1000.0, 1.0), (300.0, 1.0), (37.5, 0.7), (1024.0, 1.0), (1.0, 0.0)):
        expected = _saturated(scale)
        assert expected.mean() == pytest.approx(share, abs=0.15)
        found = compiled(scale, IMAGES[:width], LABELS[:width])
        np.testing.assert_array_equal(found["zero"], expected[:width])
        assert not np.any(found["flat"])


@pytest.mark.parametrize("p", slow_but([0.9, 0.9999, 1 - 1e-6], 0.9999, 1 - 1e-6))
def test_honest_confidence_is_no_masking(p):
    """Every image is given the label with probability p, by gradients as they should be."""
    gap = np.log(p / (1 - p))
    honest = lambda x, key: jnp.stack([gap + 0.1 * jnp.mean(x) - 0.05, 0.0])
    found = _seen(honest, labels=jnp.zeros(len(IMAGES), int))
    assert np.all(found["right"]) and not np.any(found["zero"] | found["flat"])


def test_a_dlr_of_rounding_errors_is_flat():
    """Its gradient is 0, or what a compiler makes of it."""
    found = _seen(_twins, labels=jnp.zeros(len(IMAGES), int))
    right = np.asarray(found["right"])
    assert right.any() and np.all(found["flat"][right]) and not np.any(found["zero"][right])


@pytest.mark.parametrize("scale", [1e30, 1e-30, 1.0])
def test_signal_to_noise_knows_no_scale_and_no_rounding(scale):
    draws = 1.0 + 0.5 * jax.random.normal(KEY, (16, 50))
    assert signal_to_noise(scale * draws) == pytest.approx(float(signal_to_noise(draws)), rel=1e-4)
    steady = scale * jax.random.normal(KEY, (50,))
    eps = jnp.finfo(jnp.float32).eps
    rounded = steady[None] * (1.0 + eps * jax.random.rademacher(KEY, (16, 50), jnp.float32))
    assert signal_to_noise(rounded) == jnp.inf and "no noise" in eot_noise(np.array([jnp.inf])).words


@pytest.mark.parametrize("dtype", slow_but(["bfloat16", "float16", "float64"], "bfloat16", "float16"))
def test_what_is_seen_in_every_precision(dtype, x64):
    """A large gradient, whose squares float16 does not hold, is neither noise nor nothing."""
    a, b = W1.astype(dtype), (30.0 * W2).astype(dtype)
    found = _seen(lambda x, key: b @ jnp.tanh(a @ (x.ravel() - 0.5)), IMAGES.astype(dtype))
    right = np.asarray(found["right"])
    assert right.mean() > 0.9 and not np.any(found["flat"][right])
    assert np.all(found["snr"] == np.inf) and not np.any(found["differs"])


def _one_pixel(margins):
    """(classifier, images, labels) with one pixel of 0.5, two classes, and the margin of delta that is given."""
    classifier = lambda x, key: jnp.stack([0.0 * jnp.sum(x), margins(jnp.sum(x) - 0.5)])
    return classifier, jnp.full((40, 1, 1, 1), 0.5), jnp.zeros(40, int)


def _hill(delta, top, height):
    return height - 4.0 * jnp.abs(delta - top)


def test_a_deceptive_loss_trips_the_restarts():
    """A hill that does not reach the boundary catches 3 of 4 starts; one of five finds the other. Without it all do."""
    deceptive = lambda d: jnp.where(d < 0.05, _hill(d, -0.05, -0.1), _hill(d, 0.09, 0.1))
    honest = lambda d: _hill(d, 0.09, 0.1)
    small_steps = lambda radius, steps: untargeted(pgd(linf(radius), radius / 20, steps), margin())
    quick = {"steps": (20, 40), "restarts": 5, "draws": 2, "white_box": small_steps}
    for margins, tripped in ((deceptive, True), (honest, False)):
        battery = masking_battery(
            *_one_pixel(margins), KEY, 0.1, black_box=lambda r: small_steps(r, 40), **quick
        )
        check = next(check for check in battery.checks if check.name == "restarts")
        assert check.tripped is tripped
        if tripped:
            one, five = (float(v) / 100 for v in re.findall(r"(\d+)%", check.words))
            assert one == pytest.approx(0.75, abs=0.2) and five == pytest.approx(0.75**5, abs=0.2)


def _gradients(radius):
    """In place of queries: it compiles faster."""
    return margin_pgd(radius, 8)


DEFECTS = {
    "flat_dlr": {"classifier": _twins, "labels": jnp.zeros(len(IMAGES), int)},
    "steps": {"white_box": lambda radius, steps: margin_pgd(radius / steps, 1)},
    "huge_radius": {"white_box": lambda radius, steps: margin_pgd(jnp.minimum(radius, 0.1), steps)},
    "black_box": {
        "white_box": lambda radius, steps: margin_pgd(jnp.where(radius < 1.0, 0.1, 1.0) * radius, steps)
    },
}


@pytest.mark.parametrize("name", DEFECTS)
def test_every_check_trips_on_its_own_defect(name):
    """And no other that does not tell of the same; the same settings without a defect trip nothing (above)."""
    settings = {"classifier": _smooth, "labels": LABELS, "black_box": _gradients} | DEFECTS[name]
    battery = _battery(draws=2, **settings)
    same = {"steps": {"huge_radius", "black_box"}, "black_box": {"steps"}}.get(name, set())
    assert name in battery.tripped and set(battery.tripped) <= {name} | same


def test_a_little_randomness_is_seen():
    """Of any size that rounding cannot have, and none in a classifier that looks at its key in vain."""
    noisy = lambda size: lambda x, key: _smooth(x, key) + size * jax.random.normal(key, (4,))
    assert np.all(_seen(noisy(1e-4))["differs"]) and not np.any(_seen(noisy(0.0))["differs"])


@pytest.mark.slow
def test_images_that_are_wrong_change_nothing():
    """Here they have no gradient and fall to nothing; one of 16 right ones would trip nothing either."""
    images = IMAGES.at[:, 0, 0, 0].set(jnp.where(jnp.arange(32) < 16, 0.5, 0.0))
    masked = lambda x, key: _smooth(jnp.where(x[0, 0, 0] < 0.2, jax.lax.stop_gradient(x), x), key)
    labels = jnp.argmax(jax.jit(jax.vmap(lambda x: masked(x, KEY)))(images), axis=1)
    labels = jnp.where(jnp.arange(32) < 16, labels, (labels + 1) % 4)
    settings = {"steps": (1, 8), "restarts": 2, "draws": 2, "black_box": _gradients}
    whole, right = (masking_battery(masked, images[:n], labels[:n], KEY, 0.1, **settings) for n in (32, 16))
    assert whole == right
    thresholds = {check.name: check.threshold for check in whole.checks}
    assert thresholds.pop("restarts") == 0.1
    for name in ("zero_gradients", "flat_dlr", "steps", "huge_radius", "black_box"):
        assert 1 / 16 < thresholds[name] < 2 / 16


def test_the_draw_of_the_judge_is_one_for_all_attacks_and_known_to_none():
    """Nothing moves: what was right stands, whatever the run. An attack that marks draws of its own hits no judge's."""
    moods = lambda x, key: jnp.stack([luck(key), 0.5 + 0.0 * jnp.sum(x)])
    labels, keys = jnp.zeros(32, int), jax.random.split(KEY, 32)
    right = _seen(moods, labels=labels)["right"]
    assert 0.2 < jnp.mean(right) < 0.8
    idle = lambda radius: lambda classifier, x, y, key: x
    marks = lambda radius: lambda classifier, x, y, key: x.at[0, 0, 0].set(luck(jax.random.fold_in(key, 0)))
    hit = lambda x, key: jnp.stack([0.5, 1.0 * (luck(key) == x[0, 0, 0])])
    for classifier, attack, expected in ((moods, idle, right), (hit, marks, right | True)):
        one = jax.jit(jax.vmap(_stands(classifier, attack), (0, 0, 0, None, None)))
        for run in (0, 3):
            np.testing.assert_array_equal(one(IMAGES, labels, keys, 0.1, jnp.asarray(run)), expected)


def test_a_gradient_that_is_not_finite_is_none_and_no_noise():
    """In one pixel of 16; the others keep their noise."""
    noisy = lambda x, key: _smooth(x + 0.1 * jax.random.normal(key, x.shape), key)
    found = _seen(lambda x, key: noisy(x, key) + jnp.sqrt(0.0 * x[0, 0, 0]), draws=8)
    assert np.all(found["zero"] & found["flat"])
    np.testing.assert_allclose(found["snr"], _seen(noisy, draws=8)["snr"], rtol=0.5)


def test_a_constant_classifier_has_no_gradient_at_all():
    found = _seen(lambda x, key: jnp.zeros(3) * jnp.sum(x), labels=jnp.zeros(len(IMAGES), int))
    assert np.all(found["right"] & found["zero"] & found["flat"])


def test_two_classes_have_a_battery():
    """Where there is no DLR the margin takes its place."""
    two = lambda x, key: _smooth(x, key)[:2]
    labels = jnp.argmax(jax.jit(jax.vmap(lambda x: two(x, KEY)))(IMAGES), axis=1)
    assert not np.any(_seen(two, labels=labels)["flat"])
    assert np.all(_seen(lambda x, key: two(jax.lax.stop_gradient(x), key), labels=labels)["flat"])


def test_a_classifier_that_is_never_right_has_nothing_to_mask():
    with pytest.raises(ValueError, match="none of these images right"):
        _battery(
            lambda x, key: -jax.nn.one_hot(LABELS[0], 4) + 0.0 * x.sum() + jnp.array([0.0, 0, 0, jnp.nan])
        )
