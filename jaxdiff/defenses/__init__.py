"""Defenses, what attackers see of them, and how they are judged. Configs name losses of the module `training`."""

from jaxdiff.defenses import protocols, training
from jaxdiff.defenses.gradient_report import gradient_report, report_text
from jaxdiff.defenses.gradients import Purifier, attackers_view, known_gradients
from jaxdiff.defenses.masking import masking_battery
from jaxdiff.defenses.purify import diffpure

__all__ = [
    "Purifier",
    "attackers_view",
    "diffpure",
    "gradient_report",
    "known_gradients",
    "masking_battery",
    "protocols",
    "report_text",
    "training",
]
