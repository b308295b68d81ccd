"""FAB: on linear models the least perturbation is known, with the box too; what it returns is as near as it says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from known_models import DUAL, INSIDE, KEY, ORDER, SHAPE, curved, near_boundaries, run_jitted
from rows import slow_but

from jaxdiff.attacks.least.fab import _random_start, fab, fab_targeted
from jaxdiff.attacks.least.minimal import GRADIENTS_AT_ONCE, boundaries, highest
from jaxdiff.attacks.threats.l1 import l1
from jaxdiff.attacks.threats.threat import l2, linf

THREATS = {"linf": linf, "l2": l2, "l1": l1}


def _least(norm, classes):
    _, y, z, w = near_boundaries(classes)
    others = [j for j in range(classes) if j != y]
    return min((z[y] - z[j]) / np.linalg.norm(np.ravel(w[j] - w[y]), DUAL[norm]) for j in others)


@pytest.mark.parametrize(
    ("norm", "classes", "make", "before"),
    [
        ("linf", 2, lambda threat: fab(threat, 5), 0),
        ("l1", 3, lambda threat: fab(threat, 5), 0),
        ("l2", 10, lambda threat: fab(threat, 5), 0),
        ("l2", 2, lambda threat: fab_targeted(threat, 1, 5), 1),
        ("linf", 10, lambda threat: fab_targeted(threat, 9, 5), 1),
    ],
)
def test_linear_models(norm, classes, make, before):
    """The least perturbation is margin / |w|_dual over all classes: found from above, within 1 %."""
    classifier, y, _, _ = near_boundaries(classes)
    attack = make(THREATS[norm](jnp.inf))
    found = run_jitted(attack, classifier, INSIDE, y)
    assert found.won and jnp.argmax(classifier(found.x, None)) != y
    assert 1.0 <= -found.loss / _least(norm, classes) <= 1.01
    np.testing.assert_allclose(
        np.linalg.norm(np.ravel(found.x - INSIDE), ORDER[norm]), -found.loss, rtol=1e-6
    )
    assert found.queries == before + 2 * attack.steps


@pytest.mark.parametrize("norm", slow_but(["l1", "l2"], "l2"))
def test_the_box_is_part_of_the_problem(norm):
    """Where pixels come to the border the least perturbation is that of the exact projection, and longer than without."""
    x = jnp.full(SHAPE, 0.9)  # pixels have little room on one side
    _, y, _, w = near_boundaries(2, x)
    z = 2.5 * np.eye(2, dtype=np.float32)[y]
    classifier = lambda image, key: z + jnp.einsum("khwc,hwc->k", w, image - x)
    f, normal = z[1 - y] - z[y], w[1 - y] - w[y]
    threat = THREATS[norm](jnp.inf)
    least = threat.norm(threat.to_plane(x, jnp.asarray(normal), jnp.asarray(-f)))
    assert least > 1.05 * abs(f) / np.linalg.norm(normal.ravel(), DUAL[norm])
    found = run_jitted(fab(threat, 15), classifier, x, y)
    assert 1.0 <= -found.loss / least <= 1.02
    assert jnp.min(found.x) >= 0 and jnp.max(found.x) <= 1


def test_on_a_line_the_equations_are_scalars():
    """One pixel, boundary at x_0 + d: with s = (x - x_0) / d equations (1) to (3) become a recursion of numbers."""
    d, x = 0.2, jnp.full((1, 1, 1), 0.3)
    classifier = lambda x, key: jnp.array([0.0, x[0, 0, 0] - 0.3 - d])
    run = jax.jit(lambda *constants: fab(l2(jnp.inf), 6, *constants).run(classifier, x, jnp.asarray(0), KEY))
    for alpha_max, eta, beta in [(0.1, 1.05, 0.9), (0.02, 1.3, 0.5), (0.5, 1.2, 0.99)]:
        s, best = 0.0, np.inf
        for _ in range(6):
            best = min(best, s) if s > 1 else best  # x_k is looked at too
            alpha = min(abs(1 - s) / (abs(1 - s) + 1), alpha_max)
            s = (1 - alpha) * (s + eta * (1 - s)) + alpha * eta
            if s > 1:
                best, s = min(best, s), beta * s
        np.testing.assert_allclose(-run(alpha_max, eta, beta).loss, d * best, rtol=1e-4)


def test_the_radius_only_judges():
    """A radius below the distance gives x back, with the distance; one above it the adversarial point."""
    classifier, y, _, _ = near_boundaries(3)
    attack = jax.jit(lambda radius, y: fab_targeted(linf(radius), 2, 4).run(classifier, INSIDE, y, KEY))
    least = _least("linf", 3)
    near, far = attack(0.99 * least, y), attack(1.01 * least, y)
    assert not near.won and jnp.array_equal(near.x, INSIDE)
    assert far.won and near.loss == far.loss
    assert jnp.max(jnp.abs(far.x - INSIDE)) == -far.loss
    zero = attack(0.0, y)
    assert not zero.won and jnp.array_equal(zero.x, INSIDE)
    # A label that is lost at once needs no perturbation at all.
    lost = attack(0.0, (y + 1) % 3)
    assert lost.won and lost.loss == 0 and jnp.array_equal(lost.x, INSIDE)


def test_feasible_and_alone_as_in_a_batch():
    """On a wild classifier every victory is a lost label within the radius and the box; vmap is a loop."""
    radius, attack = 0.2, fab_targeted(linf(0.2), 2, 4)
    x = jnp.round(jax.random.uniform(KEY, (7, *SHAPE)), 1)
    predict = jax.jit(jax.vmap(lambda x: jnp.argmax(curved(x, None))))
    y, keys = predict(x), jax.random.split(KEY, 7)
    run = lambda x, y, key: attack.run(curved, x, y, key)
    batch = jax.jit(jax.vmap(run))(x, y, keys)
    assert np.sum(batch.won) >= 3
    assert jnp.max(jnp.abs(batch.x - x)) <= radius
    assert jnp.min(batch.x) >= 0 and jnp.max(batch.x) <= 1
    np.testing.assert_array_equal(predict(batch.x) != y, batch.won)
    np.testing.assert_array_equal(jnp.any(batch.x != x, axis=(1, 2, 3)), batch.won)
    won = int(np.argmax(batch.won))
    np.testing.assert_allclose(jax.jit(run)(x[won], y[won], keys[won]).x, batch.x[won], atol=1e-5)


def test_restarts_leave_a_plateau():
    """On a plateau around x there is no gradient to follow: only runs that start elsewhere get off it, at half the radius."""

    def classifier(x, key):
        return jnp.array([0.0, jax.nn.relu(jnp.max(jnp.abs(x - INSIDE)) - 0.1) - 0.05])

    first, more = (
        run_jitted(fab(linf(0.32), 10, restarts=n), classifier, INSIDE, jnp.asarray(0)) for n in (1, 3)
    )
    assert not first.won and more.won
    assert 0.1499 < -more.loss < 0.155


@pytest.mark.parametrize("norm", THREATS)
def test_restarts_begin_half_the_radius_away(norm):
    """Wherever the box is far, in another direction for every run."""
    begins = [np.ravel(_random_start(THREATS[norm](0.3), INSIDE, jax.random.key(i)) - INSIDE) for i in (0, 1)]
    np.testing.assert_allclose(np.linalg.norm(begins, ORDER[norm], axis=1), 0.15, rtol=1e-5)
    assert np.any(np.abs(begins[0] - begins[1]) > 1e-3)


def test_more_restarts_contain_fewer():
    """With restarts = 3 the runs of restarts = 2 begin where they did, for every class."""
    seen = []

    def classifier(x, key):
        jax.debug.callback(lambda x: seen.append(x.tobytes()), x)
        return near_boundaries(3)[0](x, key)

    y, begins = near_boundaries(3)[1], []
    for restarts in (1, 2, 3):
        seen.clear()
        run_jitted(
            fab_targeted(linf(0.3), 2, 1, restarts=restarts), classifier, INSIDE, y
        ).x.block_until_ready()
        jax.effects_barrier()
        begins.append(set(seen))
    assert begins[0] < begins[1] < begins[2]


@pytest.mark.parametrize(
    ("classes", "blocks"), slow_but([(40, {16, 7}), (17, {16}), (4, {3})], (40, {16, 7}))
)
def test_gradients_come_a_few_at_a_time(classes, blocks):
    """Each is the difference of two rows of a linear model's; no more than `GRADIENTS_AT_ONCE` go back through it at once."""
    u, v = jax.random.normal(KEY, (11, 6)), jax.random.normal(KEY, (classes, 11))
    x, y = jnp.full((3, 2, 1), 0.5), jnp.asarray(3)

    def of(x):
        return boundaries(lambda x, key: v @ (u @ x.ravel()), x, y, lambda z: highest(z, y, classes - 1), KEY)

    program = str(jax.make_jaxpr(of)(x))
    assert GRADIENTS_AT_ONCE == 16
    assert {n for n in range(1, classes) if f"f32[{n},11]" in program} == blocks
    logits, rivals, f, w = of(x)
    np.testing.assert_allclose(w.reshape(classes - 1, 6), (v[rivals] - v[y][None]) @ u, atol=1e-5)
    np.testing.assert_allclose(f, logits[rivals] - logits[y])


