"""Classifiers of which the tests of attacks know the boundaries, or that there are many."""

import jax
import jax.numpy as jnp
import numpy as np

ORDER = {"linf": np.inf, "l2": 2, "l1": 1}
DUAL = {"linf": 1, "l2": 2, "l1": np.inf}
SHAPE = (4, 5, 1)
INSIDE = jnp.full(SHAPE, 0.5)
KEY = jax.random.key(0)
HIDDEN = jax.random.normal(jax.random.key(8), (6, 20)) / 2
LAST = jax.random.normal(jax.random.key(9), (5, 6)) * 2


def three_sums(x, key):
    """Three classes for images of any shape."""
    return jnp.stack([jnp.sum(x), jnp.sum(x[:1]), jnp.sum(x[1:])])


def mlp(x, key):
    """Five classes for images of 20 pixels, with tanh between two layers."""
    return LAST @ jnp.tanh(HIDDEN @ (4 * x.ravel() - 2))


def curved(x, key):
    """Four classes for images like `INSIDE`, wild: boundaries are near everywhere."""
    w = np.random.default_rng(1).normal(size=(4, *SHAPE)).astype(np.float32)
    return jnp.sin(3.0 * jnp.einsum("khwc,hwc->k", w, x)) * jnp.array([1.0, 2.0, 3.0, 4.0])


def near_boundaries(classes, x=INSIDE):
    """(classifier W (image - x) + z, its class at x, z, W): z is small, so that the boundaries are nearer than the box."""
    rng = np.random.default_rng(10)  # the nearest of ten boundaries is not that with the runner-up
    w = rng.normal(size=(classes, *SHAPE)).astype(np.float32)
    z = 0.3 * rng.normal(size=classes).astype(np.float32)
    classifier = lambda image, key: z + jnp.einsum("khwc,hwc->k", w, image - x)
    return classifier, jnp.asarray(np.argmax(z)), z, w


def clear_winner(classes, scale=1.0, shift=0.0):
    """(a linear classifier, its class at `INSIDE`, the L2 distances to the boundaries with the other classes)."""
    rng = np.random.default_rng(1)
    w = rng.normal(size=(classes, *SHAPE)).astype(np.float32)
    z = 0.5 * rng.normal(size=classes).astype(np.float32)
    y = np.argmax(z)
    z[y] += 1
    distances = [(z[y] - z[j]) / np.linalg.norm(w[j] - w[y]) for j in range(classes) if j != y]
    classifier = lambda x, key: scale * (z + shift + jnp.einsum("khwc,hwc->k", w, x - INSIDE))
    return classifier, jnp.asarray(y), distances


def known_margins(w, x, y, norm):
    """The least norm that takes each image from the class y of w (x - 1/2): min over j of (z_y - z_j) / |w_y - w_j|_dual."""
    w, y = np.asarray(w, np.float64), np.asarray(y)
    z = (np.asarray(x, np.float64).reshape(len(x), -1) - 0.5) @ w.T
    gaps = z[np.arange(len(x)), y][:, None] - z
    widths = np.linalg.norm(w[y][:, None] - w[None], DUAL[norm], axis=-1)
    return np.where(np.arange(len(w)) == y[:, None], np.inf, gaps / np.maximum(widths, 1e-9)).min(1)


def run_jitted(attack, classifier, x, y):
    return jax.jit(lambda x, y: attack.run(classifier, x, y, KEY))(x, y)
