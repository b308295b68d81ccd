"""Attacks as pure functions of one example. Configs name threats, ascents, objectives and attacks of this module.

threats      linf, l2, l1, flow_field, fourier_l2, low_frequency(threat, cutoff)
ascents      fgsm, pgd (with `directions`), apgd, apgd_l1, square_linf, square_l2, square_l1, nes, spsa, rotation_translation
objectives   cross_entropy, margin, dlr, kl, targeted ones; with an ascent `untargeted`, `targeted`, `multi_targeted`
attacks      fab, fab_targeted, deepfool, ddn, carlini_wagner, pixels, stadv, hop_skip_jump, boundary, synthesise, ...
ensembles    autoattack.standard, rand, plus
batches      `jax.vmap`, `pooled`, `autoattack.in_order`
"""

from jaxdiff.attacks import ascent, autoattack, directions, objectives, patch, threat, universal
from jaxdiff.attacks.apgd import apgd
from jaxdiff.attacks.apgd_l1 import apgd_l1
from jaxdiff.attacks.ascent import fgsm, pgd
from jaxdiff.attacks.attack import as_stepwise, lost, restarts, targeted, untargeted
from jaxdiff.attacks.boundary import boundary
from jaxdiff.attacks.carlini_wagner import carlini_wagner
from jaxdiff.attacks.ddn import ddn
from jaxdiff.attacks.deepfool import deepfool
from jaxdiff.attacks.estimate import nes, spsa
from jaxdiff.attacks.fab import fab, fab_targeted
from jaxdiff.attacks.flow import flow_field, warp
from jaxdiff.attacks.fourier import fourier_l2, low_frequency
from jaxdiff.attacks.hop_skip_jump import hop_skip_jump
from jaxdiff.attacks.l1 import l1
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
from jaxdiff.attacks.one_pixel import pixels
from jaxdiff.attacks.pool import pooled
from jaxdiff.attacks.rotation import rotation_translation, worst_of_k
from jaxdiff.attacks.square import square_l1, square_l2, square_linf
from jaxdiff.attacks.stadv import flow_ascent, run_with_flow, stadv, stadv_original
from jaxdiff.attacks.stepwise import Best, Stepwise
from jaxdiff.attacks.synthesis import stay_near, synthesise
from jaxdiff.attacks.threat import Threat, l2, linf
from jaxdiff.attacks.transfer import ensemble, transfer
from jaxdiff.attacks.transforms import against_mean, averaged, bpda, defend, eot, eot_logits

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
