"""Data sets, a deterministic stream of batches, augmentation, and the check of what comes in from outside.

`dataset` and `augment` are namespaces for `jaxdiff.build.build`; batches come from `stream.stream` (endless,
for training) and `stream.epoch` (one pass, for evaluation).

Own data is `folder` (images by class, of any size, fitted by a rule), `arrays` (.npz or .npy) or `huggingface`. A source has
the splits "train", "test" and "validation" that it comes with; `validation` takes a part of train (`splits`). The features
that an argument names (captions, boxes, masks) ride along in every batch: numbers go to the devices with the image, all else
stays on the host. What has to be decoded is decoded once, into a cache on disk that is checked when it is opened (`store`).
"""

from jaxdiff.data import augment, dataset, stream
from jaxdiff.data.check import check_images
from jaxdiff.data.dataset import Dataset

__all__ = ["Dataset", "augment", "check_images", "dataset", "stream"]
