"""Fidelity and diversity by nearest neighbours.

A set of features has around each of its points a ball that reaches to its k-th neighbour in the set. With real points x_j,
their balls B_j, and generated points y_i (n of them),

    precision   the share of y in any B_j                (Kynkäänniemi et al. 2019, arXiv 1904.06991)    (1)
    recall      the share of x in any ball of the y                                                      (2)
    density     sum_i |{j: y_i in B_j}| / (k n)          (Naeem et al. 2020, arXiv 2002.09797)           (3)
    coverage    the share of B_j with a y in them                                                        (4)
"""

from typing import Any, NamedTuple

import numpy as np

from jaxdiff import checks
from jaxdiff.evaluate.quality.rows import two_of


class Neighbours(NamedTuple):
    """Equations (1) to (4); all but density are shares in [0, 1]."""

    precision: float
    recall: float
    density: float
    coverage: float


def neighbours(real: Any, generated: Any, k: int = 5) -> Neighbours:
    """The four numbers of features [n, d]; the first two are usually of k = 3, the others of k = 5.

    ValueError unless both have more than k rows.
    """
    checks.count("neighbours", k=k)
    real, generated = two_of("neighbours", real, generated, least=k + 1)
    in_real, in_generated = _reach(real, k), _reach(generated, k)
    inside, recalled, nearest = [], [], np.full(len(real), np.inf)
    for rows in _distances(generated, real):  # [some of generated, real]
        inside.append((rows <= in_real).sum(1))
        nearest = np.minimum(nearest, rows.min(0))
    for rows in _distances(real, generated):
        recalled.append((rows <= in_generated).any(1))
    counts = np.concatenate(inside)
    return Neighbours(
        precision=float(np.mean(counts > 0)),
        recall=float(np.mean(np.concatenate(recalled))),
        density=float(counts.sum() / (k * len(generated))),
        coverage=float(np.mean(nearest <= in_real)),
    )


def _reach(x: np.ndarray, k: int) -> np.ndarray:
    """The distance of every point to its k-th neighbour, itself not counted."""
    return np.concatenate([np.partition(rows, k, axis=1)[:, k].copy() for rows in _distances(x, x)])


def _distances(x: np.ndarray, y: np.ndarray) -> Any:
    """[some of x, y], part by part of bounded memory."""
    from sklearn.metrics import pairwise_distances_chunked

    return pairwise_distances_chunked(x, y, working_memory=256)
