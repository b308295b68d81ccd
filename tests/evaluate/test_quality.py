"""Metrics of sample quality: closed forms, merged parts, and what neighbours and classifiers say of sets made by hand."""

import numpy as np
import pytest
import scipy.linalg

from jaxdiff.evaluate.quality import (
    Moments,
    agreement,
    bootstrap_std,
    frechet_distance,
    inception_score,
    kernel_distance,
    merged,
    neighbours,
)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def gaussian(mean, covariance, n=1000):
    """The moments that n features of such a Gaussian have in the mean."""
    return Moments(n, np.asarray(mean, float), (n - 1) * np.asarray(covariance, float))


def test_the_frechet_distance_of_commuting_covariances(rng):
    """|dm|^2 + sum (sqrt a - sqrt b)^2 in their common axes."""
    q, _ = np.linalg.qr(rng.normal(size=(5, 5)))
    a, b = np.array([0.1, 1.0, 2.0, 3.0, 0.0]), np.array([1.0, 1.0, 0.5, 9.0, 4.0])
    one, two = gaussian(np.zeros(5), q * a @ q.T), gaussian(np.full(5, 0.5), q * b @ q.T)
    expected = 5 * 0.25 + np.sum((np.sqrt(a) - np.sqrt(b)) ** 2)
    np.testing.assert_allclose(frechet_distance(one, two), expected, rtol=1e-9)


def test_the_frechet_distance_is_that_of_the_square_root(rng):
    x, y = rng.normal(size=(300, 6)) @ rng.normal(size=(6, 6)), rng.normal(size=(200, 6)) + 1.0
    a, b = Moments.of(x), Moments.of(y)
    root = scipy.linalg.sqrtm(np.cov(x.T) @ np.cov(y.T)).real
    expected = np.sum((x.mean(0) - y.mean(0)) ** 2) + np.trace(np.cov(x.T) + np.cov(y.T) - 2 * root)
    np.testing.assert_allclose(frechet_distance(a, b), expected, rtol=1e-9)
    np.testing.assert_allclose(frechet_distance(b, a), expected, rtol=1e-9)
    assert abs(frechet_distance(a, a)) < 1e-9


def test_fewer_images_than_features_are_no_trouble(rng):
    """Of two images each there are lines: the distance is known by hand, and is no less than that of the means."""
    x, y = np.zeros((2, 50)), np.zeros((2, 50))
    x[:, 0], y[:, 1] = [-1, 1], [-3, 3]
    np.testing.assert_allclose(frechet_distance(Moments.of(x), Moments.of(y)), 2 + 18, rtol=1e-9)
    x[:, 1], x[:, 0] = x[:, 0], 0
    np.testing.assert_allclose(
        frechet_distance(Moments.of(x), Moments.of(y)), (18**0.5 - 2**0.5) ** 2, rtol=1e-9
    )


def test_moments_merge_in_any_parts_and_far_from_zero(rng):
    x = rng.normal(size=(100, 4)) + 1e6
    whole = Moments.of(x)
    for cuts in ((50,), (1, 30, 99), (99,)):
        parts = [Moments.of(part) for part in np.split(x, cuts)]
        for order in (parts, parts[::-1]):
            found = merged(*order)
            assert found.n == 100
            np.testing.assert_allclose(found.mean, whole.mean, rtol=1e-14)
            np.testing.assert_allclose(found.covariance, np.cov((x - 1e6).T), rtol=1e-8, atol=1e-9)


def test_the_kernel_distance_is_the_sum_over_pairs(rng):
    x, y = rng.normal(size=(7, 3)), rng.normal(size=(5, 3)) + 0.5
    k = lambda a, b: (np.dot(a, b) / 3 + 1) ** 3
    pairs = lambda a: np.mean([k(a[i], a[j]) for i in range(len(a)) for j in range(len(a)) if i != j])
    expected = pairs(x) + pairs(y) - 2 * np.mean([k(a, b) for a in x for b in y])
    np.testing.assert_allclose(kernel_distance(x, y), [expected], rtol=1e-12)


def test_the_kernel_distance_is_unbiased(rng):
    """Of the same distribution it is 0 in the mean, whatever the number; and its subsets are of so many rows."""
    found = [kernel_distance(rng.normal(size=(8, 2)), rng.normal(size=(12, 2)))[0] for _ in range(4000)]
    assert abs(np.mean(found)) < 4 * np.std(found) / 4000**0.5 and np.std(found) > 0.1
    x, y = rng.normal(size=(50, 2)), rng.normal(size=(60, 2)) + 1.0
    subsets = kernel_distance(x, y, subsets=400, size=10)
    assert len(subsets) == 400 and len(set(subsets)) == 400
    assert abs(subsets.mean() - kernel_distance(x, y)[0]) < 5 * subsets.std() / 400**0.5
    np.testing.assert_array_equal(subsets, kernel_distance(x, y, subsets=400, size=10))
    assert not np.array_equal(subsets, kernel_distance(x, y, subsets=400, size=10, seed=1))


