"""Adversarial training losses on linear models, whose worst case and gradients are known."""

import itertools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rows import slow_but

from jaxdiff.attacks import cross_entropy, fgsm, kl, l2, linf, pgd, restarts, untargeted
from jaxdiff.defenses.training import madry, mixed, standard, trades

RADIUS = 0.1
W = jax.random.normal(jax.random.key(3), (2, 6))
X = jnp.full((4, 6), 0.5) + 0.1 * jax.random.normal(jax.random.key(1), (4, 6))
Y = jnp.array([0, 1, 1, 0])
KEYS = jax.random.split(jax.random.key(2), 4)
ATTACK = untargeted(fgsm(linf(RADIUS), RADIUS), cross_entropy())

# An L2 attack moves smoothly with the weights, so that a gradient through it would show; from random starts, with keys.
SMOOTH = untargeted(pgd(l2(RADIUS), RADIUS / 2, 3), cross_entropy())
SMOOTH_KL = untargeted(pgd(l2(RADIUS), RADIUS / 2, 3), kl())


def nudge(classifier, x, y, key):
    """An attack of one step that compiles in no time; `y` is a label or logits."""
    loss = kl() if jnp.ndim(y) else cross_entropy()
    start = x + 0.02 * jnp.arange(6, dtype=x.dtype) / 6
    return jnp.clip(start + 0.05 * jax.grad(lambda x: loss(classifier(x, key), y))(start), 0.0, 1.0)


def _losses(attack, kl_attack):
    return {
        "standard": standard(),
        "madry": madry(attack),
        "mixed": mixed(attack, 0.3),
        "trades": trades(kl_attack, 6.0),
    }


LOSSES, CHEAP = _losses(SMOOTH, SMOOTH_KL), _losses(nudge, nudge)
TRAINING = 1.7  # in training mode logits are this much larger than in evaluation


def _predict(w):
    return lambda x, train: (x @ w.T, {})


def _two_modes(w):
    return lambda x, train: ((TRAINING if train else 1.0) * (x @ w.T), {"seen": len(x)})


def _cross_entropies(x):
    return jax.vmap(cross_entropy())(x @ W.T, Y)


def _worst():
    """For two classes FGSM is optimal: every pixel moves against the label."""
    sign = jnp.where(Y == 0, 1.0, -1.0)[:, None]
    return X - RADIUS * sign * jnp.sign(W[0] - W[1])[None]


def test_losses_are_their_equations():
    clean, robust = _cross_entropies(X), _cross_entropies(_worst())
    np.testing.assert_allclose(standard()(_predict(W), X, Y, KEYS)[0], clean, rtol=1e-6)
    np.testing.assert_allclose(madry(ATTACK)(_predict(W), X, Y, KEYS)[0], robust, rtol=1e-5)
    np.testing.assert_allclose(
        mixed(ATTACK, 0.3)(_predict(W), X, Y, KEYS)[0], 0.3 * clean + 0.7 * robust, rtol=1e-5
    )
    assert jnp.all(robust > clean)


def test_trades_is_clean_loss_plus_worst_kl():
    # The KL has a peak on either side of the image: restarts find the higher one.
    attack = restarts(untargeted(pgd(linf(RADIUS), RADIUS / 4, 40), kl()), 8)
    log_p = jax.nn.log_softmax(X @ W.T)
    corners = [
        X + RADIUS * s * jnp.sign(W[0] - W[1])[None] for s in (-1, 1)
    ]  # the logit difference is linear
    gaps = [jnp.sum(jnp.exp(log_p) * (log_p - jax.nn.log_softmax(c @ W.T)), -1) for c in corners]
    expected = _cross_entropies(X) + 6.0 * jnp.maximum(*gaps)
    np.testing.assert_allclose(trades(attack, 6.0)(_predict(W), X, Y, KEYS)[0], expected, rtol=2e-3)


