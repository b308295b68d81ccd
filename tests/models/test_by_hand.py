"""Layers and whole networks against their formulas, written with loops and sums in NumPy, on a few numbers."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from jaxdiff import models
from jaxdiff.models import layers
from jaxdiff.models.preact import PreActResNet
from jaxdiff.models.resnet import BasicBlock, Bottleneck, ResNet, batch_norm
from jaxdiff.models.unet import Attention

from .helpers import apply, randomised


def close(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=2e-5)


def numbers(shape, seed=1):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@pytest.mark.parametrize(("groups", "sizes"), [(2, (4, 4)), (1, (8,)), (3, (4, 4)), (32, (4, 4))])
def test_group_norm(groups, sizes):
    """Over the pixels and channels of a group: less the mean, by the root of the variance and 1e-6; gain and bias a channel."""
    x = 1e-3 * numbers((2, 1, 3, 8))  # so small that the 1e-6 counts
    gain, bias = numbers(8, 2), numbers(8, 3)
    ours = layers.GroupNorm(groups).apply({"params": {"scale": gain, "bias": bias}}, x)
    ours, x, gain, bias = (np.asarray(v, np.float64) for v in (ours, x, gain, bias))
    for b in range(2):
        for g, size in enumerate(sizes):
            channels = range(g * size, (g + 1) * size)
            values = [x[b, 0, i, c] for i in range(3) for c in channels]
            mean = sum(values) / len(values)
            variance = sum((v - mean) ** 2 for v in values) / len(values)
            for i in range(3):
                for c in channels:
                    hat = (x[b, 0, i, c] - mean) / math.sqrt(variance + 1e-6)
                    assert ours[b, 0, i, c] == pytest.approx(hat * gain[c] + bias[c], rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("label", [0.0, 1.0, 7.0, 250.5, 999.0])
def test_time_embedding(label):
    """sin then cos of the label times 10000^(-i / (half - 1)), i = 0 .. half - 1."""
    ours = layers.time_embedding(jnp.array([label]), 10)[0]
    angles = [label * 10_000 ** (-i / 4) for i in range(5)]
    np.testing.assert_allclose(ours, [f(a) for f in (math.sin, math.cos) for a in angles], atol=1e-4)


@pytest.mark.parametrize(("channels", "heads"), [(2, 1), (4, 2), (4, 1)])
def test_attention_between_two_pixels(channels, heads):
    """x_i + W_o sum_j softmax_j(q_i k_j / sqrt(d)) v_j, head by head; with two channels: four numbers."""
    x = numbers((1, 2, 1, channels))
    variables = randomised(Attention(heads), x)
    p = {k: np.asarray(3 * v, np.float64) for k, v in flatten_dict(variables["params"], sep="/").items()}
    ours = Attention(heads).apply(jax.tree.map(lambda v: 3 * v, variables), x)
    pixels = np.asarray(x[0, :, 0], np.float64)
    hat = (pixels - pixels.mean()) / np.sqrt(pixels.var() + 1e-6) * p["norm/scale"] + p["norm/bias"]
    q, k, v = (hat @ p[f"{n}/kernel"] + p[f"{n}/bias"] for n in ("query", "key", "value"))
    d, mixed = channels // heads, np.zeros((2, channels))
    for i in range(2):
        for head in range(heads):
            own = range(head * d, (head + 1) * d)
            scores = [sum(q[i, c] * k[j, c] for c in own) / math.sqrt(d) for j in range(2)]
            weights = [math.exp(s) / sum(map(math.exp, scores)) for s in scores]
            for c in own:
                mixed[i, c] = weights[0] * v[0, c] + weights[1] * v[1, c]
    close(ours[0, :, 0], pixels + mixed @ p["out/kernel"] + p["out/bias"])


def test_batch_norm_in_evaluation_and_training():
    """Running statistics in evaluation, the batch's own in training; 1e-5 inside the root."""
    x = 2e-3 * numbers((3, 2, 2, 2))
    params = {"scale": np.array([2.0, 3.0], np.float32), "bias": np.array([0.5, -1.0], np.float32)}
    stats = {"mean": np.array([1.0, -2.0], np.float32), "var": np.array([4.0, 1e-5], np.float32)}
    variables = {"params": params, "batch_stats": stats}
    x, ours = np.asarray(x), x
    running = (x - [1.0, -2.0]) / np.sqrt(np.array([4.0, 1e-5]) + 1e-5) * [2.0, 3.0] + [0.5, -1.0]
    close(batch_norm(False, None, None)().apply(variables, ours), running)
    own = (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-5) * [2.0, 3.0] + [0.5, -1.0]
    close(batch_norm(True, None, None)().apply(variables, ours, mutable="batch_stats")[0], own)


