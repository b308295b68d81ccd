"""A small convolutional classifier for digits and for tests.

Smooth activations and group norm, or no norm: no batch statistics, so that it is the same function in
training and in evaluation and trains well on adversarial examples.
"""

from collections.abc import Sequence
from typing import Any

from flax import linen as nn
from jaxtyping import Array, Float

from jaxdiff import checks
from jaxdiff.floats import wide
from jaxdiff.models.arguments import check_classifier, check_counts, freeze
from jaxdiff.models.layers import Conv, GroupNorm, activation, check_images, normalise


class CNN(nn.Module):
    """3 x 3 convolutions, one per entry of `channels`, halving the sides from the second on; mean over
    space; dense.

    Takes sides of 8 (scikit-learn's digits), 28 (MNIST) or any other. `groups` is the most groups of the
    norms; 0 means no norm. ValueError for arguments that make no network, when it is made.
    """

    channels: Sequence[int] = (32, 64, 128)
    classes: int = 10
    groups: int = 8
    activation: str = "silu"
    mean: Sequence[float] = (0.5,)
    std: Sequence[float] = (0.5,)
    dtype: Any = None

    def __post_init__(self):
        check_counts("CNN", channels=self.channels)
        checks.count("CNN", 0, groups=self.groups)
        check_classifier("CNN", self.classes, self.mean, self.std, self.dtype, act=self.activation)
        freeze(self, "channels", "mean", "std")
        super().__post_init__()

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"], train: bool = False
    ) -> Float[Array, "batch classes"]:
        """Logits of images in [0, 1], in float32 (float64 for images in float64); `train` changes nothing."""
        del train
        x = check_images(x, "CNN")
        act = activation(self.activation)
        h = normalise(x, self.mean, self.std)
        for i, channels in enumerate(self.channels):
            h = Conv(
                channels, (3, 3), strides=1 if i == 0 else 2, padding=1, dtype=self.dtype, name=f"conv{i}"
            )(h)
            h = GroupNorm(self.groups, name=f"norm{i}")(h) if self.groups else h
            h = act(h)
        logits = nn.Dense(self.classes, dtype=self.dtype, name="linear")(h.mean((1, 2)))
        return wide(logits)