@pytest.mark.parametrize("norm", ["linf", "l1"])
def test_flawed_classifiers_do_not_spoil_the_image(norm):
    """Labels with logits that are not finite are lost, at once or later; gradients that are not finite move nothing."""
    flaws = [
        lambda x: jnp.array([1.0, 0.0, jnp.nan]) * jnp.sum(x),
        lambda x: jnp.array([10.0, 0.0, 0.0]) - jnp.log(1 - jnp.max(x)) * jnp.array([1.0, 2.0, 3.0]),
        lambda x: jnp.array([1.0, 0.0, -1.0]) + jnp.sqrt(jnp.sum(x - x)),
    ]
    attack = fab(THREATS[norm](jnp.inf), 3)
    run = lambda i: attack.run(lambda x, key: jax.lax.switch(i, flaws, x), INSIDE, jnp.asarray(0), KEY)
    found = jax.jit(jax.vmap(run))(jnp.arange(3))
    assert jnp.all((found.x >= 0) & (found.x <= 1))
    np.testing.assert_array_equal(found.won, [True, True, False])


def test_bad_arguments():
    classifier, y, _, _ = near_boundaries(3)
    for make in [
        lambda: fab(l2(1.0)._replace(to_plane=None)),
        lambda: fab(l2(1.0), steps=0),
        lambda: fab(l2(jnp.inf), restarts=2),
        lambda: fab_targeted(l2(1.0), 0),
        lambda: fab_targeted(l2(1.0), 3)(classifier, INSIDE, y, KEY),
    ]:
        with pytest.raises(ValueError, match=r"got|has none"):
            make()
