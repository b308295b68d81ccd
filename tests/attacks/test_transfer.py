"""Transfer between linear models, where the optimal perturbation of each is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.attacks import cross_entropy, linf, margin, pgd, restarts, targeted, untargeted
from jaxdiff.attacks.queries.transfer import ensemble, transfer
from jaxdiff.attacks.stepwise import start

X = jnp.full((8,), 0.5)
Y = jnp.asarray(0)
W = jax.random.normal(jax.random.key(1), (8,))
RADIUS = 0.2
ATTACK = untargeted(pgd(linf(RADIUS), RADIUS / 4, 8), margin())


def _binary(w, bias):
    """Class 0 wins at x while <w, x - X> < bias."""
    return lambda x, key: jnp.array([1.0, -1.0]) * (bias - jnp.vdot(w, x - X))


def test_what_transfers_is_the_common_direction(key):
    """The attack on w reaches <v, radius sign(w)> on a victim v: it wins exactly beyond that."""
    v = W.at[:3].multiply(-1.0)
    reached = float(RADIUS * jnp.vdot(v, jnp.sign(W)))
    for bias, wins in ((reached - 0.01, True), (reached + 0.01, False)):
        found = transfer(ATTACK, _binary(W, 0.0)).run(_binary(v, bias), X, Y, key)
        np.testing.assert_allclose(found.x - X, RADIUS * jnp.sign(W), atol=1e-6)
        assert bool(found.won) is wins and found.queries == 1
        # The margin of the victim, not of the surrogate.
        np.testing.assert_allclose(found.loss, 2 * (reached - bias), atol=1e-4)


def test_one_query_a_candidate_and_no_gradient_of_the_victim(key):
    calls = []

    @jax.custom_vjp
    def closed(x):
        return _binary(W, 10.0)(x, None)

    def refuse(*_):
        raise AssertionError("the victim was differentiated")

    closed.defvjp(refuse, refuse)

    def victim(x, key):
        jax.debug.callback(calls.append, x)
        return closed(x)

    random_start = untargeted(pgd(linf(RADIUS), 0.01, 3), cross_entropy())
    once = transfer(random_start, _binary(W, 0.0))
    best = restarts(once, 5).run(victim, X, Y, key)
    jax.effects_barrier()
    assert len(calls) == 5 == best.queries
    heights = [float(margin()(_binary(W, 10.0)(x, None), Y)) for x in calls]
    np.testing.assert_allclose(best.loss, max(heights), rtol=1e-5)
    assert min(heights) < max(heights)
    assert jnp.max(jnp.abs(best.x - X)) <= RADIUS + 1e-6


def test_the_victim_draws_what_the_attack_has_not_seen(key):
    """A random victim that is its own surrogate would lose each time to an attacker with its key."""
    attacked, judged = [], []
    spy = lambda classifier, x, y, k: (attacked.append(k), x)[1]
    victim = lambda x, k: (judged.append(k), _binary(W, 1.0)(x, k))[1]
    transfer(spy, _binary(W, 0.0)).step((victim, X, Y, key), start(X), 0)
    assert len(attacked) == len(judged) == 1
    assert not jnp.array_equal(*map(jax.random.key_data, attacked + judged))


def test_towards_a_class(key):
    """Three classes, two equally near: the targeted attack wins exactly where the victim comes to say y."""
    v = jnp.stack([jnp.zeros(8), jnp.abs(W), -jnp.abs(W)])
    attack = targeted(pgd(linf(RADIUS), RADIUS / 4, 8), margin())
    reached = float(RADIUS * jnp.sum(jnp.abs(W)))
    surrogate = lambda x, key: v @ (x - X)
    for bias, wins in ((reached - 0.01, True), (reached + 0.01, False)):
        victim = lambda x, key: v @ (x - X) + bias * jnp.array([1.0, 0.0, 0.0])
        for y in (1, 2):
            found = transfer(attack, surrogate, targeted=True).run(victim, X, jnp.asarray(y), key)
            assert bool(found.won) is wins
            np.testing.assert_allclose(found.loss, reached - bias, atol=1e-4)
    # The label alone is lost there too, but another class than y is no victory.
    lost = transfer(attack, lambda x, key: -surrogate(x, key), targeted=True)
    found = lost.run(lambda x, key: surrogate(x, key), X, jnp.asarray(1), key)
    assert not found.won and found.loss < 0


def test_plain_attacks_transfer_and_vmap_is_a_loop(key):
    def plain(classifier, x, y, key):
        gradient = jax.grad(lambda x: margin()(classifier(x, key), y))(x)
        return x + RADIUS * jnp.sign(gradient) * jax.random.uniform(key)

    attack = transfer(plain, _binary(W, 0.0))
    keys = jax.random.split(key, 4)
    victim = _binary(W, 0.5)
    run = jax.jit(lambda k: attack.run(victim, X, Y, k))
    batched = jax.vmap(run)(keys)
    for j, k in enumerate(keys):
        one = run(k)
        np.testing.assert_allclose(batched.x[j], one.x, atol=1e-6)
        assert one.won == batched.won[j] == (victim(one.x, k)[0] < victim(one.x, k)[1])


def test_ensembles_are_their_means(key):
    logits = jnp.array([[1.0, 2.0, 4.0], [0.0, -3.0, 50.0], [2.0, 2.0, 2.0]])
    members = [lambda x, key, z=z: z + 0.0 * x[0] for z in logits]
    np.testing.assert_allclose(ensemble(*members)(X, key), np.mean(logits, axis=0), rtol=1e-6)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    fused = ensemble(*members, probabilities=True)(X, key)
    np.testing.assert_allclose(np.exp(fused), p.mean(axis=0), rtol=1e-5)
    assert jnp.array_equal(ensemble(members[0])(X, key), logits[0])
    # Every member draws its own noise.
    noisy = lambda x, key: jax.random.normal(key, (3,))
    assert not jnp.allclose(ensemble(noisy, noisy)(X, key), ensemble(noisy)(X, key))
    with pytest.raises(ValueError, match="at least one"):
        ensemble()


def test_an_ensemble_finds_what_its_members_share(key):
    """Members v + noise_k: the attack on all of them is nearer to the optimum of v than the mean attack on one."""
    v = jnp.ones((8,))
    noise = 2.0 * jax.random.normal(key, (15, 8))
    height = lambda surrogate: transfer(ATTACK, surrogate).run(_binary(v, 10.0), X, Y, key).loss
    alone = jax.jit(jax.vmap(lambda n: height(_binary(v + n, 0.0))))(noise)
    together = jax.jit(lambda noise: height(ensemble(*[_binary(v + n, 0.0) for n in noise])))(noise)
    optimum = 2 * (RADIUS * 8 - 10.0)
    assert jnp.mean(alone) + 0.2 < together <= optimum + 1e-4
