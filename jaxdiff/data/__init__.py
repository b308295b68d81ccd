"""Data sets, a deterministic stream of batches, augmentation, and the check of what comes in from outside.

`dataset` and `augment` are namespaces for `jaxdiff.build.build`; batches come from `stream.stream` (endless,
for training) and `stream.epoch` (one pass, for evaluation).
"""

from jaxdiff.data import augment, dataset, stream
from jaxdiff.data.check import check_images
from jaxdiff.data.dataset import Dataset

__all__ = ["Dataset", "augment", "check_images", "dataset", "stream"]
