"""DLR and the targeted objectives: known values, invariances, and who has lost."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.attacks.attack import lost
from jaxdiff.attacks.objectives import (
    cross_entropy,
    dlr,
    kl,
    margin,
    targeted_cross_entropy,
    targeted_dlr,
    targeted_margin,
)

LOGITS = jnp.array([3.0, 2.0, 5.0, 1.0])
OBJECTIVES = {"cross_entropy": cross_entropy(), "margin": margin(), "dlr": dlr()}
TARGETED = {
    "targeted_cross_entropy": targeted_cross_entropy(),
    "targeted_margin": targeted_margin(),
    "targeted_dlr": targeted_dlr(),
}
Y, TARGET = jnp.asarray(1), jnp.asarray(2)


def _random(classes, n=300):
    """Logits and labels; the label is on top in about half of them."""
    rng = np.random.default_rng(classes)
    logits = 3 * rng.normal(size=(n, classes)).astype(np.float32)
    y = np.where(np.arange(n) % 2 == 0, np.argmax(logits, axis=1), rng.integers(0, classes, n))
    return jnp.asarray(logits), jnp.asarray(y)


def _many(objective):
    return jax.jit(jax.vmap(objective))


@pytest.mark.parametrize(("y", "value"), [(0, 2 / 3), (1, 1.0), (2, -2 / 3), (3, 4 / 3)])
def test_dlr_by_hand(y, value):
    np.testing.assert_allclose(dlr()(LOGITS, jnp.asarray(y)), value, rtol=1e-6)


@pytest.mark.parametrize(("y", "target", "value"), [(2, 0, -2 / 3.5), (2, 3, -4 / 3.5), (0, 2, 2 / 3.5)])
def test_targeted_dlr_by_hand(y, target, value):
    """The denominator is 5 - (2 + 1) / 2."""
    np.testing.assert_allclose(targeted_dlr()(LOGITS, jnp.asarray(y), jnp.asarray(target)), value, rtol=1e-6)


def test_dlr_is_flat_where_the_label_is_third():
    np.testing.assert_allclose(jax.grad(dlr())(LOGITS, Y), np.zeros(4), atol=1e-6)
    assert jnp.max(jnp.abs(jax.grad(dlr())(LOGITS, jnp.asarray(0)))) > 0.1


@pytest.mark.parametrize("classes", [4, 10, 1000])
def test_dlr_is_blind_to_shift_and_scale(classes):
    logits, y = _random(classes)
    for objective in (_many(dlr()), _many(lambda z, y: targeted_dlr()(z, y, (y + 1) % classes))):
        np.testing.assert_allclose(objective(7 * logits + 3, y), objective(logits, y), rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize("classes", [2, 3, 4, 1000])
@pytest.mark.parametrize("name", ["margin", "dlr"])
def test_positive_exactly_where_the_label_is_lost(name, classes):
    if name == "dlr" and classes == 2:
        with pytest.raises(ValueError, match=r"at least 3 classes; got 2.*margin"):
            dlr()(LOGITS[:2], Y)
        return
    logits, y = _random(classes)
    fallen = _many(lost)(logits, y)
    assert 0.1 < jnp.mean(fallen) < 0.9
    np.testing.assert_array_equal(_many(OBJECTIVES[name])(logits, y) > 0, fallen)


def test_targeted_forms_meet_the_untargeted_ones():
    """The label is lost exactly where some target has overtaken it, by the same margin."""
    logits, y = _random(6)
    heights = {
        name: _many(lambda z, y: jax.vmap(lambda t: f(z, y, t))(jnp.arange(6)))(logits, y)
        for name, f in TARGETED.items()
    }
    of_others = {
        name: np.where(np.arange(6) == np.asarray(y)[:, None], -np.inf, np.asarray(h))
        for name, h in heights.items()
    }
    np.testing.assert_allclose(
        np.max(of_others["targeted_margin"], axis=1), _many(margin())(logits, y), atol=1e-6
    )
    np.testing.assert_array_equal(np.max(of_others["targeted_dlr"], axis=1) > 0, _many(dlr())(logits, y) > 0)
    np.testing.assert_allclose(
        jnp.sum(jnp.exp(heights["targeted_cross_entropy"]), axis=1), np.ones(300), rtol=1e-5
    )
    np.testing.assert_allclose(
        heights["targeted_cross_entropy"][jnp.arange(300), y], -_many(cross_entropy())(logits, y)
    )


@pytest.mark.parametrize("name", TARGETED)
def test_targeted_forms_pull_the_target_up(name):
    """Where the label leads and the target is next, the gradient raises the target most and lowers the label."""
    logits, _ = _random(5)
    gradient = _many(jax.grad(TARGETED[name]))(logits, *jax.lax.top_k(logits, 2)[1].T)
    order = np.argsort(logits, axis=1)
    np.testing.assert_array_equal(jnp.argmax(gradient, axis=1), order[:, -2])
    assert jnp.all(gradient[jnp.arange(300), order[:, -1]] < 0)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
@pytest.mark.parametrize("logits", [[3.0, 2.0, 5.0, 1.0], [0.0] * 4, [0.0, 5.0, 5.0, 5.0]])
@pytest.mark.parametrize("name", ["dlr", "targeted_dlr"])
def test_narrow_logits_stay_finite(name, dtype, logits):
    """Equal logits make the denominator 1e-12, which is nothing in float16."""
    z = jnp.array(logits, dtype)
    of = dlr() if name == "dlr" else lambda z, y: targeted_dlr()(z, y, TARGET)
    value, gradient = jax.value_and_grad(of)(z, Y)
    assert value.dtype == jnp.float32 and jnp.isfinite(value)
    # The slope of a tie is 1e12 and more: too much for float16 alone.
    assert jnp.all(jnp.isfinite(gradient)) or (dtype == jnp.float16 and len(set(logits)) < 4)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
@pytest.mark.parametrize("name", [*OBJECTIVES, *TARGETED, "kl"])
def test_narrow_logits_are_widened(name, dtype):
    """Values and gradients are those of the same numbers in float32, here of a sure classifier: p_y - 1 is not 0."""
    z = jnp.array([9.5, 1.25, 0.5, -3.0], dtype)
    clean = jnp.array([9.0, 1.0, 1.5, -2.5], dtype)
    if name in TARGETED:
        of = lambda z: TARGETED[name](z, jnp.asarray(0), TARGET)
    elif name == "kl":
        of = lambda z: kl()(z, clean.astype(z.dtype))
    else:
        of = lambda z: OBJECTIVES[name](z, jnp.asarray(0))
    (value, gradient), (wide, slope) = (jax.value_and_grad(of)(z) for z in (z, z.astype(jnp.float32)))
    assert value.dtype == jnp.float32 and value == wide
    np.testing.assert_allclose(gradient.astype(jnp.float32), slope, rtol=2.0**-8, atol=1e-6)
    assert name not in ("cross_entropy", "targeted_cross_entropy", "kl") or gradient[0] != 0


def test_targeted_dlr_needs_four_classes():
    with pytest.raises(ValueError, match=r"at least 4 classes; got 3.*targeted_margin"):
        targeted_dlr()(LOGITS[:3], Y, TARGET)
    assert targeted_margin()(LOGITS[:2], jnp.asarray(0), Y) == -1.0


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_what_is_no_class_is_nan_and_int8_reaches_every_class(objective):
    many = jnp.arange(300.0)
    for y, fine in ((0, True), (299, True), (300, False), (-1, False)):
        assert jnp.isfinite(OBJECTIVES[objective](many, jnp.asarray(y))) == fine
    np.testing.assert_array_equal(
        OBJECTIVES[objective](many, jnp.asarray(7, jnp.int8)), OBJECTIVES[objective](many, jnp.asarray(7))
    )
