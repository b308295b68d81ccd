"""Converted weights compute what PyTorch computes: its layers written as sums, channels first, against the filled module."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxdiff.models.convert import fill
from jaxdiff.models.layouts import convolution, flattened, linear, same, transposed_convolution, unflattened

NAMES = {
    "kernel": "weight",
    "scale": "weight",
    "embedding": "weight",
    "mean": "running_mean",
    "var": "running_var",
}


def name(path):
    """("params", "conv", "kernel") -> "conv.weight"."""
    return ".".join([*path[1:-1], NAMES.get(path[-1], path[-1])])


def draw(seed=0, **shapes):
    """Arrays of a state dict; keys are written with "_" for "."."""
    rng = np.random.default_rng(seed)
    return {k.replace("_", "."): rng.normal(size=s).astype(np.float32) for k, s in shapes.items()}


def positions(sides):
    return itertools.product(*map(range, sides))


def conv(x, w, b, stride=1, groups=1):
    """y[o, p] = b[o] + sum_{c, q} w[o, c, q] x[c, stride p + q], over windows of any number of axes; x [in, ...]."""
    sides = [(n - k) // stride + 1 for n, k in zip(x.shape[1:], w.shape[2:], strict=True)]
    y = np.zeros((len(w), *sides))
    for o in range(len(w)):
        group = o * groups // len(w)
        inputs = x[group * w.shape[1] : (group + 1) * w.shape[1]]
        for p in positions(sides):
            window = tuple(slice(stride * i, stride * i + k) for i, k in zip(p, w.shape[2:], strict=True))
            y[(o, *p)] = b[o] + (w[o] * inputs[(slice(None), *window)]).sum()
    return y


def transposed_conv(x, w, b, stride):
    """What each pixel paints: y[o, stride p + q] += w[c, o, q] x[c, p]."""
    sides = [(n - 1) * stride + k for n, k in zip(x.shape[1:], w.shape[2:], strict=True)]
    y = np.zeros((w.shape[1], *sides)) + b.reshape(-1, *[1] * len(sides))
    for c, o in positions(w.shape[:2]):
        for p in positions(x.shape[1:]):
            for q in positions(w.shape[2:]):
                y[(o, *(stride * i + j for i, j in zip(p, q, strict=True)))] += w[(c, o, *q)] * x[(c, *p)]
    return y


def last(y):
    """Channels first -> last."""
    return np.moveaxis(np.asarray(y), 0, -1)


def run(module, x, arrays, layouts=None):
    """The filled module on one channels-first example, channels last."""
    x = jnp.asarray(last(x))[None] if x.ndim > 1 else jnp.asarray(x)[None]
    return module.apply(fill(module, (x,), arrays, name, layouts), x)[0]


close = partial(np.testing.assert_allclose, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(
    ("window", "channels", "options"),
    [
        ((3,), (2, 4), {}),
        ((2, 3), (3, 3), {}),  # square: a missing transposition has the same shape
        ((3, 3), (2, 5), {"stride": 2}),
        ((3, 3), (4, 4), {"groups": 2}),
        ((2, 1, 3), (2, 2), {}),
    ],
)
def test_a_convolution(window, channels, options):
    strides, groups = options.get("stride", 1), options.get("groups", 1)
    arrays = draw(weight=(channels[1], channels[0] // groups, *window), bias=channels[1:])
    module = nn.Conv(channels[1], window, strides=strides, padding="VALID", feature_group_count=groups)
    x = draw(x=(channels[0], *[5, 4, 6][: len(window)]))["x"]
    close(run(module, x, arrays), last(conv(x, arrays["weight"], arrays["bias"], **options)))


@pytest.mark.parametrize("transpose_kernel", [False, True])
@pytest.mark.parametrize("channels", [(2, 3), (3, 3)])
def test_a_transposed_convolution(channels, transpose_kernel):
    arrays = draw(weight=(*channels, 3, 2), bias=channels[1:])
    module = nn.ConvTranspose(channels[1], (3, 2), (2, 2), "VALID", transpose_kernel=transpose_kernel)
    x = draw(x=(channels[0], 3, 4))["x"]
    close(run(module, x, arrays), last(transposed_conv(x, arrays["weight"], arrays["bias"], 2)))


class ConvFlattenLinear(nn.Module):
    """The network whose shapes say nothing: 16 features of a flattened map on both sides of the dense layer."""

    norm: bool = False

    @nn.compact
    def __call__(self, x):
        h = nn.relu(nn.Conv(4, (2, 2), padding="VALID", name="conv")(x))
        h = h.reshape(len(h), -1)
        h = nn.BatchNorm(use_running_average=True, epsilon=1e-5, name="bn")(h) if self.norm else h
        return nn.Dense(16, name="fc")(h)


FLAT = draw(conv_weight=(4, 3, 2, 2), conv_bias=(4,), fc_weight=(16, 16), fc_bias=(16,))
IMAGE = draw(x=(3, 3, 3))["x"]


def torch_features(arrays):
    """(channels, height, width), in that order."""
    return np.maximum(conv(IMAGE, arrays["conv.weight"], arrays["conv.bias"]), 0).ravel()


def test_conv_flatten_linear_is_refused_or_right():
    with pytest.raises(ValueError, match=r"layout of 'fc.weight' is not known.*flattened\(height"):
        run(ConvFlattenLinear(), IMAGE, FLAT)
    ours = run(ConvFlattenLinear(), IMAGE, FLAT, {"fc.weight": flattened(2, 2, 4)})
    theirs = FLAT["fc.weight"] @ torch_features(FLAT) + FLAT["fc.bias"]
    close(ours, theirs)
    wrong = run(ConvFlattenLinear(), IMAGE, FLAT, {"fc.weight": linear})  # what was done in silence
    assert np.abs(wrong - theirs).max() > 1


def test_a_norm_of_a_flattened_image_is_refused_or_right():
    """Vectors too have an order there."""
    arrays = FLAT | draw(1, bn_weight=(16,), bn_bias=(16,), bn_running_mean=(16,), bn_running_var=(16,))
    arrays = {k.replace("running.", "running_"): v for k, v in arrays.items()}
    arrays["bn.running_var"] = np.abs(arrays["bn.running_var"])
    with pytest.raises(ValueError, match=r"layout of 'bn\.\w+' is not known"):
        run(ConvFlattenLinear(norm=True), IMAGE, arrays, {"fc.weight": flattened(2, 2, 4)})
    layouts = {k: flattened(2, 2, 4) for k in arrays if k.startswith("bn.") or k == "fc.weight"}
    mean, var, scale, bias = (arrays[f"bn.{k}"] for k in ("running_mean", "running_var", "weight", "bias"))
    h = (torch_features(arrays) - mean) / np.sqrt(var + 1e-5) * scale + bias
    close(
        run(ConvFlattenLinear(norm=True), IMAGE, arrays, layouts), arrays["fc.weight"] @ h + arrays["fc.bias"]
    )


class Decoder(nn.Module):
    """A dense layer whose output becomes an image: no size of an image can be asked."""

    @nn.compact
    def __call__(self, z):
        h = nn.Dense(16, name="fc")(z).reshape(len(z), 2, 2, 4)
        return nn.Conv(3, (2, 2), padding="VALID", name="conv")(h)


def test_a_decoder_is_refused_or_right():
    arrays = draw(fc_weight=(16, 16), fc_bias=(16,), conv_weight=(3, 4, 2, 2), conv_bias=(3,))
    z = draw(z=(16,))["z"]
    with pytest.raises(ValueError, match="layout of 'fc"):
        run(Decoder(), z, arrays)
    ours = run(Decoder(), z, arrays, dict.fromkeys(("fc.weight", "fc.bias"), unflattened(2, 2, 4)))
    h = (arrays["fc.weight"] @ z + arrays["fc.bias"]).reshape(4, 2, 2)
    close(ours, last(conv(h, arrays["conv.weight"], arrays["conv.bias"])))


class Pooled(nn.Module):
    """A mean over space: nothing is flattened, though the kernels are square."""

    @nn.compact
    def __call__(self, x):
        h = nn.Conv(4, (2, 2), padding="VALID", name="conv")(x).mean((1, 2))
        return nn.Dense(4, name="fc2")(nn.Dense(4, name="fc1")(h))


def test_dense_layers_after_a_mean_are_known():
    arrays = draw(conv_weight=(4, 3, 2, 2), conv_bias=(4,), fc1_weight=(4, 4), fc1_bias=(4,))
    arrays |= draw(1, fc2_weight=(4, 4), fc2_bias=(4,))
    h = conv(IMAGE, arrays["conv.weight"], arrays["conv.bias"]).mean((1, 2))
    h = arrays["fc1.weight"] @ h + arrays["fc1.bias"]
    close(run(Pooled(), IMAGE, arrays), arrays["fc2.weight"] @ h + arrays["fc2.bias"])


class Words(nn.Module):
    """An embedding of as many words as features, and a table of its own."""

    table: bool = False

    @nn.compact
    def __call__(self, words):
        h = nn.Embed(5, 5, name="words")(words)
        h = h + self.param("table", nn.initializers.zeros, (3, 5))[None] if self.table else h
        return nn.Dense(5, name="out")(h)


WORDS = draw(words_weight=(5, 5), out_weight=(5, 5), out_bias=(5,), table=(3, 5))


@pytest.mark.parametrize("table", [False, True])
def test_an_embedding_is_not_transposed_and_a_table_of_nobody_is_declared(table):
    arrays = WORDS if table else {k: v for k, v in WORDS.items() if k != "table"}
    words = jnp.array([[4, 0, 2]])
    layouts = None
    if table:
        with pytest.raises(ValueError, match="is not known"):
            fill(Words(True), (words,), arrays, name)
        layouts = {k: linear if k == "out.weight" else same for k in arrays}
    h = arrays["words.weight"][[4, 0, 2]] + (arrays["table"] if table else 0)
    variables = fill(Words(table), (words,), arrays, name, layouts)
    close(Words(table).apply(variables, words)[0], h @ arrays["out.weight"].T + arrays["out.bias"])


def test_layouts_on_numbers():
    """Entry by entry, where each entry says where it was."""
    w = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    assert convolution(w)[3, 4, 2, 1] == w[1, 2, 3, 4]
    assert transposed_convolution(w)[0, 1, 1, 2] == w[1, 2, 3, 3]
    rows = np.arange(2 * 60).reshape(2, 60)  # 3 channels of 4 x 5
    assert flattened(4, 5, 3)(rows)[(2 * 5 + 4) * 3 + 1, 1] == rows[1, (1 * 4 + 2) * 5 + 4]
    assert unflattened(4, 5, 3)(rows.T)[1, (2 * 5 + 4) * 3 + 1] == rows[1, (1 * 4 + 2) * 5 + 4]
    assert flattened(4, 5, 3)(rows[1])[(2 * 5 + 4) * 3 + 1] == rows[1, (1 * 4 + 2) * 5 + 4]


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_stored_in_another_width(dtype):
    arrays = {k: np.asarray(jnp.asarray(v, jnp.bfloat16)) for k, v in FLAT.items()}  # exact in all of them
    stored = {k: v.astype(dtype) for k, v in arrays.items()}
    layouts = {"fc.weight": flattened(2, 2, 4)}
    filled = [
        fill(ConvFlattenLinear(), (jnp.asarray(last(IMAGE))[None],), a, name, layouts)
        for a in (stored, {k: v.astype(np.float32) for k, v in arrays.items()})
    ]
    assert {leaf.dtype.name for leaf in jax.tree.leaves(filled)} == {"float32"}
    jax.tree.map(np.testing.assert_array_equal, *filled)