class Sums:
    """One image through the variables of a network, pixel by pixel; `at` is a place in the tree."""

    def __init__(self, variables):
        self.leaves = {k: np.asarray(v) for k, v in flatten_dict(variables, sep="/").items()}

    def conv(self, at, x, stride=1):
        """y[i, j, o] = b[o] + sum x[stride i + u - pad, stride j + v - pad, c] w[u, v, c, o], with zeros outside."""
        w = self.leaves[f"params/{at}/kernel"]
        pad, (height, width, _) = len(w) // 2, x.shape
        padded = np.pad(x, ((pad, pad), (pad, pad), (0, 0)))
        sides = [(n + 2 * pad - len(w)) // stride + 1 for n in (height, width)]
        y = np.zeros((*sides, w.shape[-1]))
        for i in range(sides[0]):
            for j in range(sides[1]):
                window = padded[stride * i : stride * i + len(w), stride * j : stride * j + len(w)]
                y[i, j] = (window[..., None] * w).sum((0, 1, 2))
        return y + self.leaves.get(f"params/{at}/bias", 0.0)

    def norm(self, at, x):
        scale, bias = (self.leaves[f"params/{at}/{k}"] for k in ("scale", "bias"))
        mean, var = (self.leaves[f"batch_stats/{at}/{k}"] for k in ("mean", "var"))
        return (x - mean) / np.sqrt(var + 1e-5) * scale + bias

    def logits(self, x):
        return x.mean((0, 1)) @ self.leaves["params/linear/kernel"] + self.leaves["params/linear/bias"]


def relu(x):
    return np.maximum(x, 0)


def pool(x):
    """The largest of 3 x 3 pixels, around every second."""
    padded = np.pad(x, ((1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    starts = range(0, len(x), 2)
    return np.stack([np.stack([padded[i : i + 3, j : j + 3].max((0, 1)) for j in starts]) for i in starts])


def basic(net, at, x, stride):
    h = relu(net.norm(f"{at}/bn1", net.conv(f"{at}/conv1", x, stride)))
    h = net.norm(f"{at}/bn2", net.conv(f"{at}/conv2", h))
    more = h.shape[-1] - x.shape[-1]
    return relu(h + np.pad(x[::stride, ::stride], ((0, 0), (0, 0), (more // 2, more - more // 2))))


def bottleneck(net, at, x, stride):
    h = relu(net.norm(f"{at}/bn1", net.conv(f"{at}/conv1", x)))
    h = relu(net.norm(f"{at}/bn2", net.conv(f"{at}/conv2", h, stride)))
    h = net.norm(f"{at}/bn3", net.conv(f"{at}/conv3", h))
    return relu(h + net.norm(f"{at}/shortcut_bn", net.conv(f"{at}/shortcut_conv", x, stride)))


def preact(net, at, x, stride):
    act = relu(net.norm(f"{at}/bn1", x))
    h = relu(net.norm(f"{at}/bn2", net.conv(f"{at}/conv1", act, stride)))
    return net.conv(f"{at}/conv2", h) + (
        net.conv(f"{at}/shortcut", act, stride) if stride == 2 or h.shape[-1] != x.shape[-1] else x
    )


MEAN, STD = (0.2, 0.6), (0.5, 2.0)
IMAGE = np.random.default_rng(0).uniform(size=(5, 6, 2)).astype(np.float32)


@pytest.mark.parametrize(
    ("module", "block", "stem"), [(BasicBlock, basic, "cifar"), (Bottleneck, bottleneck, "imagenet")]
)
def test_resnets(module, block, stem):
    model = ResNet(module, (2, 4), (1, 1), 3, stem, MEAN, STD)
    variables = randomised(model, jnp.asarray(IMAGE)[None])
    net = Sums(variables)
    x = (IMAGE - MEAN) / STD
    h = relu(net.norm("bn1", net.conv("conv1", x, 2 if stem == "imagenet" else 1)))
    h = pool(h) if stem == "imagenet" else h
    h = block(net, "layer2_0", block(net, "layer1_0", h, 1), 2)
    close(apply(model, variables, IMAGE[None])[0], net.logits(h))


def test_preactivated_resnets():
    model = PreActResNet(2, (2, 4), 1, 3, mean=MEAN, std=STD)
    variables = randomised(model, jnp.asarray(IMAGE)[None])
    net = Sums(variables)
    h = net.conv("conv", (IMAGE - MEAN) / STD)
    h = preact(net, "layer2_0", preact(net, "layer1_0", h, 1), 2)
    close(apply(model, variables, IMAGE[None])[0], net.logits(relu(net.norm("bn", h))))


def grouped(net, at, x, groups):
    """Group norm, as above."""
    h = x.reshape(*x.shape[:2], groups, -1)
    h = (h - h.mean((0, 1, 3), keepdims=True)) / np.sqrt(h.var((0, 1, 3), keepdims=True) + 1e-6)
    return h.reshape(x.shape) * net.leaves[f"params/{at}/scale"] + net.leaves[f"params/{at}/bias"]


def silu(x):
    return x / (1 + np.exp(-x))


@pytest.mark.parametrize(
    ("channels", "groups", "act"),
    [((2, 3, 4), 0, silu), ((4, 8), 2, relu)],
)
def test_cnn(channels, groups, act):
    """Convolution, norm, activation; from the second on at every second pixel."""
    model = models.CNN(channels, 3, groups, act.__name__, MEAN, STD)
    variables = randomised(model, jnp.asarray(IMAGE)[None])
    net, h = Sums(variables), (IMAGE - MEAN) / STD
    for i, c in enumerate(channels):
        h = net.conv(f"conv{i}", h, 1 if i == 0 else 2)
        h = act(grouped(net, f"norm{i}", h, c // 4) if groups else h)
    close(apply(model, variables, IMAGE[None])[0], net.logits(h))
