"""What an attacker differentiates when a classifier stands behind a defense.

exact        the defended classifier itself: the gradient runs through every step of the purification
bpda         the same forward, with the purification taken for the identity backward (Athalye et al. 2018)
blind        the classifier alone: the attacker does not know the defense (transfer)

and, behind a purifier that carries them (`diffpure` does),

adjoint      the same forward, with the states reconstructed from the result backward (Nie et al. 2022), see `adjoint`
surrogate    a purification of fewer steps in place of the full one, forward and backward (Lee and Kim 2023, arXiv 2303.09051)

A view is for the attacker; the judge uses the full defense. `gradient_report` measures what a view is worth.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from jaxdiff import checks
from jaxdiff.attacks import bpda, defend
from jaxdiff.diffusion.sample import ImageLike
from jaxdiff.types import Classifier, Defense, Image, PRNGKey

VIEWS = {
    "exact": defend,
    "bpda": lambda classifier, defense: defend(classifier, bpda(defense)),
    "blind": lambda classifier, defense: classifier,
}


@dataclass(frozen=True, eq=False)
class Purifier:
    """A defense that carries stand-ins for itself: `views` names them, and builds one when it is asked for."""

    purify: Defense
    views: Mapping[str, Callable[[], Defense]]

    def __post_init__(self):
        checks.function("Purifier", purify=self.purify)
        checks.instance("Purifier", Mapping, "{}", views=self.views)
        checks.function("Purifier", **self.views)

    def __call__(self, x: ImageLike, key: PRNGKey) -> Image:
        """The purified image."""
        return self.purify(x, key)


def attackers_view(classifier: Classifier, defense: Defense, gradient: str = "exact") -> Classifier:
    """The classifier that an attacker with this `gradient` attacks; ValueError for one that the defense does not know."""
    checks.function("attackers_view", classifier=classifier, defense=defense)
    if gradient in list(VIEWS):
        return VIEWS[gradient](classifier, defense)
    own = known_gradients(defense)
    if gradient not in own:
        raise ValueError(
            f"Unknown gradient {gradient!r}. Known for this defense: {own}. A `Purifier` may carry more: diffpure does "
            "'adjoint', and 'surrogate' if it is given surrogate_steps."
        )
    return defend(classifier, defense.views[gradient]())


def known_gradients(defense: Defense) -> list[str]:
    """The names that `attackers_view` takes for this defense."""
    return [*VIEWS, *(defense.views if isinstance(defense, Purifier) else ())]
