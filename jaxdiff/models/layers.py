"""Layers that every network of jaxdiff shares; all batch-first and channels-last.

Convolution on CPU. XLA runs the derivative of a convolution with respect to its input 5 to 80 times slower
than a convolution when it sits inside a `lax.scan` (jax#12868), because that derivative reads its kernel
with input and output channels swapped, and its input dilated if there is a stride. For y = conv(x, w) with
stride 1 the derivative's transpose is a plain convolution with the flipped, transposed kernel,

    dx[i, c] = sum_{k, o} dy[i - k, o] w[k, c, o] = conv(dy, flip(w)^T)[i, c],

so the tangent of `conv_general_dilated` is written such that its *transpose* is this plain convolution. The
rule is a `custom_jvp`, not a `custom_vjp`: reverse mode transposes the tangent, and forward mode and higher
orders work as well. A stride subsamples after the convolution, so that the transpose dilates the cotangent
first. The derivative with respect to the kernel stays the native one.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.core.scope import LazyRng
from jax import lax
from jaxtyping import Array, ArrayLike, Float, Num

from jaxdiff import checks
from jaxdiff.floats import wide
from jaxdiff.types import PRNGKeys

Padding = str | Sequence[tuple[int, int]]

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CIFAR10_MEAN, CIFAR10_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


def _channels_last(spatial: int, swapped: bool = False) -> lax.ConvDimensionNumbers:
    """Dimension numbers of "N..C, ..IO -> N..C"; `swapped` reads the kernel as "..OI"."""
    image = (0, spatial + 1, *range(1, spatial + 1))
    ends = (spatial, spatial + 1) if swapped else (spatial + 1, spatial)
    return lax.ConvDimensionNumbers(image, (*ends, *range(spatial)), image)


def _subsample(x: Array, strides: Sequence[int]) -> Array:
    """Every stride-th pixel, from the first on."""
    return x[(slice(None), *(slice(None, None, s) for s in strides))]


@partial(jax.custom_jvp, nondiff_argnums=(2, 3, 4))
def _conv(x: ArrayLike, w: ArrayLike, strides: tuple, pads: tuple, precision: Any) -> Array:
    numbers = _channels_last(x.ndim - 2)
    return lax.conv_general_dilated(x, w, strides, pads, dimension_numbers=numbers, precision=precision)


@_conv.defjvp
def _conv_jvp(strides, pads, precision, primals, tangents):
    (x, w), (dx, dw) = primals, tangents
    axes = tuple(range(x.ndim - 2))
    ready = jnp.flip(w, axes).swapaxes(-1, -2)  # the kernel that the transpose reads as it is
    numbers, ones = _channels_last(len(axes), swapped=True), (1,) * len(axes)
    dense = partial(lax.conv_general_dilated, dimension_numbers=numbers, precision=precision)
    along_x = _subsample(dense(dx, jnp.flip(ready, axes), ones, pads), strides)
    return _conv(x, w, strides, pads, precision), along_x + _conv(x, dw, strides, pads, precision)


def conv_general_dilated(
    lhs: Num[Array, "..."],
    rhs: Num[Array, "..."],
    window_strides: Sequence[int],
    padding: Padding,
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    precision: Any = None,
    **rest: Any,
) -> Num[Array, "..."]:
    """`lax.conv_general_dilated` with an input gradient that is fast inside a scan on CPU; see the module's
    docstring.

    The native function elsewhere, and for groups, dilations and layouts other than channels-last.
    """
    numbers = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    spatial = lhs.ndim - 2
    dilated = any(d != 1 for d in (*(lhs_dilation or ()), *(rhs_dilation or ())))
    plain = numbers == _channels_last(spatial) and feature_group_count == 1 and not dilated and not rest
    if jax.default_backend() != "cpu" or not plain:
        return lax.conv_general_dilated(
            lhs,
            rhs,
            window_strides,
            padding,
            lhs_dilation,
            rhs_dilation,
            dimension_numbers,
            feature_group_count,
            precision=precision,
            **rest,
        )
    size, window, strides = lhs.shape[1:-1], rhs.shape[:-2], tuple(window_strides)
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(size, window, strides, padding)
    pads = tuple((int(low), int(high)) for low, high in padding)
    if math.prod(window) == 1 and not any(
        sum(pads, ())
    ):  # strided 1 x 1: subsample first, here and in the transpose
        lhs, strides = _subsample(lhs, strides), (1,) * spatial
    return _conv(lhs, rhs, strides, pads, precision)


Conv = partial(nn.Conv, conv_general_dilated=conv_general_dilated)


def group_count(groups: int, channels: int) -> int:
    """The most groups, up to `groups`, that divide `channels` with at least four channels in each.

    With one channel a group the norm would erase what is added per channel: the time embedding.
    """
    checks.count("Group norm", groups=groups, channels=channels)
    limit = max(1, min(groups, channels // 4))
    return next(g for g in range(limit, 0, -1) if channels % g == 0)


class GroupNorm(nn.Module):
    """Group normalisation (Wu and He 2018) with statistics in at least float32; `group_count` adapts the
    groups.

    Averages over space first, then over the few channels of a group: 2 to 4 times faster on CPU than
    reducing a five-dimensional view as `nn.GroupNorm` does.
    """

    groups: int = 32
    epsilon: float = 1e-6

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch height width channels"]:
        """The normalised images, in the type of `x`."""
        channels = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        h = wide(x)
        pool = partial(_pool_groups, groups=group_count(self.groups, channels))
        mean, square = pool(h.mean((1, 2))), pool(jnp.square(h).mean((1, 2)))
        variance = jnp.maximum(square - jnp.square(mean), 0.0)
        gain = scale[None] * lax.rsqrt(variance + self.epsilon)
        shift = bias[None] - mean * gain
        return (h * gain[:, None, None] + shift[:, None, None]).astype(x.dtype)


def _pool_groups(v: Float[Array, "batch channels"], groups: int) -> Float[Array, "batch channels"]:
    """Each channel's mean over its group."""
    batch, channels = v.shape
    means = v.reshape(batch, groups, channels // groups).mean(-1)
    return jnp.repeat(means, channels // groups, axis=1)


def example_rngs(keys: PRNGKeys) -> dict[str, Any]:
    """`rngs` for `model.apply` that give each example of the batch its own key for dropout.

    Example i then draws the same masks whatever batch, part of a batch or device it comes in. ValueError unless
    `keys` are typed keys [batch].
    """
    typed = isinstance(keys, jax.Array) and jnp.issubdtype(keys.dtype, jax.dtypes.prng_key)
    if not typed or keys.ndim != 1:
        raise ValueError("example_rngs needs a typed key for every example: jax.random.split(key, batch).")
    return {"dropout": LazyRng(keys, ())}


class Dropout(nn.Module):
    """Each feature is 0 with probability `rate`, else 1 / (1 - rate) times as large (Srivastava et al. 2014).

    An example's mask is drawn from the example's own key if the stream "dropout" is `example_rngs(keys)`; from
    a single key, it is drawn for its place in the batch. Every layer has its own masks. Without `train` the
    identity. ValueError for a rate outside [0, 1), a missing stream, or keys for another number of examples.
    """

    rate: float

    @nn.compact
    def __call__(
        self, x: Float[Array, " batch *shape"], train: bool = False
    ) -> Float[Array, " batch *shape"]:
        """The masked features."""
        checks.number("Dropout", "[0, 1)", rate=self.rate)
        if not train or self.rate == 0:
            return x
        keep = jax.vmap(lambda key: jax.random.bernoulli(key, 1.0 - self.rate, x.shape[1:]))(
            self._keys(len(x))
        )
        return jnp.where(keep, x / (1.0 - self.rate), jnp.zeros_like(x))

    def _keys(self, batch: int) -> PRNGKeys:
        if not self.has_rng("dropout"):
            raise ValueError(
                "Dropout draws masks in training: call model.apply(..., train=True, rngs=example_rngs(keys)) with "
                "a key for every example."
            )
        stream = self.scope.rngs["dropout"]
        if stream.rng.shape == (batch,):
            self.scope.rng_counters["dropout"] += 1
            layer = LazyRng.create(stream, self.scope.rng_counters["dropout"])
            return jax.vmap(lambda one: one.as_jax_rng())(layer)
        if stream.rng.shape:
            raise ValueError(f"Dropout got {stream.rng.shape[0]} keys for a batch of {batch} examples.")
        key = self.make_rng("dropout")
        return jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(batch))


def time_embedding(t: Num[Array, " batch"], features: int) -> Float[Array, "batch features"]:
    """[sin(t f_i), cos(t f_i)] with f_i = exp(-ln(1e4) i / (half - 1)) (Ho et al. 2020, official code).

    `t` is the label itself, 0 .. 999 in DDPM. Raises ValueError unless `features` is even and at least 4.
    """
    t = jnp.asarray(t)
    if t.ndim != 1:
        raise ValueError(
            f"Time labels have shape [batch]; got {t.shape}. For one time use jnp.full(batch, t)."
        )
    checks.count("A time embedding", features=features)
    if features < 4 or features % 2:
        raise ValueError(f"A time embedding needs an even number of at least 4 features; got {features}.")
    half = features // 2
    t = wide(t)
    frequencies = jnp.exp(-math.log(1e4) * jnp.arange(half, dtype=t.dtype) / (half - 1))
    angles = t[:, None] * frequencies[None]
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


def ddpm_init(scale: float = 1.0) -> nn.initializers.Initializer:
    """Ho et al.'s uniform initialiser: variance `scale` over the mean of fan-in and fan-out; 0: 1e-10."""
    return nn.initializers.variance_scaling(scale or 1e-10, "fan_avg", "uniform")


def activation(name: str) -> Callable[[Array], Array]:
    """The activation `flax.linen.<name>`, e.g. "relu", "silu", "gelu"; ValueError for an unknown name."""
    known = ("relu", "silu", "gelu", "elu", "leaky_relu", "softplus", "tanh")
    checks.known("A network", known, activation=name)
    return getattr(nn, name)


def check_images(x: ArrayLike, who: str) -> Array:
    """`x` as an array; ValueError unless it is a batch of images, floating point [batch, height, width, channels].

    The batch may be empty. Values are not checked: noise and gradients may leave [0, 1].
    """
    x = checks.floats(who, x)
    remedies = {
        2: "Give vectors their sides: x.reshape(batch, height, width, channels)",
        5: "A lifted network takes one image: use jax.vmap",
    }
    if x.ndim != 4 or not all(x.shape[1:]):
        raise ValueError(
            f"{who} takes [batch, height, width, channels]; got shape {x.shape}. "
            f"{remedies.get(x.ndim, 'For one example, lift it')}."
        )
    return x


def check_normalisation(mean: Sequence[float], std: Sequence[float]) -> None:
    """ValueError unless both hold finite numbers, as many and at least one, and std none that is not positive."""
    for name, values in {"mean": mean, "std": std}.items():
        if isinstance(values, str) or not hasattr(values, "__len__"):
            raise ValueError(f"{name} holds one number per channel, such as (0.5,); got {values!r}.")
    for interval, name, values in (("(-inf, inf)", "mean", mean), ("(0, inf)", "std", std)):
        checks.number("A network", interval, **{f"{name}[{i}]": v for i, v in enumerate(values)})
    if not len(mean) == len(std) > 0:
        raise ValueError(f"Give one mean and one std per channel; got {tuple(mean)} and {tuple(std)}.")


def normalise(
    x: Float[Array, "batch height width channels"], mean: Sequence[float], std: Sequence[float]
) -> Float[Array, "batch height width channels"]:
    """(x - mean) / std per channel; ValueError unless there is one mean and one positive std per channel."""
    check_normalisation(mean, std)
    x, channels = jnp.asarray(x), x.shape[-1]
    if not len(mean) == len(std) == channels:
        nchw = " Are they [batch, channels, height, width]? Use x.transpose(0, 2, 3, 1)."
        raise ValueError(
            f"Images have {channels} channels, but mean = {tuple(mean)} and std = {tuple(std)}: "
            f"give one value of each per channel.{nchw if x.shape[1] == len(mean) else ''}"
        )
    mean, std = (jnp.asarray(v, x.dtype)[None, None, None] for v in (mean, std))
    return (x - mean) / std
