import math

import numpy as np
import pytest

from jaxdiff.evaluate import clopper_pearson, proportion


def binomial(n, p):
    return np.array([math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)])


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.99])
def test_ends_are_where_the_binomial_tails_hold_half_of_alpha(confidence):
    for n in range(1, 13):
        for k in range(n + 1):
            low, high = clopper_pearson(k, n, confidence)
            if k > 0:
                assert binomial(n, low)[k:].sum() == pytest.approx((1 - confidence) / 2)
            if k < n:
                assert binomial(n, high)[: k + 1].sum() == pytest.approx((1 - confidence) / 2)


@pytest.mark.parametrize("n", [1, 2, 7, 20])
def test_coverage_is_never_below_the_confidence(n):
    ends = np.array([clopper_pearson(k, n) for k in range(n + 1)])
    for p in np.linspace(0, 1, 401):
        covered = (ends[:, 0] <= p) & (p <= ends[:, 1])
        assert binomial(n, p)[covered].sum() >= 0.95 - 1e-12


@pytest.mark.parametrize("n", [1, 10, 512])
def test_closed_forms_at_none_and_all(n):
    assert clopper_pearson(0, n) == (0, pytest.approx(1 - 0.025 ** (1 / n)))
    assert clopper_pearson(n, n) == (pytest.approx(0.025 ** (1 / n)), 1)


def test_swapping_right_and_wrong_mirrors_the_interval():
    low, high = clopper_pearson(364, 512)
    mirrored = clopper_pearson(512 - 364, 512)
    assert (1 - high, 1 - low) == pytest.approx(mirrored)


@pytest.mark.parametrize(
    ("successes", "n", "confidence"), [(0, 0, 0.95), (3, 2, 0.95), (-1, 2, 0.95), (1, 2, 95.0)]
)
def test_rejects_what_is_no_proportion(successes, n, confidence):
    with pytest.raises(ValueError, match="got"):
        clopper_pearson(successes, n, confidence)


def test_proportion_counts():
    value = proportion(np.array([True, False, True, True]))
    assert (value.accuracy, value.n) == (0.75, 4)
    assert (value.low, value.high) == clopper_pearson(3, 4)
    with pytest.raises(ValueError, match="0 successes of 0"):
        proportion([])
