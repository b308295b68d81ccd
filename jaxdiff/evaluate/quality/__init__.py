"""Sample quality, from any features: Fréchet and kernel distances, the score of a classifier, and neighbours."""

from jaxdiff.evaluate.quality.bootstrap import bootstrap_std
from jaxdiff.evaluate.quality.classes import agreement, inception_score
from jaxdiff.evaluate.quality.frechet import Moments, frechet_distance, merged
from jaxdiff.evaluate.quality.kernel import kernel_distance
from jaxdiff.evaluate.quality.neighbours import Neighbours, neighbours

__all__ = [
    "Moments",
    "Neighbours",
    "agreement",
    "bootstrap_std",
    "frechet_distance",
    "inception_score",
    "kernel_distance",
    "merged",
    "neighbours",
]
