"""The Inception network of FID (Szegedy et al. 2016, arXiv 1512.00567, as TensorFlow's graph of 2015-12-05 has it).

Its quirks are part of the number: images are rounded to bytes and enlarged to 299 x 299 by TensorFlow 1's bilinear rule, whose
pixels are at their corners; mean pools leave their padding out; the last block pools by the maximum; the logits of the
Inception score are without bias. The usual file of its weights is weights-inception-2015-12-05-6726825d.pth, from the releases
of torch-fidelity; names of modules here are the keys in it.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from jaxdiff.floats import wide
from jaxdiff.models.layers import Conv, check_images

SIDE = 299
Features = Float[Array, "batch height width channels"]


class Unit(NamedTuple):
    """A convolution with norm: the end of its name, features, window, stride."""

    name: str
    features: int
    window: tuple[int, int]
    strides: int = 1


Branch = Sequence[tuple[Unit, ...]]  # of units that are side by side, one after the other


class ConvNorm(nn.Module):
    """Convolution without bias, batch norm with its statistics, relu; padded by half the window, but for strided ones."""

    unit: Unit
    padded: bool = True

    @nn.compact
    def __call__(self, x: Features) -> Array:
        """The features."""
        _, features, window, strides = self.unit
        pads = [(n // 2, n // 2) if self.padded else (0, 0) for n in window]
        x = Conv(features, window, strides=strides, padding=pads, use_bias=False, name="conv")(x)
        return nn.relu(nn.BatchNorm(use_running_average=True, epsilon=1e-3, name="bn")(x))


class Block(nn.Module):
    """Branches side by side, their features after each other; the last pools: "mean" or "max" before a 1 x 1 convolution with
    `pooled` features, "halve" alone.
    """

    branches: Sequence[Branch]
    pool: str
    pooled: int = 0

    @nn.compact
    def __call__(self, x: Features) -> Array:
        """The features."""
        found = []
        for branch in self.branches:
            h = [x]
            for units in branch:
                joined = jnp.concatenate(h, axis=-1)
                h = [ConvNorm(u, u.strides == 1, name=f"branch{u.name}")(joined) for u in units]
            found += h
        if self.pool == "halve":
            return jnp.concatenate([*found, nn.max_pool(x, (3, 3), (2, 2))], axis=-1)
        pads = ((1, 1), (1, 1))
        if self.pool == "max":
            h = nn.max_pool(x, (3, 3), (1, 1), pads)
        else:
            h = nn.avg_pool(x, (3, 3), (1, 1), pads, count_include_pad=False)
        last = ConvNorm(Unit("_pool", self.pooled, (1, 1)), name="branch_pool")(h)
        return jnp.concatenate([*found, last], axis=-1)


class InceptionV3(nn.Module):
    """Images in [0, 1], grey or of three channels -> 1,008 logits without their bias; 2,048 features before the last layer."""

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"], train: bool = False
    ) -> Float[Array, "batch 1008"]:
        """ValueError for images of other channels; `train` changes nothing."""
        del train
        x = check_images(x, "InceptionV3")
        if x.shape[-1] not in (1, 3):
            raise ValueError(f"InceptionV3 takes images of 1 or 3 channels; got {x.shape[-1]}.")
        h = (resized(jnp.round(255.0 * jnp.clip(wide(x), 0.0, 1.0))) - 128.0) / 128.0
        h = jnp.broadcast_to(h, (*h.shape[:-1], 3))
        for name, features, size, strides, padded in STEM:
            h = ConvNorm(Unit("", features, (size, size), strides), padded, name=name)(h)
            if name in POOLED:
                h = nn.max_pool(h, (3, 3), (2, 2))
        for name, block in BLOCKS.items():
            h = Block(*block, name=name)(h)
        return wide(nn.Dense(1008, use_bias=False, name="fc")(h.mean((1, 2))))


def resized(x: Features, side: int = SIDE) -> Array:
    """Bilinear, as TensorFlow 1 does it: pixel i of the result is at i n / side of n pixels."""
    rows, columns = (jnp.asarray(_bilinear(n, side), x.dtype) for n in x.shape[1:3])
    return jnp.einsum("ij,bjkc,lk->bilc", rows, x, columns, precision=jax.lax.Precision.HIGHEST)


def _bilinear(n: int, side: int) -> np.ndarray:
    """The matrix [side, n] of a row."""
    place = np.arange(side) * (n / side)
    low = np.floor(place).astype(int)
    matrix = np.zeros((side, n))
    np.add.at(matrix, (np.arange(side), low), 1.0 - (place - low))
    np.add.at(matrix, (np.arange(side), np.minimum(low + 1, n - 1)), place - low)
    return matrix


def _row(*units: Any) -> Branch:
    """One unit after the other; a list of them is side by side."""
    return tuple(
        tuple(Unit(*u) for u in unit) if isinstance(unit, list) else (Unit(*unit),) for unit in units
    )


def _block_a(pooled: int) -> tuple:
    five = _row(("5x5_1", 48, (1, 1)), ("5x5_2", 64, (5, 5)))
    three = _row(("3x3dbl_1", 64, (1, 1)), ("3x3dbl_2", 96, (3, 3)), ("3x3dbl_3", 96, (3, 3)))
    return (_row(("1x1", 64, (1, 1))), five, three), "mean", pooled


def _block_c(c: int) -> tuple:
    seven = _row(("7x7_1", c, (1, 1)), ("7x7_2", c, (1, 7)), ("7x7_3", 192, (7, 1)))
    double = _row(
        ("7x7dbl_1", c, (1, 1)), ("7x7dbl_2", c, (7, 1)), ("7x7dbl_3", c, (1, 7)), ("7x7dbl_4", c, (7, 1)),
        ("7x7dbl_5", 192, (1, 7)),
    )  # fmt: skip
    return (_row(("1x1", 192, (1, 1))), seven, double), "mean", 192


def _block_e(pool: str) -> tuple:
    pair = lambda name: [(f"{name}a", 384, (1, 3)), (f"{name}b", 384, (3, 1))]
    three = _row(("3x3_1", 384, (1, 1)), pair("3x3_2"))
    double = _row(("3x3dbl_1", 448, (1, 1)), ("3x3dbl_2", 384, (3, 3)), pair("3x3dbl_3"))
    return (_row(("1x1", 320, (1, 1))), three, double), pool, 192


STEM = (  # name, features, window, stride, padded
    ("Conv2d_1a_3x3", 32, 3, 2, False),
    ("Conv2d_2a_3x3", 32, 3, 1, False),
    ("Conv2d_2b_3x3", 64, 3, 1, True),
    ("Conv2d_3b_1x1", 80, 1, 1, False),
    ("Conv2d_4a_3x3", 192, 3, 1, False),
)
POOLED = ("Conv2d_2b_3x3", "Conv2d_4a_3x3")
BLOCKS = {
    **{f"Mixed_5{n}": _block_a(pooled) for n, pooled in zip("bcd", (32, 64, 64), strict=True)},
    "Mixed_6a": (
        (
            _row(("3x3", 384, (3, 3), 2)),
            _row(("3x3dbl_1", 64, (1, 1)), ("3x3dbl_2", 96, (3, 3)), ("3x3dbl_3", 96, (3, 3), 2)),
        ),
        "halve",
    ),
    **{f"Mixed_6{n}": _block_c(c) for n, c in zip("bcde", (128, 160, 160, 192), strict=True)},
    "Mixed_7a": (
        (
            _row(("3x3_1", 192, (1, 1)), ("3x3_2", 320, (3, 3), 2)),
            _row(
                ("7x7x3_1", 192, (1, 1)),
                ("7x7x3_2", 192, (1, 7)),
                ("7x7x3_3", 192, (7, 1)),
                ("7x7x3_4", 192, (3, 3), 2),
            ),
        ),
        "halve",
    ),
    "Mixed_7b": _block_e("mean"),
    "Mixed_7c": _block_e("max"),
}
