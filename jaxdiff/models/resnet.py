"""Residual networks with the activation after the sum (He et al. 2016, "Deep residual learning").

`ResNetCIFAR`: section 4.2, basic blocks with the parameter-free shortcut A: subsample, then pad channels
with zeros. `ResNet50`: bottlenecks with the projection shortcut B and the stride in the 3 x 3 convolution;
on CIFAR it starts with one 3 x 3 convolution instead of a 7 x 7 one and pooling.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxdiff import checks
from jaxdiff.floats import wide
from jaxdiff.models.arguments import check_classifier, check_counts, freeze
from jaxdiff.models.layers import (
    CIFAR10_MEAN,
    CIFAR10_STD,
    IMAGENET_MEAN,
    IMAGENET_STD,
    Conv,
    check_images,
    normalise,
)

he_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class BatchNorm(nn.BatchNorm):
    """Flax's, which for an empty batch would turn its running statistics into NaN: ValueError instead."""

    def __call__(self, x: Array, **rest: Any) -> Array:
        """As `nn.BatchNorm`."""
        if not x.size and not self.use_running_average:
            raise ValueError("An empty batch has no statistics to train batch norm with. Leave it out.")
        return super().__call__(x, **rest)


def batch_norm(train: bool, axis_name: str | None, dtype: Any) -> partial:
    """Batch norm, momentum 0.9, eps 1e-5; averages over `axis_name` too under `pmap` or a named `vmap`."""
    return partial(
        BatchNorm,
        use_running_average=not train,
        momentum=0.9,
        epsilon=1e-5,
        axis_name=axis_name,
        dtype=dtype,
    )


def convolution(dtype: Any) -> Callable[..., nn.Module]:
    """He-initialised convolution without bias, padded by half the kernel on both sides (also if strided)."""

    def conv(channels: int, size: int, strides: int = 1, name: str | None = None) -> nn.Module:
        return Conv(
            channels,
            (size, size),
            strides=strides,
            padding=size // 2,
            use_bias=False,
            dtype=dtype,
            kernel_init=he_normal,
            name=name,
        )

    return conv


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions with shortcut A (He et al. 2016, section 4.2)."""

    channels: int
    strides: int = 1
    axis_name: str | None = None
    dtype: Any = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width _"], train: bool = False
    ) -> Float[Array, "batch height2 width2 channels"]:
        """The block's features; the shortcut subsamples and pads with zero channels on both sides."""
        conv, norm = convolution(self.dtype), batch_norm(train, self.axis_name, self.dtype)
        h = nn.relu(norm(name="bn1")(conv(self.channels, 3, self.strides, name="conv1")(x)))
        h = norm(name="bn2")(conv(self.channels, 3, name="conv2")(h))
        if self.channels < x.shape[-1]:
            raise ValueError(
                f"Shortcut A pads channels: {self.channels} are fewer than the input's {x.shape[-1]}."
            )
        low = (self.channels - x.shape[-1]) // 2
        high = self.channels - x.shape[-1] - low
        shortcut = jnp.pad(x[:, :: self.strides, :: self.strides], ((0, 0), (0, 0), (0, 0), (low, high)))
        return nn.relu(h + shortcut)


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3, 1 x 1 convolutions, four times `channels` out, projection where the shape changes."""

    channels: int
    strides: int = 1
    axis_name: str | None = None
    dtype: Any = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width _"], train: bool = False
    ) -> Float[Array, "batch height2 width2 channels"]:
        """The block's features."""
        conv, norm = convolution(self.dtype), batch_norm(train, self.axis_name, self.dtype)
        h = nn.relu(norm(name="bn1")(conv(self.channels, 1, name="conv1")(x)))
        h = nn.relu(norm(name="bn2")(conv(self.channels, 3, self.strides, name="conv2")(h)))
        h = norm(name="bn3")(conv(4 * self.channels, 1, name="conv3")(h))
        if x.shape[-1] != 4 * self.channels or self.strides != 1:
            x = norm(name="shortcut_bn")(conv(4 * self.channels, 1, self.strides, name="shortcut_conv")(x))
        return nn.relu(h + x)


