"""What an attacker differentiates when a classifier stands behind a defense.

exact    the defended classifier itself: the gradient runs through every step of the purification
bpda     the same forward, with the purification taken for the identity backward (Athalye et al. 2018)
blind    the classifier alone: the attacker does not know the defense (transfer)
"""

from jaxdiff.attacks import bpda, defend
from jaxdiff.types import Classifier, Defense

VIEWS = {
    "exact": defend,
    "bpda": lambda classifier, defense: defend(classifier, bpda(defense)),
    "blind": lambda classifier, defense: classifier,
}


def attackers_view(classifier: Classifier, defense: Defense, gradient: str = "exact") -> Classifier:
    """The classifier that an attacker with this `gradient` attacks; ValueError for an unknown one."""
    if gradient not in VIEWS:
        raise ValueError(f"Unknown gradient {gradient!r}. Known: {sorted(VIEWS)}.")
    return VIEWS[gradient](classifier, defense)
