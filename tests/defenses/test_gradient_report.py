"""What the report of gradients measures, on defenses and losses whose gradients are known in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bent import W, bent
from rows import slow_but

from jaxdiff.attacks import bpda
from jaxdiff.defenses import attackers_view
from jaxdiff.defenses.gradient_report import compare, gradient_report, report_text
from jaxdiff.defenses.gradients import Purifier

X = jax.random.uniform(jax.random.key(4), (3, 8))
Y = jnp.arange(3)


def _slope(x, y):
    """The gradient of sin(2 W x)_y in x, by hand."""
    return 2 * np.cos(2 * np.asarray(W) @ x)[y] * np.asarray(W)[y]


def _of_class(logits, y):
    return logits[y]


def test_bpda_is_the_gradient_of_the_identity_at_the_defended_image(key):
    """x -> 3x: the classifier's gradient at 3x; the exact one is three times it, the blind one is taken at x."""
    triple = lambda x, key: 3.0 * x
    x, y = np.asarray(X[0]), 1
    expected = {"exact": 3.0 * _slope(3.0 * x, y), "bpda": _slope(3.0 * x, y), "blind": _slope(x, y)}
    for name, gradient in expected.items():
        view = attackers_view(bent, triple, name)
        np.testing.assert_allclose(jax.grad(lambda x: view(x, key)[y])(X[0]), gradient, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(jax.jacobian(lambda x: bpda(triple)(x, key))(X[0]), np.eye(8))
    np.testing.assert_array_equal(bpda(triple)(X[0], key), triple(X[0], key))


def test_the_columns_are_their_equations():
    g, h = np.array([3.0, 0.0, -4.0, 1.0]), np.array([-1.0, 0.0, -2.0, 2.0])
    length = np.linalg.norm
    assert compare(jnp.asarray(g), jnp.asarray(h)) == pytest.approx(
        {
            "cosine": g @ h / length(g) / length(h),
            "relative_error": length(h - g) / length(g),
            "norm_ratio": length(h) / length(g),
            "sign_agreement": 3 / 4,
        }
    )


def test_rows_are_means_over_the_images(key):
    """A defense that doubles some images only: the numbers of a batch are the means of those of its images."""
    some = lambda x, key: jnp.where(x[0] > 0.7, 2.0, 0.5) * x
    assert 0 < jnp.sum(X[:, 0] > 0.7) < 3
    whole = gradient_report(bent, some, X, Y, key, _of_class, ["bpda"], directions=2)
    ratios = jnp.where(X[:, 0] > 0.7, 0.5, 2.0)
    assert whole["bpda"]["norm_ratio"] == pytest.approx(float(ratios.mean()), rel=1e-5)
    assert whole["bpda"]["relative_error"] == pytest.approx(float(jnp.abs(ratios - 1).mean()), rel=1e-5)


def test_images_draw_their_own_noise_and_views_the_same(key):
    """The blind view of a defense that flips signs by chance agrees where the draw does not flip."""
    flips = lambda x, key: jax.random.rademacher(key, (), x.dtype) * x
    x, y = jnp.broadcast_to(X[:1], (40, 8)), jnp.zeros(40, int)
    linear = lambda x, key: W @ x
    report = gradient_report(linear, flips, x, y, key, _of_class, ["blind", "exact", "blind"], directions=1)
    assert list(report) == ["exact", "blind", "finite_differences"]
    assert report["exact"]["cosine"] == pytest.approx(1.0, abs=1e-5)
    assert -0.6 < report["blind"]["cosine"] < 0.6  # a coin for every image
    again = gradient_report(linear, flips, x, y, jax.random.key(12), _of_class, ["blind"], directions=1)
    assert again["blind"]["cosine"] != report["blind"]["cosine"]


def test_finite_differences_know_a_wrong_gradient_by_its_size(key):
    """A gradient that is 1.3 times the true one is wrong by 0.3 / 1.3 of its own size."""

    @jax.custom_jvp
    def same(x):
        return x

    same.defjvp(lambda primals, tangents: (primals[0], 1.3 * tangents[0]))
    linear = lambda x, key: W @ x
    report = gradient_report(linear, lambda x, key: same(x), X, Y, key, _of_class, [])
    assert report["finite_differences"]["relative_error"] == pytest.approx(0.3 / 1.3, rel=1e-2)
    assert "CANNOT be trusted" in report_text(report)


def test_differences_are_central(key):
    """Of a parabola they are exact, where those to one side are off by half a step."""
    parabola = lambda x, key: jnp.stack([10.0 * jnp.sum(jnp.square(x)), 0.0, 0.0])
    report = gradient_report(parabola, lambda x, key: x, X, jnp.zeros(3, int), key, _of_class, [])
    assert report["finite_differences"]["relative_error"] < 1e-3


def test_views_meet_the_draw_of_the_exact_one(key):
    """A defense of random length: bpda points where the exact gradient does, if the length is the same."""
    long = lambda x, key: (1.0 + jax.random.uniform(key)) * x
    report = gradient_report(bent, long, X, Y, key, modes=["bpda"], directions=1)
    assert report["bpda"]["cosine"] == pytest.approx(1.0, abs=1e-5)


def test_text_says_what_the_numbers_are(key):
    row = {"cosine": 0.25, "relative_error": 2.0, "norm_ratio": 0.5, "sign_agreement": 0.75}
    counts = {"images": 5.0, "left_out": 1.0}
    exact = {"cosine": 1.0, "relative_error": 0.0, "norm_ratio": 1.0, "sign_agreement": 1.0}
    report = {"exact": exact | counts, "bpda": row | counts | {"left_out": 2.0}}
    text = report_text(report | {"finite_differences": {"relative_error": 0.049} | counts})
    assert "0.049 of its size: it can be trusted. 1 of 5 images" in text
    assert "| bpda | 0.2500 | 2.0000 | 0.5000 | 0.7500 | 2 |" in text
    assert "CANNOT" in report_text(report | {"finite_differences": {"relative_error": 0.051} | counts})
    assert "CANNOT" in report_text(report | {"finite_differences": {"relative_error": np.nan} | counts})


@pytest.mark.parametrize("dtype", slow_but(["bfloat16", "float16", "float64"], "bfloat16", "float16"))
def test_reports_in_every_precision(dtype, x64, key):
    """Gradients of 1000 and more, whose squares float16 does not hold: twice as long is twice as long."""
    w = (300 * W).astype(dtype)
    linear = lambda x, key: w @ x
    half = Purifier(lambda x, key: 0.5 * x, {})
    report = gradient_report(linear, half, X.astype(dtype), Y, key, _of_class, ["bpda"], directions=2)
    expected = {"cosine": 1.0, "relative_error": 1.0, "norm_ratio": 2.0, "sign_agreement": 1.0}
    assert report["bpda"] == pytest.approx(expected | {"images": 3, "left_out": 0}, rel=1e-6)
    rough = {"bfloat16": 0.3, "float16": 0.05, "float64": 1e-9}[dtype]
    assert report["finite_differences"]["relative_error"] < rough


def test_numpy_is_as_good_as_jax(key):
    double = lambda x, key: 2.0 * x
    ours = gradient_report(bent, double, X, Y, key, directions=1)
    assert gradient_report(bent, double, np.asarray(X), [0, 1, 2], key, directions=1) == ours
    assert gradient_report(bent, double, np.asarray(X[0]), 0, key, directions=1)["bpda"]["images"] == 1
