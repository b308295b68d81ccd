"""The DDPM UNet (Ho et al. 2020, appendix B and official code).

Residual blocks with group norm, swish and an additive time embedding; self-attention at chosen resolutions
and in the middle; stride-2 convolutions down, nearest neighbour and a convolution up; every feature map of
the way down is concatenated on the way up. The last layer of each branch starts at (nearly) zero, so that a
block starts as its shortcut and the network as the zero function. With the defaults and three channels:
35,746,307 parameters.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int, Num

from jaxdiff import checks
from jaxdiff.floats import wide_dtype
from jaxdiff.models.arguments import check_counts, check_dtype, freeze
from jaxdiff.models.layers import Conv, Dropout, GroupNorm, check_images, ddpm_init, time_embedding

Features = Float[Array, "batch height width channels"]


class ResBlock(nn.Module):
    """x + (norm, swish, conv, plus time, norm, swish, dropout, conv); x through 1 x 1 if channels change."""

    channels: int
    dropout: float = 0.1
    groups: int = 32
    dtype: Any = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width _"], time: Float[Array, "batch _"], train: bool = False
    ) -> Features:
        """`time` is the embedding after its last swish."""
        conv = partial(Conv, self.channels, dtype=self.dtype)
        norm = partial(GroupNorm, self.groups)
        shift = nn.Dense(self.channels, dtype=self.dtype, kernel_init=ddpm_init(), name="time")(time)
        h = conv((3, 3), kernel_init=ddpm_init(), name="conv1")(nn.swish(norm(name="norm1")(x)))
        h = nn.swish(norm(name="norm2")(h + shift[:, None, None]))
        h = Dropout(self.dropout, name="dropout")(h, train)
        h = conv((3, 3), kernel_init=ddpm_init(0.0), name="conv2")(h)
        if x.shape[-1] != self.channels:
            x = conv((1, 1), kernel_init=ddpm_init(), name="shortcut")(x)
        return x + h


class Attention(nn.Module):
    """x + self-attention over the pixels, softmax(q k / sqrt(d)) v, in `heads` heads; softmax in float32."""

    heads: int = 1
    groups: int = 32
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Features) -> Features:
        """Raises ValueError unless the heads divide the channels."""
        batch, height, width, channels = x.shape
        if channels % self.heads:
            raise ValueError(f"{self.heads} attention heads do not divide {channels} channels.")
        dense = partial(nn.Dense, channels, dtype=self.dtype)
        h = GroupNorm(self.groups, name="norm")(x).reshape(batch, height * width, channels)
        split = (batch, height * width, self.heads, channels // self.heads)
        q, k, v = (
            dense(kernel_init=ddpm_init(), name=n)(h).reshape(split) for n in ("query", "key", "value")
        )
        logits = jnp.einsum("bqhd,bkhd->bhqk", q * split[-1] ** -0.5, k)
        weights = jax.nn.softmax(logits.astype(wide_dtype(q.dtype))).astype(q.dtype)
        h = jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(batch, height * width, channels)
        return x + dense(kernel_init=ddpm_init(0.0), name="out")(h).reshape(x.shape)


class TimeMLP(nn.Module):
    """Sinusoidal embedding, dense, swish, dense, swish, with 4 x `channels` features."""

    channels: int
    dtype: Any = None

    @nn.compact
    def __call__(
        self, t: Num[Array, " batch"], more: Float[Array, "batch features"] | float = 0.0
    ) -> Float[Array, "batch features"]:
        """The last swish, before which `more` is added, is the one each residual block applies in Ho et al., once for all."""
        dense = partial(nn.Dense, 4 * self.channels, dtype=self.dtype, kernel_init=ddpm_init())
        h = nn.swish(dense(name="dense1")(time_embedding(t, self.channels)))
        return nn.swish(dense(name="dense2")(h) + more)


def upsample(x: Float[Array, "batch height width channels"]) -> Float[Array, "batch height2 width2 channels"]:
    """Nearest neighbour, twice the height and width."""
    return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)


def patches(x: Features, size: int) -> Float[Array, "batch rows columns squares"]:
    """Squares of size x size pixels as channels."""
    batch, height, width, channels = x.shape
    squares = x.reshape(batch, height // size, size, width // size, size, channels)
    return squares.transpose(0, 1, 3, 2, 4, 5).reshape(
        batch, height // size, width // size, size * size * channels
    )


def whole(h: Features, size: int) -> Float[Array, "batch rows columns pixels"]:
    """The inverse of `patches`."""
    batch, height, width, channels = h.shape
    squares = h.reshape(batch, height, width, size, size, channels // size**2)
    return squares.transpose(0, 1, 3, 2, 4, 5).reshape(
        batch, height * size, width * size, channels // size**2
    )


class UNet(nn.Module):
    """The UNet of DDPM; `t` is the label fed to the embedding (0 .. 999 for DDPM).

    `multipliers` of `channels`, one per resolution; `blocks` residual blocks each (one more on the way up);
    `attention` lists the feature heights with self-attention; `out_channels` defaults to those of the
    input. Dropout draws from the stream "dropout" when `train` (see `layers.example_rngs`). `dtype` is that of
    the computation ("bfloat16"); parameters, norms' statistics, softmax and output stay in float32.

    With `classes` it is told a class `y` beside the time, by an embedding that is added to the time's (Dhariwal and Nichol
    2021): -1, or no `y` at all, is no class, with an embedding of its own (Ho and Salimans 2022). With `patch` the network
    works on squares of patch x patch pixels, which are its channels (Luhman and Luhman 2022, arXiv 2207.04316): the sides
    are so much smaller, and a step so much faster.
    """

    channels: int = 128
    multipliers: Sequence[int] = (1, 2, 2, 2)
    blocks: int = 2
    attention: Sequence[int] = (16,)
    heads: int = 1
    dropout: float = 0.1
    out_channels: int | None = None
    groups: int = 32
    classes: int | None = None
    patch: int = 1
    dtype: Any = None

    def __post_init__(self):
        check_counts("UNet", multipliers=self.multipliers)
        checks.count("UNet", channels=self.channels, blocks=self.blocks, heads=self.heads, groups=self.groups)
        checks.count("UNet", patch=self.patch)
        check_counts("UNet", empty=True, attention=self.attention)
        if self.out_channels is not None:
            checks.count("UNet", out_channels=self.out_channels)
        if self.classes is not None:
            checks.count("UNet", classes=self.classes)
        checks.number("UNet", "[0, 1)", dropout=self.dropout)
        check_dtype("UNet", self.dtype)
        if self.channels < 4 or self.channels % 2:
            raise ValueError(f"UNet needs an even number of at least 4 channels; got {self.channels}.")
        freeze(self, "multipliers", "attention")
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch height width channels"],
        t: Num[Array, " batch"],
        y: Int[Array, " batch"] | None = None,
        train: bool = False,
    ) -> Float[Array, "batch height width out"]:
        """ValueError if a side does not halve levels - 1 times, parameters are for other channels, or there are no classes."""
        x = self._checked(x, t)
        time = TimeMLP(self.channels, self.dtype, name="time")(t, self._class(y, len(x)))
        h = self._conv(self.channels, "conv_in")(patches(x, self.patch))
        skips = [h]
        last = len(self.multipliers) - 1
        for level, multiplier in enumerate(self.multipliers):
            for i in range(self.blocks):
                h = self._stage(h, time, multiplier, f"down{level}_{i}", train)
                skips.append(h)
            if level < last:
                h = self._conv(h.shape[-1], f"down{level}_downsample", strides=2)(h)
                skips.append(h)
        h = self._block(h.shape[-1], "middle_block0")(h, time, train)
        h = self._attend("middle_attention")(h)
        h = self._block(h.shape[-1], "middle_block1")(h, time, train)
        for level, multiplier in reversed(list(enumerate(self.multipliers))):
            for i in range(self.blocks + 1):
                h = jnp.concatenate([h, skips.pop()], axis=-1)
                h = self._stage(h, time, multiplier, f"up{level}_{i}", train)
            if level > 0:
                h = self._conv(h.shape[-1], f"up{level}_upsample")(upsample(h))
        h = nn.swish(GroupNorm(self.groups, name="norm_out")(h))
        channels = (self.out_channels or x.shape[-1]) * self.patch**2
        out = self._conv(channels, "conv_out", kernel_init=ddpm_init(0.0))(h)
        return whole(out, self.patch).astype(x.dtype)

    def _class(self, y: Array | None, batch: int) -> Array | float:
        """What is added to the embedding of the time."""
        if self.classes is None:
            if y is not None:
                raise ValueError(
                    "This UNet knows no classes, and is told y: give it classes=10, or no condition."
                )
            return 0.0
        y = jnp.full(batch, -1) if y is None else y
        embed = nn.Embed(
            self.classes + 1, 4 * self.channels, self.dtype, embedding_init=nn.initializers.normal(1.0), name="class"
        )  # fmt: skip
        return embed(
            jnp.where(y == -1, self.classes, jnp.where((y < 0) | (y >= self.classes), self.classes + 1, y))
        )

    def _conv(self, channels: int, name: str, **kwargs: Any) -> nn.Module:
        return Conv(channels, (3, 3), dtype=self.dtype, name=name, **({"kernel_init": ddpm_init()} | kwargs))

    def _block(self, channels: int, name: str) -> ResBlock:
        return ResBlock(channels, self.dropout, self.groups, self.dtype, name=name)

    def _attend(self, name: str) -> Attention:
        return Attention(self.heads, self.groups, self.dtype, name=name)

    def _stage(self, h: Array, time: Array, multiplier: int, name: str, train: bool) -> Array:
        h = self._block(multiplier * self.channels, f"{name}_block")(h, time, train)
        return self._attend(f"{name}_attention")(h) if h.shape[1] in self.attention else h

    def _checked(self, x: Array, t: Array) -> Array:
        x = check_images(x, "UNet")
        if jnp.shape(t) != x.shape[:1]:
            raise ValueError(f"UNet takes a time for each of the {len(x)} images; got shape {jnp.shape(t)}.")
        halvings = len(self.multipliers) - 1
        least = self.patch * 2**halvings
        if any(side % least for side in x.shape[1:3]):
            raise ValueError(
                f"UNet with {halvings + 1} levels{f' and patch {self.patch}' * (self.patch > 1)} needs sides divisible by "
                f"{least}; got {x.shape[1:3]}. Pad the images or give fewer multipliers."
            )
        if self.has_variable("params", "conv_in"):
            known = self.get_variable("params", "conv_in")["kernel"].shape[2] // self.patch**2
            if known != x.shape[-1]:
                raise ValueError(f"UNet parameters are for {known} channels; got images of shape {x.shape}.")
        return x
