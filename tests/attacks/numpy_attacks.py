"""Attacks on numpy arrays give what they give for JAX arrays; for `refusals`, as the type checker of tests wants the latter."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from every_attack import linear

from jaxdiff import attacks
from jaxdiff.attacks import patch, universal
from jaxdiff.attacks.universal.patch import random_placement

KEY = jax.random.key(0)
STARTS = np.random.default_rng(2).uniform(size=(3, 4, 4, 1)).astype(np.float32)
IMAGES, LABELS = 0.3 + 0.4 * STARTS, np.array([0, 1, 2])
MASK, COLOURS = np.ones((2, 2), np.float32), np.random.default_rng(3).uniform(size=(5, 1)).astype(np.float32)


def _linear(x, key):
    return linear(3, 16)(x, key)


# Functions of arrays, as numpy gives them or JAX.
NUMPY = {
    "starts of hop_skip_jump": (
        lambda starts, x: attacks.hop_skip_jump(attacks.l2, 1.0, 10, starts=starts)(_linear, x, 0, KEY),
        (STARTS, IMAGES[0]),
    ),
    "starts of boundary": (
        lambda starts, x: attacks.boundary(attacks.l2, 1.0, 20, starts=starts)(_linear, x, 0, KEY),
        (STARTS, IMAGES[0]),
    ),
    "train_patch": (
        lambda x, y, mask: patch.train_patch(
            _linear, x, y, KEY, patch.hide_label(), mask, random_placement(), 2, 2
        ),
        (IMAGES, LABELS, MASK),
    ),
    "apply_patch": (
        lambda p, mask, x: patch.apply_patch(p, mask, random_placement())(_linear, x, 0, KEY),
        (STARTS[0, :2, :2], MASK, IMAGES[0]),
    ),
    "non_printability": (patch.non_printability, (STARTS[0], COLOURS)),
    "patch_variation": (patch.total_variation, (STARTS[0],)),
    "warp": (attacks.warp, (STARTS[0], STARTS[:2, :, :, 0].transpose(1, 2, 0))),
    "universal_deepfool": (
        lambda x, y: universal.universal_deepfool(
            attacks.l2(0.5), attacks.deepfool(attacks.l2(0.5), 2), passes=1
        )(_linear, x, y, KEY),
        (IMAGES, LABELS),
    ),
    "universal_pgd": (
        lambda x, y: universal.universal_pgd(attacks.linf(0.1), attacks.margin(), 0.1)(_linear, x, y, KEY),
        (IMAGES[None], LABELS[None]),
    ),
    "fooling_rate": (
        lambda delta, x, y: universal.fooling_rate(attacks.linf(0.1), delta, _linear, x, y, KEY),
        (0.1 * STARTS[0], IMAGES, LABELS),
    ),
}


def compared(function, arrays):
    """ "the same", or an AssertionError."""
    found, expected = function(*arrays), function(*map(jnp.asarray, arrays))
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(found))
    return "the same"


ROWS = {name: (functools.partial(compared, *row),) for name, row in NUMPY.items()}