def _attacked(name):
    """What the attack of a loss makes of the batch: on the network in evaluation mode, every image with its own key."""
    classifier = lambda x, key: W @ x
    attack, y = (SMOOTH_KL, X @ W.T) if name == "trades" else (SMOOTH, Y)
    return np.asarray(jax.vmap(lambda x, y, key: attack(classifier, x, y, key))(X, y, KEYS), np.float64)


def _by_hand(name):
    """(losses, gradient of their sum in the weights), from dCE/dz = p - e_y and, for q = softmax(z') of attacked images,
    dKL(p || q)/dz = p (log p/q - KL), dKL/dz' = q - p; the logits are z = TRAINING x W^T.
    """
    x, x_adv, w, e = np.asarray(X, np.float64), _attacked(name), np.asarray(W, np.float64), np.eye(2)[Y]
    softmax = lambda z: np.exp(z) / np.exp(z).sum(1, keepdims=True)
    p, q = softmax(TRAINING * x @ w.T), softmax(TRAINING * x_adv @ w.T)
    ce = lambda p: -np.log((p * e).sum(1))
    kl_pq = (p * np.log(p / q)).sum(1)
    losses, dz, dz_adv = {
        "standard": (ce(p), p - e, 0 * e),
        "madry": (ce(q), 0 * e, q - e),
        "mixed": (0.3 * ce(p) + 0.7 * ce(q), 0.3 * (p - e), 0.7 * (q - e)),
        "trades": (
            ce(p) + 6.0 * kl_pq,
            p - e + 6.0 * p * (np.log(p / q) - kl_pq[:, None]),
            6.0 * (q - p),
        ),
    }[name]
    return losses, TRAINING * (dz.T @ x + dz_adv.T @ x_adv)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_those_of_the_formulas(name):
    """Danskin: at the attacked images, held fixed. Clean predictions are not, in (3) neither."""
    total = lambda w: jnp.sum(LOSSES[name](_two_modes(w), X, Y, KEYS)[0])
    value, gradient = jax.jit(jax.value_and_grad(total))(W)
    losses, expected = _by_hand(name)
    assert value == pytest.approx(losses.sum(), rel=1e-5)
    np.testing.assert_allclose(gradient, expected, rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "whole"),
    [
        ("standard", [(True, ["clean"])]),
        ("madry", [(True, ["attacked"])]),
        ("mixed", [(True, ["clean", "attacked"])]),
        ("trades", [(False, ["clean"]), (True, ["clean", "attacked"])]),
    ],
)
def test_who_sees_which_images_in_which_mode(name, whole):
    """Attacks look at single images in evaluation mode; training mode is called once, with all that is learned from."""
    calls, parts = [], {"clean": np.asarray(X), "attacked": _attacked(name)}

    def predict(x, train):
        calls.append((train, x))
        return _two_modes(W)(x, train)

    _, state = LOSSES[name](predict, X, Y, KEYS)
    assert state == {
        "seen": sum(len(parts[n]) for n in whole[-1][1])
    }  # what the call in training mode has updated
    single = [train for train, x in calls if x.shape == (1, 6)]
    batches = [(train, x) for train, x in calls if x.shape != (1, 6)]
    assert not any(single) and (len(single) > 0) == (name != "standard")
    assert [train for train, _ in batches] == [train for train, _ in whole]
    for (_, x), (_, names) in zip(batches, whole, strict=True):
        np.testing.assert_allclose(x, np.concatenate([parts[n] for n in names]), rtol=1e-6)


@pytest.mark.parametrize("name", ["madry", "mixed", "trades"])
def test_every_evaluation_of_an_attack_has_a_key_of_its_own(name):
    """No two steps, and no two examples, share theirs."""
    seen = []

    def noting(classifier, x, y, key):
        note = lambda data: seen.append(tuple(np.asarray(data)))

        def noted(x, key):
            jax.debug.callback(note, jax.random.key_data(key))
            return classifier(x, key)

        return (SMOOTH_KL if name == "trades" else SMOOTH)(noted, x, y, key)

    make = {"madry": madry, "mixed": mixed, "trades": trades}[name]
    jax.block_until_ready(make(noting)(_predict(W), X, Y, KEYS)[0])
    jax.effects_barrier()
    assert len(seen) == len(X) * 3 == len(set(seen))


