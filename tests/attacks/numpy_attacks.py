"""Attacks on numpy arrays give what they give for JAX arrays; for `refusals`, as the type checker of tests wants the latter."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from every_attack import linear

from jaxdiff import attacks
from jaxdiff.attacks import directions, patch, universal
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


THREATS = {
    "linf": attacks.linf(0.1),
    "l2": attacks.l2(0.5),
    "l1": attacks.l1(1.0),
    "flow": attacks.flow_field(0.1),
    "fourier": attacks.fourier_l2(0.5),
    "low": attacks.low_frequency(attacks.linf(0.1), 0.5),
}
for name, threat in THREATS.items():
    delta = STARTS[0] if name != "flow" else np.concatenate(2 * [STARTS[0]], axis=-1)
    NUMPY |= {
        f"{name}, init": (lambda x, t=threat: t.init(KEY, x), (IMAGES[0],)),
        f"{name}, apply": (lambda x, delta, t=threat: t.apply(x, t.project(delta, x)), (IMAGES[0], delta)),
        f"{name}, project": (threat.project, (delta, IMAGES[0])),
        f"{name}, norm": (threat.norm, (delta,)),
        f"{name}, steepest": (lambda g, t=threat: t.steepest.update(g, t.steepest.init(g), g)[0], (delta,)),
    }

# Attacks made of numbers: float64 of numpy where JAX may use it, which no image should take its precision from.
LINF = attacks.linf(0.1)
_up = lambda ascent: attacks.untargeted(ascent, attacks.margin())
NUMBERS = {
    "pgd": (lambda r, lr: _up(attacks.pgd(attacks.linf(r), lr, 3)), (0.1, 0.02)),
    "momentum": (lambda decay: _up(attacks.pgd(LINF, 0.1, 3, tx=directions.momentum(LINF, decay))), (0.9,)),
    "pgd, adam": (lambda r, b1, b2: _up(attacks.pgd(attacks.l2(r), 0.1, 3, tx=directions.adam(b1, b2))), (0.5, 0.9, 0.99)),
    "pgd, l1": (lambda r, share: _up(attacks.pgd(attacks.l1(r, share), 0.5, 3)), (1.0, 0.1)),
    "pgd, flow": (lambda r: _up(attacks.pgd(attacks.flow_field(r), steps=3)), (0.1,)),
    "pgd, fourier": (lambda r, decay: _up(attacks.pgd(attacks.fourier_l2(r, decay), steps=3)), (0.5, 1.0)),
    "apgd": (lambda r, rho: _up(attacks.apgd(attacks.l2(r), 3, rho)), (0.5, 0.7)),
    "apgd_l1": (lambda r: _up(attacks.apgd_l1(r, 4)), (1.0,)),
    "square": (lambda r, p: _up(attacks.square_linf(r, 5, p)), (0.1, 0.7)),
    "square_l2": (lambda r, p: _up(attacks.square_l2(r, 5, p)), (0.5, 0.7)),
    "nes": (lambda r, lr, sigma: _up(attacks.nes(attacks.linf(r), lr, 50, 5, sigma)), (0.1, 0.02, 0.01)),
    "worst_of_k": (lambda degrees, shift: _up(attacks.worst_of_k(3, degrees, shift)), (30.0, 0.3)),
    "fab": (lambda r, alpha, eta, beta: attacks.fab(attacks.l2(r), 3, alpha, eta, beta, 2), (0.5, 0.1, 1.05, 0.9)),
    "deepfool": (lambda r, overshoot: attacks.deepfool(attacks.linf(r), 3, overshoot), (0.1, 0.02)),
    "ddn": (lambda gamma, norm: attacks.ddn(3, gamma, norm), (0.05, 1.0)),
    "carlini_wagner": (lambda lr, c, confidence: attacks.carlini_wagner(2, 3, lr, c, confidence), (0.01, 0.1, 0.1)),
    "pixels": (lambda weight: attacks.pixels(1, 5, 2, weight), (0.5,)),
    "stadv": (lambda bound, lr, tau: attacks.stadv(bound, 2, lr, tau), (0.1, 0.01, 0.05)),
    "stadv_original": (lambda tau, kappa: attacks.stadv_original(tau, kappa, 2), (0.05, 0.1)),
    "hop_skip_jump": (lambda r: attacks.hop_skip_jump(attacks.l2, r, 20), (1.0,)),
    "boundary": (lambda r, s, i: attacks.boundary(attacks.l2, r, 20, 4, sideways=s, inwards=i), (1.0, 0.1, 0.1)),
    "synthesise": (lambda lr, weight: attacks.synthesise(3, lr, tv_weight=weight), (0.1, 0.1)),
    "stay_near": (lambda lmbda, lr: attacks.stay_near(lmbda, 3, lr), (0.1, 0.1)),
    "apply_universal": (lambda r: universal.apply_universal(STARTS[0], attacks.linf(r)), (0.1,)),
}  # fmt: skip


def keeps_precision(make, numbers):
    """ "float32 bfloat16", the dtypes of what is found for images of these, or an error."""
    images = (jnp.asarray(IMAGES[0], dtype) for dtype in (jnp.float32, jnp.bfloat16))
    with jax.enable_x64(True):
        attack = make(*map(np.float64, numbers))
        found = [jax.eval_shape(lambda x: attack(_linear, x, 0, KEY), x) for x in images]
    return " ".join(image.dtype.name for image in found)


def compared(function, arrays):
    """ "the same", or an AssertionError."""
    found, expected = function(*arrays), function(*map(jnp.asarray, arrays))
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(found))
    return "the same"


ROWS = {name: (functools.partial(compared, *row),) for name, row in NUMPY.items()}
PRECISE = {f"{name}, of numpy's numbers": row for name, row in NUMBERS.items()}
ROWS |= {name: (functools.partial(keeps_precision, *row),) for name, row in PRECISE.items()}
