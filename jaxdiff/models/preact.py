"""Residual networks with the activation before the convolutions (He et al. 2016, "Identity mappings").

`WideResNet` is Zagoruyko and Komodakis 2016: depth 6 n + 4, three stages of `width` x (16, 32, 64)
channels. `PreActResNet18` has four stages of two blocks. Both project the *activated* input where the
number of channels changes and end with batch norm and activation.
"""

from collections.abc import Sequence
from typing import Any

from flax import linen as nn
from jaxtyping import Array, Float

from jaxdiff import checks
from jaxdiff.floats import wide
from jaxdiff.models.arguments import check_classifier, check_counts, freeze
from jaxdiff.models.layers import CIFAR10_MEAN, CIFAR10_STD, Dropout, activation, check_images, normalise
from jaxdiff.models.resnet import batch_norm, convolution


class PreActBlock(nn.Module):
    """Twice norm, activation, 3 x 3 convolution, with dropout between (Zagoruyko 2016, figure 1d)."""

    channels: int
    strides: int = 1
    activation: str = "relu"
    dropout: float = 0.0
    axis_name: str | None = None
    dtype: Any = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width _"], train: bool = False
    ) -> Float[Array, "batch height2 width2 channels"]:
        """The block's features."""
        act, conv = activation(self.activation), convolution(self.dtype)
        norm = batch_norm(train, self.axis_name, self.dtype)
        h = act(norm(name="bn1")(x))
        if x.shape[-1] != self.channels or self.strides != 1:
            x = conv(self.channels, 1, self.strides, name="shortcut")(h)
        h = conv(self.channels, 3, self.strides, name="conv1")(h)
        h = Dropout(self.dropout, name="dropout")(act(norm(name="bn2")(h)), train)
        return x + conv(self.channels, 3, name="conv2")(h)


class PreActResNet(nn.Module):
    """A 3 x 3 convolution to `stem` channels, `blocks` blocks per entry of `widths`, norm, activation,
    mean, dense.

    `activation` is a name in Flax, "relu" or "silu" (Gowal et al. 2020 for adversarial training). Dropout
    draws from the stream "dropout" when `train` (see `layers.example_rngs`).
    """

    stem: int
    widths: Sequence[int]
    blocks: int
    classes: int = 10
    activation: str = "relu"
    dropout: float = 0.0
    mean: Sequence[float] = CIFAR10_MEAN
    std: Sequence[float] = CIFAR10_STD
    axis_name: str | None = None
    dtype: Any = None

    def __post_init__(self):
        who = "PreActResNet"
        check_counts(who, widths=self.widths)
        checks.count(who, stem=self.stem, blocks=self.blocks)
        checks.number(who, "[0, 1)", dropout=self.dropout)
        check_classifier(who, self.classes, self.mean, self.std, self.dtype, self.axis_name, self.activation)
        freeze(self, "widths", "mean", "std")
        super().__post_init__()

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"], train: bool = False
    ) -> Float[Array, "batch classes"]:
        """Logits of images in [0, 1], in float32 (float64 for images in float64)."""
        x = check_images(x, "PreActResNet")
        h = convolution(self.dtype)(self.stem, 3, name="conv")(normalise(x, self.mean, self.std))
        shared = (self.activation, self.dropout, self.axis_name, self.dtype)
        for stage, width in enumerate(self.widths, start=1):
            for i in range(self.blocks):
                strides = 2 if stage > 1 and i == 0 else 1
                h = PreActBlock(width, strides, *shared, name=f"layer{stage}_{i}")(h, train)
        h = batch_norm(train, self.axis_name, self.dtype)(name="bn")(h)
        h = activation(self.activation)(h).mean((1, 2))
        logits = nn.Dense(self.classes, dtype=self.dtype, name="linear")(h)
        return wide(logits)


def WideResNet(
    depth: int = 28,
    width: int = 10,
    classes: int = 10,
    activation: str = "relu",
    dropout: float = 0.0,
    mean: Sequence[float] = CIFAR10_MEAN,
    std: Sequence[float] = CIFAR10_STD,
    axis_name: str | None = None,
    dtype: Any = None,
) -> PreActResNet:
    """WRN-`depth`-`width` (28-10: 36.5 M parameters); ValueError unless depth is 6 n + 4."""
    checks.count("WideResNet", depth=depth, width=width)
    if depth < 10 or (depth - 4) % 6:
        raise ValueError(f"WideResNet has depth 6 n + 4 (16, 28, 34, 70); got {depth}.")
    widths = (16 * width, 32 * width, 64 * width)
    blocks = (depth - 4) // 6
    return PreActResNet(16, widths, blocks, classes, activation, dropout, mean, std, axis_name, dtype)


def PreActResNet18(
    classes: int = 10,
    activation: str = "relu",
    dropout: float = 0.0,
    mean: Sequence[float] = CIFAR10_MEAN,
    std: Sequence[float] = CIFAR10_STD,
    axis_name: str | None = None,
    dtype: Any = None,
) -> PreActResNet:
    """PreAct ResNet-18 for CIFAR (11.17 M parameters)."""
    widths = (64, 128, 256, 512)
    return PreActResNet(64, widths, 2, classes, activation, dropout, mean, std, axis_name, dtype)
