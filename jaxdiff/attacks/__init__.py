"""Attacks as pure functions of one example. Configs name threats, ascents, objectives and attacks of this module.

threats      linf, l2, l1, flow_field, fourier_l2, low_frequency(threat, cutoff)
ascents      fgsm, pgd (with `directions`), apgd, apgd_l1, square_linf, square_l2, square_l1, nes, spsa, rotation_translation
objectives   cross_entropy, margin, dlr, kl, targeted ones; with an ascent `untargeted`, `targeted`, `multi_targeted`
attacks      fab, fab_targeted, deepfool, ddn, carlini_wagner, pixels, stadv, hop_skip_jump, boundary, synthesise, ...
ensembles    autoattack.standard, rand, plus
batches      `jax.vmap`, `pooled`, `in_order`

The public names are those below, wherever their files lie. A file imports from lines above its own, and from its own room:

    threats   objectives   stepwise                       where, what for, and how an attack runs
    precision   then   attack   then   transforms   pool
    ascents                                               by gradients
    least   queries   universal   stadv   synthesis       the nearest, without gradients, one for all; flows; images of a class
    multi   then   cascade, autoattack                    several in turn
"""

from jaxdiff.attacks import autoattack, objectives, universal
from jaxdiff.attacks.ascents import ascent, directions
from jaxdiff.attacks.ascents.apgd import apgd
from jaxdiff.attacks.ascents.apgd_l1 import apgd_l1
from jaxdiff.attacks.ascents.ascent import fgsm, pgd
from jaxdiff.attacks.attack import as_stepwise, lost, restarts, targeted, untargeted
from jaxdiff.attacks.cascade import in_order
from jaxdiff.attacks.least.carlini_wagner import carlini_wagner
from jaxdiff.attacks.least.ddn import ddn
from jaxdiff.attacks.least.deepfool import deepfool
from jaxdiff.attacks.least.fab import fab, fab_targeted
from jaxdiff.attacks.multi import multi_targeted
from jaxdiff.attacks.objectives import (
    cross_entropy,
    dlr,
    kl,
    margin,
    targeted_cross_entropy,
    targeted_dlr,
    targeted_margin,
)
from jaxdiff.attacks.pool import pooled
from jaxdiff.attacks.queries.boundary import boundary
from jaxdiff.attacks.queries.estimate import nes, spsa
from jaxdiff.attacks.queries.hop_skip_jump import hop_skip_jump
from jaxdiff.attacks.queries.one_pixel import pixels
from jaxdiff.attacks.queries.rotation import rotation_translation, worst_of_k
from jaxdiff.attacks.queries.square import square_l1, square_l2, square_linf
from jaxdiff.attacks.queries.transfer import ensemble, transfer
from jaxdiff.attacks.stadv import flow_ascent, run_with_flow, stadv, stadv_original
from jaxdiff.attacks.stepwise import Best, Stepwise
from jaxdiff.attacks.synthesis import stay_near, synthesise
from jaxdiff.attacks.threats import threat
from jaxdiff.attacks.threats.flow import flow_field, warp
from jaxdiff.attacks.threats.fourier import fourier_l2, low_frequency
from jaxdiff.attacks.threats.l1 import l1
from jaxdiff.attacks.threats.threat import Threat, l2, linf
from jaxdiff.attacks.transforms import against_mean, averaged, bpda, defend, eot, eot_logits
from jaxdiff.attacks.universal import patch

__all__ = [
    "Best",
    "Stepwise",
    "Threat",
    "against_mean",
    "apgd",
    "apgd_l1",
    "as_stepwise",
    "ascent",
    "autoattack",
    "averaged",
    "boundary",
    "bpda",
    "carlini_wagner",
    "cross_entropy",
    "ddn",
    "deepfool",
    "defend",
    "directions",
    "dlr",
    "ensemble",
    "eot",
    "eot_logits",
    "fab",
    "fab_targeted",
    "fgsm",
    "flow_ascent",
    "flow_field",
    "fourier_l2",
    "hop_skip_jump",
    "in_order",
    "kl",
    "l1",
    "l2",
    "linf",
    "lost",
    "low_frequency",
    "margin",
    "multi_targeted",
    "nes",
    "objectives",
    "patch",
    "pgd",
    "pixels",
    "pooled",
    "restarts",
    "rotation_translation",
    "run_with_flow",
    "spsa",
    "square_l1",
    "square_l2",
    "square_linf",
    "stadv",
    "stadv_original",
    "stay_near",
    "synthesise",
    "targeted",
    "targeted_cross_entropy",
    "targeted_dlr",
    "targeted_margin",
    "threat",
    "transfer",
    "universal",
    "untargeted",
    "warp",
    "worst_of_k",
]