@pytest.mark.parametrize("name", LOSSES)
def test_what_cannot_be_believed_is_nan_where_values_are_traced(name):
    """A label that is no class, a pixel of another range or NaN: NaN for this example, and for no other."""
    loss = jax.jit(lambda x, y: CHEAP[name](_predict(W), x, y, KEYS)[0])
    right = loss(X, Y)
    assert jnp.all(jnp.isfinite(right))
    broken = [(X, Y.at[2].set(bad)) for bad in (2, -1)]
    broken += [(X.at[2, 1].set(bad), Y) for bad in (jnp.nan, jnp.inf, 255.0)]
    if name != "standard":
        broken += [(X.at[2, 1].set(bad), Y) for bad in (-0.51, 1.51)]
    for x, y in broken:
        losses = loss(x, y)
        assert jnp.isnan(losses[2])
        np.testing.assert_allclose(losses[jnp.array([0, 1, 3])], right[jnp.array([0, 1, 3])], rtol=1e-6)


def test_augmented_pixels_are_clipped_where_there_is_an_attack():
    """The attack stays near the clipped image and inside the box; without an attack pixels are taken as they are."""
    x = X.at[0, :2].set(jnp.array([-0.3, 1.4]))
    clipped = jnp.clip(x, 0.0, 1.0)
    calls = []
    madry(SMOOTH)(lambda x, train: calls.append(x) or (x @ W.T, {}), x, Y, KEYS)
    assert jnp.all((calls[-1] >= 0.0) & (calls[-1] <= 1.0))
    assert jnp.all(jnp.linalg.norm(calls[-1] - clipped, axis=1) <= RADIUS * (1 + 1e-5))
    for name in ("madry", "mixed", "trades"):
        losses = CHEAP[name](_predict(W), x, Y, KEYS)[0]
        np.testing.assert_allclose(losses, CHEAP[name](_predict(W), clipped, Y, KEYS)[0], rtol=1e-6)
    np.testing.assert_allclose(standard()(_predict(W), x, Y, KEYS)[0], _cross_entropies(x), rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "dtype"),
    slow_but(
        itertools.product(LOSSES, ("bfloat16", "float16", "float64")),
        ("mixed", "bfloat16"),
        ("trades", "bfloat16"),
    ),
)
def test_losses_in_every_precision(name, dtype, x64):
    x, w = (a.astype(dtype) for a in (X, W))
    losses = CHEAP[name](_two_modes(w), x, Y, KEYS)[0]
    expected = CHEAP[name](_two_modes(W), X, Y, KEYS)[0]
    # The KL of neighbours is a small difference of large numbers.
    np.testing.assert_allclose(losses, expected, rtol=1e-6 + 4 * float(jnp.finfo(dtype).eps), atol=1e-6)


@pytest.mark.parametrize("name", slow_but(LOSSES, "trades"))
def test_batches_of_any_size_and_classes_of_any_number(name):
    """An example's loss is the same in all of them."""
    w = jax.random.normal(jax.random.key(5), (1000, 6))
    whole = CHEAP[name](_predict(w), X, Y, KEYS)[0]
    for batch in (0, 1):
        losses = CHEAP[name](_predict(w), X[:batch], Y[:batch], KEYS[:batch])[0]
        assert losses.shape == (batch,)
        np.testing.assert_allclose(losses, whole[:batch], rtol=1e-5)


def test_losses_are_values():
    """They pickle where their attack does, and can be told apart by jit."""
    for loss in CHEAP.values():
        again = pickle.loads(pickle.dumps(loss))
        np.testing.assert_array_equal(
            again(_predict(W), X, Y, KEYS)[0], loss(_predict(W), np.asarray(X), np.asarray(Y), KEYS)[0]
        )
        hash(loss)
