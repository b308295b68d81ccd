"""Tasks: functions from the arguments of a stage to its plan, and the parts that they take. Configs name them.

training     score, classifier with `training`, `preview`; converted, converted_score, feature_network
pictures     samples, restored; real, noise, pca_gaussian to compare them with
numbers      quality of samples, likelihood
attacks      table of victims x cells, with curves and checks, such as flows
"""

from jaxdiff.study.table.cell import cell, curve
from jaxdiff.study.table.examine import check
from jaxdiff.study.table.victim import victim
from jaxdiff.study.tasks.baselines import noise, pca_gaussian, real
from jaxdiff.study.tasks.classifier import classifier
from jaxdiff.study.tasks.converted import converted, converted_score, feature_network
from jaxdiff.study.tasks.flows import flows
from jaxdiff.study.tasks.likelihood import likelihood
from jaxdiff.study.tasks.preview import preview
from jaxdiff.study.tasks.quality import quality
from jaxdiff.study.tasks.restored import restored
from jaxdiff.study.tasks.samples import samples
from jaxdiff.study.tasks.score import score
from jaxdiff.study.tasks.table import table
from jaxdiff.study.training import training

__all__ = [
    "cell",
    "check",
    "classifier",
    "converted",
    "converted_score",
    "curve",
    "feature_network",
    "flows",
    "likelihood",
    "noise",
    "pca_gaussian",
    "preview",
    "quality",
    "real",
    "restored",
    "samples",
    "score",
    "table",
    "training",
    "victim",
]
