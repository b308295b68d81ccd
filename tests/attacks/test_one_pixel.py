"""Differential evolution of pixels: equation (1) to the letter, the optimum of linear models, planted pixels found."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.attacks.attack import untargeted
from jaxdiff.attacks.objectives import margin
from jaxdiff.attacks.pool import pooled
from jaxdiff.attacks.queries.one_pixel import paint, pixel_evolution, pixels

SHAPE = (6, 5, 2)
W = jax.random.normal(jax.random.key(7), SHAPE)


def _linear(x, key):
    return jnp.stack([jnp.vdot(W, x - 0.5), jnp.asarray(0.0)])


def _changed(x_adv, x):
    return np.sum(np.any(x_adv != x, axis=-1), axis=(-2, -1))


def test_a_planted_pixel_is_found(key):
    """A classifier that looks at one channel of one pixel; the attack finds it and leaves all others bit for bit."""
    classifier = lambda x, key: jnp.stack([x[4, 3, 1], jnp.asarray(0.9)])
    x = 0.8 * jax.random.uniform(key, (8, *SHAPE))
    run = jax.jit(jax.vmap(lambda x, key: pixels(1, 40, 20).run(classifier, x, jnp.asarray(1), key)))
    found, x = jax.device_get((run(x, jax.random.split(key, 8)), x))
    assert np.all(found.won) and np.all(found.x[:, 4, 3, 1] > 0.9)
    assert np.array_equal(np.nonzero(np.any(found.x != x, axis=(0, 3))), [[4], [3]])
    # Queries come in generations and stop with the victory.
    assert np.all(found.queries % 40 == 0) and np.all(found.queries < 40 * 21)


def test_linear_model_falls_where_its_best_pixels_suffice(key):
    """k pixels add at most the k largest of sum_c max(w (1 - x), -w x); so more pixels are never weaker."""
    x, keys, w = jax.random.uniform(key, (12, *SHAPE)), jax.random.split(key, 12), np.asarray(W)
    heights = np.einsum("hwc,nhwc->n", w, np.asarray(x) - 0.5)
    y = (heights < 0).astype(int)
    towards = (2 * y - 1)[:, None, None, None] * w  # the direction that takes the label away
    gains = np.maximum(-towards * x, towards * (1 - x)).sum(axis=-1).reshape(12, -1)
    fallen = []
    for k, share in ((1, 0.999), (3, 0.8)):
        attack = untargeted(pixel_evolution(k, 120, 40), lambda logits, y: margin()(1e3 * logits, y))
        run = jax.jit(jax.vmap(lambda x, y, key: attack.run(_linear, x, y, key)))
        found = jax.device_get(run(x, y, keys))
        best = np.sort(gains, axis=-1)[:, -k:].sum(axis=-1)
        reached, limit = share * best - np.abs(heights), best - np.abs(heights)
        assert np.all(found.won[reached > 0]) and not np.any(found.won[limit < 0])
        # Where nothing wins the loss comes to the best one, and no query is left.
        stands = ~found.won
        losses = found.loss[stands] / 1e3
        assert np.all(losses >= reached[stands]) and np.all(losses <= limit[stands] + 1e-5)
        assert np.all(found.queries[stands] == 120 * 41) and np.all(_changed(found.x, x) <= k)
        fallen.append(found.won)
    assert np.all(fallen[1] | ~fallen[0]) and 0 < fallen[0].sum() < fallen[1].sum()


def test_children_are_equation_one(key):
    """m_r1 + F (m_r2 - m_r3) for three different members, all triples alike, each child with its own."""
    x, n, weight = jnp.zeros((4, 4, 1)), 5, 0.5
    ascent = pixel_evolution(1, n, 3, weight)
    members = jax.random.uniform(key, (n, 1, 3), minval=0.45, maxval=0.55)  # no child leaves the image
    triples = np.array(list(itertools.permutations(range(n), 3)))
    genes = np.asarray(members[:, 0])
    expected = genes[triples[:, 0]] + weight * (genes[triples[:, 1]] - genes[triples[:, 2]])

    def generation(key):
        problem = (lambda x, key: jnp.sum(x), x, key)
        _, heights, best = ascent.init(problem)
        return ascent.step(problem, (members, heights, best), jnp.asarray(2))[0]

    children = np.asarray(jax.jit(jax.vmap(generation))(jax.random.split(key, 2000)))[:, :, 0]
    distance = np.abs(children[:, :, None] - expected).max(axis=-1)
    which, total = distance.argmin(axis=-1), 2000 * n
    assert distance.min(axis=-1).max() < 1e-6
    counts = np.bincount(which.ravel(), minlength=60)
    np.testing.assert_allclose(counts, total / 60, atol=4.5 * np.sqrt(total / 60))
    assert np.mean(which[:, 0] == which[:, 1]) < 0.05


def test_children_replace_worse_parents_only(key):
    """Member by member the loss never falls; where all are alike nobody is replaced."""
    x = jnp.full(SHAPE, 0.5)
    bumpy = lambda x, key: jnp.sum(jnp.sin(20 * x) * W)
    flat = lambda x, key: 0.0 * jnp.sum(x)
    ascent = pixel_evolution(2, 12, 30)

    @jax.jit
    def path(scale):
        problem = (lambda x, key: scale * bumpy(x, key) + flat(x, key), x, key)

        def step(state, i):
            state = ascent.step(problem, state, i)
            return state, state

        return jax.lax.scan(step, ascent.init(problem), jnp.arange(31))[1]

    members, heights, best = jax.device_get(path(1.0))
    shown = jax.jit(jax.vmap(jax.vmap(lambda m: bumpy(paint(x, m), key))))(members)
    np.testing.assert_allclose(shown, heights, rtol=1e-4, atol=1e-4)
    assert np.all(np.diff(heights, axis=0) >= 0) and np.all(heights[-1] > heights[0])
    np.testing.assert_array_equal(best.loss, heights.max(axis=1))
    members = np.asarray(path(0.0)[0])
    assert np.array_equal(members, np.broadcast_to(members[:1], members.shape))


def test_first_generation(key):
    """Positions uniform over the pixels, values normal of mean and deviation 1/2, cut at 0 and 1."""
    n, x = 20_000, jnp.zeros((3, 4, 2))
    members = np.asarray(pixel_evolution(1, n).init((lambda x, key: 0.0, x, key))[0][:, 0])
    places = np.floor(members[:, :2]).astype(int)
    counts = np.bincount(4 * places[:, 0] + places[:, 1], minlength=12)
    np.testing.assert_allclose(counts, n / 12, atol=4.5 * np.sqrt(n / 12))
    values = members[:, 2:]
    for cut in (0.0, 1.0):
        assert np.mean(values == cut) == pytest.approx(0.1587, abs=0.01)
    assert np.mean((values > 0.25) & (values < 0.75)) == pytest.approx(0.3829, abs=0.015)


def test_at_most_k_pixels_change(key):
    """For wild losses too, NaN among them: values stay in [0, 1] and all other pixels as they are."""

    def wild(x, key):
        value = jnp.sum(jnp.sin(50 * x)) + jax.random.normal(key)
        return jnp.where(jnp.sin(9 * jnp.sum(x)) > 0.5, jnp.nan, value)

    x = jax.random.uniform(key, (6, 3, 5, 1))
    run = jax.jit(jax.vmap(lambda x, key: pixel_evolution(3, 8, 12).run(wild, x, key)))
    found, x = jax.device_get((run(x, jax.random.split(key, 6)), x))
    assert np.min(found.x) >= 0.0 and np.max(found.x) <= 1.0 and np.all(np.isfinite(found.loss))
    assert np.max(_changed(found.x, x)) == 3 and np.min(_changed(found.x, x)) >= 1


def test_paint():
    """Positions are rounded down, the far border is the last pixel, and of two pixels at one place the later is seen."""
    x = jnp.zeros((2, 3, 1))
    member = jnp.array([[1.99, 0.99, 0.3], [2.0, 3.0, 0.4], [0.5, 1.5, 0.6], [0.1, 1.0, 0.7]])
    np.testing.assert_allclose(paint(x, member)[..., 0], [[0, 0.7, 0], [0.3, 0, 0.4]], atol=1e-7)


def test_pooled_is_a_loop_and_targets_are_reached(key):
    """Seven classes, each in reach of two pixels; an example's result does not depend on its company."""
    V = np.asarray(jax.random.normal(key, (7, *SHAPE)))
    classifier = lambda x, key: jnp.einsum("khwc,hwc->k", V, x - 0.5)
    problems = jnp.full((7, *SHAPE), 0.5), jnp.arange(7), jax.random.split(key, 7)
    attack = pixels(2, 30, 12, targeted=True)
    loop = lambda *p: jax.lax.map(lambda p: attack.run(classifier, *p), p)
    both = jax.jit(lambda *p: (loop(*p), pooled(attack, 2)(classifier, *p)))
    looped, pool = jax.device_get(both(*problems))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), pool, looped)
    labels = np.einsum("khwc,nhwc->nk", V, looped.x - 0.5).argmax(axis=1)
    assert np.array_equal(labels, np.arange(7)) and np.all(looped.won)


@pytest.mark.parametrize(
    ("arguments", "shape"),
    [
        ({"k": 0}, SHAPE),
        ({"population": 2}, SHAPE),
        ({"generations": -1}, SHAPE),
        ({"differential_weight": -0.5}, SHAPE),
        ({}, (6, 5)),
    ],
)
def test_bad_arguments(arguments, shape, key):
    with pytest.raises(ValueError, match="got"):
        pixels(**arguments).init((_linear, jnp.zeros(shape), jnp.asarray(0), key))
