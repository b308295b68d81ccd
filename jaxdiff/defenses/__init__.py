"""Defenses: purification and adversarial training. Configs name losses of the module `training`."""

from jaxdiff.defenses import training
from jaxdiff.defenses.gradients import attackers_view
from jaxdiff.defenses.purify import diffpure

__all__ = ["attackers_view", "diffpure", "training"]
