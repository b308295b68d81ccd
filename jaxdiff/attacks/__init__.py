"""Attacks as pure functions of one example. Configs name parts of one module each: `threat`, `ascent`, `objectives`."""

from jaxdiff.attacks import ascent, objectives, threat
from jaxdiff.attacks.ascent import fgsm, pgd
from jaxdiff.attacks.attack import restarts, targeted, untargeted
from jaxdiff.attacks.objectives import cross_entropy, kl, margin
from jaxdiff.attacks.threat import Threat, l2, linf
from jaxdiff.attacks.transforms import bpda, defend, eot

__all__ = [
    "Threat",
    "ascent",
    "bpda",
    "cross_entropy",
    "defend",
    "eot",
    "fgsm",
    "kl",
    "l2",
    "linf",
    "margin",
    "objectives",
    "pgd",
    "restarts",
    "targeted",
    "threat",
    "untargeted",
]
