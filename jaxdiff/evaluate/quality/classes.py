"""What a classifier says of samples.

    inception score = exp of the mean of KL(p(y | x) | p(y))  (Salimans et al. 2016, arXiv 1606.03498),             (1)

with p(y) the mean over the samples of a split.
"""

from typing import Any

import numpy as np
from jaxtyping import Float

from jaxdiff import checks
from jaxdiff.evaluate.accuracy import Proportion, proportion
from jaxdiff.evaluate.quality.rows import rows_of


def inception_score(logits: Any, splits: int = 10) -> Float[np.ndarray, " splits"]:
    """Equation (1) of `splits` equal parts of samples with these logits [n, classes], in their order; the mean is reported.

    Any classifier will do; scores of different ones say nothing of each other.
    """
    checks.count("inception_score", splits=splits)
    logits = rows_of("inception_score", logits, least=splits)
    shifted = logits - logits.max(1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return np.asarray([_score(part) for part in np.array_split(log_p, splits)])


def agreement(logits: Any, labels: Any) -> Proportion:
    """How often the classifier sees the class that was asked for, with an exact interval."""
    logits = rows_of("agreement", logits)
    labels = np.asarray(labels)
    if labels.shape != logits.shape[:1]:
        raise ValueError(f"{len(logits)} samples have as many labels; got shape {labels.shape}.")
    return proportion(logits.argmax(1) == labels)


def _score(log_p: np.ndarray) -> float:
    p = np.exp(log_p)
    mean = p.mean(0)
    log_mean = np.log(np.where(mean > 0.0, mean, 1.0))
    return float(np.exp(np.mean(np.sum(p * (log_p - log_mean), axis=1))))