class ResNet(nn.Module):
    """Stem, stages of `block` with `widths` and `depths` (stride 2 from the second stage on), mean over
    space, dense.

    `stem` is "cifar" (3 x 3, stride 1) or "imagenet" (7 x 7, stride 2, then max pooling). ValueError for arguments that make
    no network, when it is made.
    """

    block: type[nn.Module]
    widths: Sequence[int]
    depths: Sequence[int]
    classes: int = 10
    stem: str = "cifar"
    mean: Sequence[float] = CIFAR10_MEAN
    std: Sequence[float] = CIFAR10_STD
    axis_name: str | None = None
    dtype: Any = None

    def __post_init__(self):
        check_counts("ResNet", widths=self.widths, depths=self.depths)
        if len(self.widths) != len(self.depths):
            raise ValueError(
                f"ResNet has one width and one depth per stage; got {self.widths} and {self.depths}."
            )
        checks.known("ResNet", ("cifar", "imagenet"), stem=self.stem)
        check_classifier("ResNet", self.classes, self.mean, self.std, self.dtype, self.axis_name)
        freeze(self, "widths", "depths", "mean", "std")
        super().__post_init__()

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"], train: bool = False
    ) -> Float[Array, "batch classes"]:
        """Logits of images in [0, 1], in float32 (float64 for images in float64)."""
        x = check_images(x, "ResNet")
        h = self._stem(normalise(x, self.mean, self.std), train)
        for stage, (width, depth) in enumerate(zip(self.widths, self.depths, strict=True), start=1):
            for i in range(depth):
                strides = 2 if stage > 1 and i == 0 else 1
                h = self.block(width, strides, self.axis_name, self.dtype, name=f"layer{stage}_{i}")(h, train)
        logits = nn.Dense(self.classes, dtype=self.dtype, name="linear")(h.mean((1, 2)))
        return wide(logits)

    def _stem(self, x: Array, train: bool) -> Array:
        size, strides = (7, 2) if self.stem == "imagenet" else (3, 1)
        h = convolution(self.dtype)(self.widths[0], size, strides, name="conv1")(x)
        h = nn.relu(batch_norm(train, self.axis_name, self.dtype)(name="bn1")(h))
        return nn.max_pool(h, (3, 3), (2, 2), ((1, 1), (1, 1))) if self.stem == "imagenet" else h


def ResNetCIFAR(
    depth: int = 20,
    classes: int = 10,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    axis_name: str | None = None,
    dtype: Any = None,
) -> ResNet:
    """The CIFAR ResNet of He et al. (section 4.2), depth 6 n + 2 (20: 0.27 M parameters, 56: 0.85 M).

    The default normalisation is that of the public PyTorch weights. Raises ValueError for another depth.
    """
    checks.count("ResNetCIFAR", depth=depth)
    if depth < 8 or (depth - 2) % 6:
        raise ValueError(f"ResNetCIFAR has depth 6 n + 2 (20, 32, 44, 56, 110); got {depth}.")
    return ResNet(
        BasicBlock, (16, 32, 64), ((depth - 2) // 6,) * 3, classes, "cifar", mean, std, axis_name, dtype
    )


def ResNet50(
    classes: int = 10,
    stem: str = "cifar",
    mean: Sequence[float] = CIFAR10_MEAN,
    std: Sequence[float] = CIFAR10_STD,
    axis_name: str | None = None,
    dtype: Any = None,
) -> ResNet:
    """ResNet-50 with a "cifar" (23.5 M parameters) or an "imagenet" stem; ValueError for another stem."""
    widths, depths = (64, 128, 256, 512), (3, 4, 6, 3)
    return ResNet(Bottleneck, widths, depths, classes, stem, mean, std, axis_name, dtype)
