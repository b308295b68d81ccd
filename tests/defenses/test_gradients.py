"""Views of the attacker and their report, on defenses whose gradients are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bent import W, bent
from gaussians import exact_denoiser

from jaxdiff.attacks import bpda
from jaxdiff.defenses import attackers_view, diffpure
from jaxdiff.defenses.gradient_report import compare, gradient_report, report_text
from jaxdiff.defenses.gradients import Purifier, known_gradients
from jaxdiff.diffusion import VP, ddpm, euler_maruyama
from jaxdiff.diffusion.grids import uniform

PROCESS = VP()
ALL = {"images": 6, "left_out": 0}
X = jax.random.uniform(jax.random.key(4), (6, 8))
Y = jnp.arange(6) % 3


def _linear(x, key):
    return W @ x


def _difference(logits, y):
    return logits[(y + 1) % 3] - logits[y]


def _purifier(steps, make=euler_maruyama, **kwargs):
    return diffpure(PROCESS, make(PROCESS), exact_denoiser(PROCESS), uniform(steps, 0.2), **kwargs)


def test_surrogate_is_the_purification_of_fewer_steps(key):
    """Forward and backward, from the same noised image."""
    surrogate = attackers_view(bent, _purifier(8, ddpm, surrogate_steps=4), "surrogate")
    short = attackers_view(bent, _purifier(4, ddpm), "exact")
    both = jax.jit(
        lambda x: [jax.value_and_grad(lambda x: jnp.sum(v(x, key)))(x) for v in (surrogate, short)]
    )
    for ours, theirs in zip(*both(X[0]), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4)


def test_bpda_and_adjoint_see_the_full_defense(key):
    purify = _purifier(8)
    views = [attackers_view(bent, purify, g) for g in ("exact", "bpda", "adjoint")]
    exact, *others = jax.jit(lambda x: [view(x, key) for view in views])(X[0])
    for other in others:
        np.testing.assert_allclose(other, exact, rtol=1e-5)


def test_unknown_views_are_refused_in_words():
    plain = lambda x, key: x
    assert known_gradients(plain) == ["exact", "bpda", "blind"]
    for defense in (plain, _purifier(8)):
        with pytest.raises(ValueError, match=r"'surrogate'.*exact.*surrogate_steps"):
            attackers_view(_linear, defense, "surrogate")
    with pytest.raises(ValueError, match="euler_maruyama"):
        attackers_view(_linear, _purifier(8, ddpm), "adjoint")
    for steps in (0, 9):
        with pytest.raises(ValueError, match=rf"8 steps.*got {steps}"):
            _purifier(8, surrogate_steps=steps)


def test_report_on_a_shrinking_defense(key):
    """x -> c x + noise: bpda points where the exact gradient does and is 1/c as long; nothing depends on the noise."""
    shrink = lambda x, key: 0.3 * x + 0.1 * jax.random.normal(key, x.shape)
    row = gradient_report(bent, shrink, X, Y, key, modes=["bpda"])["bpda"]
    expected = {"cosine": 1.0, "relative_error": 1 / 0.3 - 1, "norm_ratio": 1 / 0.3, "sign_agreement": 1.0}
    assert row == pytest.approx(expected | ALL, rel=1e-4)


def test_images_without_a_gradient_are_counted_and_left_out(key):
    """Where the defense is flat there is nothing to compare; the other images keep their numbers."""

    def shrink(x, key):
        x = jnp.where(jnp.all(x == 0.0), jax.lax.stop_gradient(x), x)
        return 0.3 * x

    x = X.at[:2].set(0.0)
    report = gradient_report(bent, shrink, x, Y, key, modes=["bpda"])
    expected = {"cosine": 1.0, "relative_error": 1 / 0.3 - 1, "norm_ratio": 1 / 0.3, "sign_agreement": 1.0}
    assert report["bpda"] == pytest.approx(expected | {"images": 6, "left_out": 2}, rel=1e-4)
    assert report["finite_differences"]["left_out"] == 2
    assert report["finite_differences"]["relative_error"] < 1e-2
    assert "2 of 6 images have no gradient" in report_text(report)
    none = report_text(gradient_report(bent, shrink, x[:2], Y[:2], key, modes=["bpda"]))
    assert "2 of 2 images have no gradient" in none and "CANNOT be trusted" in none


def test_comparisons_with_nothing(key):
    """A view of 0 points nowhere and misses everything."""
    row = compare(X[0], 0.0 * X[0])
    assert row == {"cosine": 0.0, "relative_error": 1.0, "norm_ratio": 0.0, "sign_agreement": 0.0}


def test_report_on_a_blind_attacker(key):
    """x -> d x for a linear loss <w, x>: exact is d w, blind is w."""
    d = jnp.array([-1.0, 0.5, 2.0, 0.1, 1.0, -0.3, 0.7, 1.5])
    report = gradient_report(_linear, lambda x, key: d * x, X[0], Y[0], key, objective=_difference)
    w = np.asarray(W[1] - W[0])
    exact, blind = np.asarray(d) * w, report["blind"]
    assert blind["cosine"] == pytest.approx(exact @ w / np.linalg.norm(exact) / np.linalg.norm(w), rel=1e-4)
    assert blind["relative_error"] == pytest.approx(
        np.linalg.norm(w - exact) / np.linalg.norm(exact), rel=1e-4
    )
    assert blind["sign_agreement"] == pytest.approx(6 / 8)
    assert report["finite_differences"]["relative_error"] < 1e-3  # a linear loss has no truncation


def test_exact_agrees_with_finite_differences_and_nothing_else_does(key):
    purify = _purifier(8, surrogate_steps=2)
    report = gradient_report(bent, purify, X, Y, key)
    assert set(report) == {"exact", "bpda", "blind", "adjoint", "surrogate", "finite_differences"}
    assert report["finite_differences"]["relative_error"] < 1e-2
    assert report["exact"] == pytest.approx(
        {"cosine": 1.0, "relative_error": 0.0, "norm_ratio": 1.0, "sign_agreement": 1.0} | ALL,
        abs=1e-5,
    )
    assert 0.03 < report["adjoint"]["relative_error"] < 1.0  # of first order in 1/8, and the report says so
    assert report["adjoint"]["relative_error"] > 5 * report["finite_differences"]["relative_error"]
    assert "left out" in report_text(report) and "no gradient" not in report_text(report)
    lying = gradient_report(bent, bpda(lambda x, key: purify(x, key)), X, Y, key, modes=[])
    assert lying["finite_differences"]["relative_error"] > 0.1
    text = report_text(report)
    assert "can be trusted" in text and "| adjoint |" in text
    assert "CANNOT be trusted" in report_text(lying)


@pytest.mark.slow
def test_report_shows_the_error_of_the_adjoint(key):
    """It can be seen when steps are few, and falls with them; on Gaussian data only the length is wrong."""
    few, many = (
        gradient_report(bent, _purifier(n), X, Y, key, modes=["adjoint"], directions=1)["adjoint"]
        for n in (5, 40)
    )
    assert few["relative_error"] > 0.05 and few["relative_error"] > 4 * many["relative_error"]
    for row in (few, many):
        assert row["cosine"] == pytest.approx(1.0, abs=1e-4)
        assert row["relative_error"] == pytest.approx(abs(row["norm_ratio"] - 1), abs=1e-3)


def test_an_image_is_a_batch_of_one(key):
    defense = Purifier(lambda x, key: jnp.tanh(x + jax.random.normal(key, x.shape)), {})
    one = gradient_report(_linear, defense, X[2], Y[2], key)
    batch = gradient_report(_linear, defense, X[2:3], Y[2:3], key)
    assert one["blind"] == pytest.approx(batch["blind"]) and one["blind"]["relative_error"] > 0
    with pytest.raises(ValueError, match="directions as a whole number >= 1"):
        gradient_report(_linear, defense, X[2], Y[2], key, directions=0)