def test_the_inception_score_runs_from_1_to_the_classes():
    sure = 100.0 * np.eye(10)[np.arange(200) % 10]
    np.testing.assert_allclose(inception_score(sure, 4), 10.0, rtol=1e-9)
    np.testing.assert_allclose(inception_score(np.zeros((200, 10)), 4), 1.0, rtol=1e-9)
    one = np.log([[0.9, 0.1], [0.5, 0.5]])
    kl = np.mean([np.sum(p * np.log(p / np.array([0.7, 0.3]))) for p in np.exp(one)])
    np.testing.assert_allclose(inception_score(one, 1), [np.exp(kl)], rtol=1e-9)
    halves = np.concatenate([sure[:100], np.zeros((100, 10))])
    np.testing.assert_allclose(inception_score(halves, 2), [10.0, 1.0], rtol=1e-9)


def test_agreement_is_a_share_with_an_exact_interval():
    found = agreement(np.eye(3)[[0, 1, 2, 0]], [0, 1, 2, 1])
    assert found.accuracy == 0.75 and found.n == 4 and found.low < 0.2 and found.high > 0.99


def test_neighbours_by_hand():
    """Real points 0, 1, 3 on a line reach to their nearest: 1, 1, 2. Generated 0.5, 2.5, 9, 10 reach 2, 2, 1, 1."""
    real, generated = np.array([[0.0], [1.0], [3.0]]), np.array([[0.5], [2.5], [9.0], [10.0]])
    found = neighbours(real, generated, k=1)
    assert found.precision == 0.5  # 0.5 and 2.5 are in a ball
    assert found.recall == 1.0  # 0 and 1 are within 2 of 0.5, 3 of 2.5
    assert found.density == (2 + 1) / 4  # 0.5 in the balls of 0 and 1, 2.5 in that of 3
    assert found.coverage == 1.0
    away = neighbours(real, generated + 20.0, k=1)
    assert away == (0.0, 0.0, 0.0, 0.0)
    assert neighbours(real[:, [0, 0]], generated[:, [0, 0]], k=2).precision >= 0.5


def test_precision_and_recall_tell_fidelity_from_diversity(rng):
    real = rng.normal(size=(300, 3))
    narrow, wide = 0.1 * rng.normal(size=(300, 3)), 5.0 * rng.normal(size=(300, 3))
    a, b = neighbours(real, narrow, 3), neighbours(real, wide, 3)
    assert a.precision > 0.95 and a.recall < 0.1 and b.precision < 0.3 and b.recall > 0.9
    assert a.density > 2 * b.density and a.coverage < 0.3


def test_the_bootstrap_of_a_mean_is_its_standard_error(rng):
    x = rng.normal(size=400)
    found = bootstrap_std(lambda rows: x[rows].mean(), 400, draws=2000)
    np.testing.assert_allclose(found, x.std() / 20, rtol=0.06)
    assert found == bootstrap_std(lambda rows: x[rows].mean(), 400, draws=2000)


def two():
    return np.zeros((4, 3)) + np.arange(4)[:, None]


REFUSED = {
    "features of one": (lambda: Moments.of(np.zeros(3)), r"features \[n, d\]"),
    "no features": (lambda: Moments.of(np.zeros((0, 3))), "at least 1 images"),
    "a NaN": (lambda: Moments.of(two() * np.nan), "of 4 of 4 images are not"),
    "a covariance of one": (lambda: Moments.of(two()[:1]).covariance, "two images at least; got 1"),
    "other features": (lambda: frechet_distance(Moments.of(two()), Moments.of(two()[:, :2])), "got 3 and 2"),
    "merged others": (lambda: merged(Moments.of(two()), Moments.of(two()[:, :2])), "got 3 and 2"),
    "kernel of others": (lambda: kernel_distance(two(), two()[:, :2]), "got 3 and 2"),
    "kernel of one": (lambda: kernel_distance(two()[:1], two()), "at least 2 images"),
    "few neighbours": (lambda: neighbours(two(), two(), k=4), "at least 5 images"),
    "more splits than samples": (lambda: inception_score(two(), 5), "at least 5 images"),
    "too few labels": (lambda: agreement(two(), [0, 1]), "4 samples have as many labels"),
    "one draw": (lambda: bootstrap_std(np.sum, 4, draws=1), "draws"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    run, words = REFUSED[name]
    with pytest.raises(ValueError, match=words):
        run()
