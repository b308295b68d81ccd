"""Every attack, as a table of rows: what the sweeps over dtypes and over shapes run.

A row says in which norm its result is near the image, and whether it surely wins on a linear model where half the radius is
enough.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxdiff import attacks as a
from jaxdiff.attacks import directions, patch, universal
from jaxdiff.attacks.transforms import averaged

ORDER = {"linf": np.inf, "l2": 2, "l1": 1}
INF = float("inf")
# In these norms nearly every image of 4 x 4 pixels around mid-grey is within reach of another class of `linear`.
RADII = {"linf": 0.2, "l2": 0.7, "l1": 2.5}


class Row(NamedTuple):
    attack: Any  # (classifier, x, y, key) -> x'; most are stepwise
    norm: str | None = None  # x' - x is no longer than RADII[norm] (None: no such limit)
    strong: bool = True  # it wins where half the radius suffices
    targeted: bool = False


def _up(ascent, objective=a.margin):
    return a.untargeted(ascent, objective())


def _ball(norm):
    return {"linf": a.linf, "l2": a.l2, "l1": a.l1}[norm](RADII[norm])


_linf, _l2, _l1 = map(_ball, RADII)
_grey = jnp.full((2, 2, 1), 0.5)


def _surrogate(x, key):
    return linear(3, x.size)(x, key)


ATTACKS = {
    "fgsm": lambda: Row(_up(a.fgsm(_linf, RADII["linf"])), "linf"),
    "fgsm_clip": lambda: Row(_up(a.fgsm(_linf, 9.0, form="clip")), "linf"),
    "pgd_linf": lambda: Row(_up(a.pgd(_linf, 0.05, 8)), "linf"),
    "pgd_best": lambda: Row(_up(a.pgd(_linf, 0.05, 8, keep_best=True)), "linf"),
    "pgd_l2": lambda: Row(_up(a.pgd(_l2, 0.2, 8)), "l2"),
    "pgd_l1": lambda: Row(_up(a.pgd(_l1, 0.5, 16)), "l1"),
    "momentum": lambda: Row(_up(a.pgd(_linf, 0.05, 8, tx=directions.momentum(_linf))), "linf"),
    "nesterov": lambda: Row(_up(a.pgd(_linf, 0.05, 8, tx=directions.nesterov(_linf))), "linf"),
    "adam": lambda: Row(_up(a.pgd(_linf, 0.05, 8, tx=directions.adam())), "linf"),
    "fourier_l2": lambda: Row(_up(a.pgd(a.fourier_l2(RADII["l2"]), 0.3, 16)), "l2", strong=False),
    "low_frequency": lambda: Row(_up(a.pgd(a.low_frequency(_l2, 0.6), 0.2, 8)), "l2", strong=False),
    "flow_pgd": lambda: Row(_up(a.pgd(a.flow_field(0.2), 0.05, 4)), None, strong=False),
    "apgd_linf": lambda: Row(_up(a.apgd(_linf, 8)), "linf"),
    "apgd_l2": lambda: Row(_up(a.apgd(_l2, 8)), "l2"),
    "apgd_low": lambda: Row(_up(a.apgd(a.low_frequency(_linf, 0.6), 8)), "linf", strong=False),
    "apgd_l1": lambda: Row(_up(a.apgd_l1(RADII["l1"], 12)), "l1"),
    "square_linf": lambda: Row(_up(a.square_linf(RADII["linf"], 150)), "linf"),
    "square_l2": lambda: Row(_up(a.square_l2(RADII["l2"], 60)), "l2", strong=False),
    "square_l1": lambda: Row(_up(a.square_l1(RADII["l1"], 60)), "l1", strong=False),
    "nes": lambda: Row(_up(a.nes(_linf, 0.05, 330, samples=16)), "linf"),
    "spsa": lambda: Row(_up(a.spsa(_l2, 0.05, 330, samples=16)), "l2"),
    "rotation_translation": lambda: Row(
        _up(a.rotation_translation(30.0, 0.3, (3, 3, 3))), None, strong=False
    ),
    "worst_of_k": lambda: Row(_up(a.worst_of_k(5)), None, strong=False),
    "averaged": lambda: Row(_up(averaged(a.apgd(_linf, 5), 2)), "linf"),
    "restarts": lambda: Row(a.restarts(_up(a.apgd(_linf, 4)), 2), "linf"),
    "multi_targeted": lambda: Row(a.multi_targeted(a.apgd(_linf, 5), a.targeted_margin(), 1), "linf"),
    "transfer": lambda: Row(a.transfer(_up(a.fgsm(_linf, RADII["linf"])), _surrogate), "linf"),
    "fab": lambda: Row(a.fab(_linf, 5), "linf"),
    "fab_l2": lambda: Row(a.fab(_l2, 5), "l2"),
    "fab_l1": lambda: Row(a.fab(_l1, 5), "l1"),
    "fab_targeted": lambda: Row(a.fab_targeted(_l2, 1, 5, restarts=2), "l2"),
    "deepfool": lambda: Row(a.deepfool(_l2, 5), "l2"),
    "ddn": lambda: Row(a.ddn(40), None),
    "ddn_free": lambda: Row(a.ddn(40, levels=None), None),
    "carlini_wagner": lambda: Row(a.carlini_wagner(4, 40, 0.05, 0.1), None),
    "pixels": lambda: Row(a.pixels(3, 20, 10), None, strong=False),
    "stadv": lambda: Row(a.stadv(0.2, 6), None, strong=False),
    "stadv_last": lambda: Row(a.stadv(0.2, 6, keep="last"), None, strong=False),
    "stadv_original": lambda: Row(a.stadv_original(steps=4), None, strong=False),
    "hop_skip_jump": lambda: Row(a.hop_skip_jump(a.l2, INF, 600, directions=20), None),
    "hop_linf": lambda: Row(a.hop_skip_jump(a.linf, RADII["linf"], 900, directions=20), "linf"),
    "boundary": lambda: Row(a.boundary(a.l2, RADII["l2"], 900), "l2"),
    "synthesise": lambda: Row(a.synthesise(20, 0.05), None, targeted=True),
    "stay_near": lambda: Row(a.stay_near(0.1, 40, 0.05), None, targeted=True),
    "universal": lambda: Row(universal.apply_universal(jnp.full((4, 4, 1), 0.1), _linf), "linf", False),
    "patch": lambda: Row(
        patch.apply_patch(_grey, patch.square_mask(2), patch.random_placement()), None, strong=False
    ),
}


def linear(classes, pixels, dtype=jnp.float32):
    """A linear classifier that computes in `dtype` (None: in that of the image)."""
    w = np.random.default_rng(3).normal(size=(classes, pixels)).round(2)

    def classifier(x, key):
        kind = x.dtype if dtype is None else dtype
        return jnp.asarray(w, kind) @ (x.ravel().astype(kind) - 0.5)

    classifier.w = w
    return classifier


def run(row, classifier, x, y, key):
    """(x', won as it was told or None)."""
    if isinstance(row.attack, a.Stepwise):
        found = row.attack.run(classifier, x, y, key)
        return found.x, found.won
    return row.attack(classifier, x, y, key), None
