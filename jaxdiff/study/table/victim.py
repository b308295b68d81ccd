"""Victims: who is attacked and judged, a classifier, perhaps behind a defense."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxdiff.defenses import attackers_view
from jaxdiff.study.parts import Later
from jaxdiff.types import Classifier, Defense


class Victim(NamedTuple):
    """A classifier, perhaps behind a defense, as parts; `random` if one evaluation of it proves nothing."""

    classifier: Later
    defense: Later | None
    random: bool

    @property
    def arrays(self) -> dict[str, Any]:
        """The arrays of the products that it names, by their stages."""
        return {**self.classifier.arrays, **(self.defense.arrays if self.defense else {})}

    @property
    def needs(self) -> tuple[str, ...]:
        """The stages whose products it names."""
        return self.classifier.needs + (self.defense.needs if self.defense else ())

    @property
    def spec(self) -> dict[str, Any]:
        """All that it is but the arrays of its products."""
        return {
            "classifier": self.classifier.spec,
            "defense": self.defense and self.defense.spec,
            "random": self.random,
        }

    def parts(self, arrays: Mapping[str, Any]) -> tuple[Classifier, Defense | None]:
        """The classifier and the defense, of these arrays."""
        return self.classifier(arrays), self.defense and self.defense(arrays)

    def seen(self, arrays: Mapping[str, Any], view: Any = "exact") -> Classifier:
        """What an attacker with this view attacks, see `attackers_view`; with "exact" what is judged.

        ValueError for another name than "exact" if there is no defense, for then nothing stands between.
        """
        classifier, defense = self.parts(arrays)
        if callable(view):
            return view(classifier, defense)
        if defense is not None:
            return attackers_view(classifier, defense, view)
        if view != "exact":
            raise ValueError(
                f"The view {view!r} is of a defense, and this victim has none: leave it out, or say by `on` which victims the "
                "cell is for."
            )
        return classifier


def victim(classifier: Later, defense: Later | None = None, random: bool | None = None) -> Victim:
    """A victim of a table: `classifier` and `defense` are products, such as "@plain", or parts that name them.

    `random` says that it draws random numbers, so that one evaluation proves nothing; by default it is if it has a defense.
    """
    return Victim(classifier, defense, defense is not None if random is None else random)
