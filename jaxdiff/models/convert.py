"""Foreign checkpoints: a flat dict of arrays in PyTorch's layout -> Flax variables.

Each leaf that the module expects is looked up under its foreign name, transposed (OIHW -> HWIO, out x in ->
in x out) and compared with the expected shape, so that a checkpoint of another architecture fails with the
key named.
"""

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxdiff.models.resnet import ResNetCIFAR
from jaxdiff.models.unet import UNet
from jaxdiff.types import Variables

LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


def load_npz(path: str | Path) -> dict[str, np.ndarray]:
    """All arrays of an npz file; FileNotFoundError names the path."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"No weights at {path}.")
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def resnet_cifar_from_torch(arrays: Mapping[str, np.ndarray]) -> Variables:
    """Variables of `ResNetCIFAR` from a PyTorch state dict of the public option-A models (akamaster's).

    Depth and classes are read off the keys. Raises ValueError for a missing or unexpected key or a wrong
    shape.
    """
    arrays = {
        k.removeprefix("module."): v for k, v in arrays.items() if not k.endswith("num_batches_tracked")
    }
    blocks = len([k for k in arrays if re.fullmatch(r"layer1\.\d+\.conv1\.weight", k)])
    classes = len(arrays.get("linear.bias", range(10)))
    model = ResNetCIFAR(6 * max(blocks, 1) + 2, classes)
    expected = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    return fill(expected, arrays, _resnet_key)


def unet_from_diffusers(arrays: Mapping[str, np.ndarray], model: UNet, size: int = 32) -> Variables:
    """Variables of `model` from the state dict of a diffusers `UNet2DModel`, such as google/ddpm-cifar10-32.

    `size` is the side of the images (it decides where attention sits). The foreign model must have
    `attention_head_dim=None`, `norm_eps=1e-6`, `flip_sin_to_cos=False`, `freq_shift=1`,
    `downsample_padding=0` and as many groups in each norm. Raises ValueError for a missing or unexpected
    key or a wrong shape.
    """
    channels = arrays["conv_in.weight"].shape[1] if "conv_in.weight" in arrays else 3
    x = jnp.zeros((1, size, size, channels))
    expected = jax.eval_shape(model.init, jax.random.key(0), x, jnp.zeros(1))
    return fill(expected, arrays, partial(_unet_key, levels=len(model.multipliers)))


def fill(
    expected: Variables, arrays: Mapping[str, np.ndarray], name: Callable[[tuple[str, ...]], str]
) -> Variables:
    """The tree `expected` (of shapes) with values from `arrays`, where `name` gives the key of each path.

    Raises ValueError for a missing or unexpected key or a wrong shape.
    """
    leaves = flatten_dict(expected)
    names = {path: name(path) for path in leaves}
    missing = sorted(set(names.values()) - set(arrays))
    unexpected = sorted(set(arrays) - set(names.values()))
    if missing or unexpected:
        raise ValueError(
            f"These weights are of another architecture: missing {missing[:3]} ({len(missing)} in all), "
            f"unexpected {unexpected[:3]} ({len(unexpected)} in all)."
        )
    return unflatten_dict(
        {path: _leaf(arrays[names[path]], leaf, names[path]) for path, leaf in leaves.items()}
    )


def _leaf(array: np.ndarray, expected: jax.ShapeDtypeStruct, name: str) -> jax.Array:
    """One array in the layout and type of `expected`."""
    array = np.asarray(array)
    if array.ndim == 4:
        array = array.transpose(2, 3, 1, 0)
    elif array.ndim == 2:
        array = array.T
    if array.shape != expected.shape:
        raise ValueError(
            f"Weights {name!r} have shape {array.shape} (channels last); expected {expected.shape}."
        )
    return jnp.asarray(array, expected.dtype)


def _resnet_key(path: tuple[str, ...]) -> str:
    """("params", "layer2_0", "conv1", "kernel") -> "layer2.0.conv1.weight"."""
    *modules, leaf = path[1:]
    return ".".join([*modules, LEAVES[leaf]]).replace("_", ".", int(modules[0].startswith("layer")))


UNET_NAMES = {
    "dense1": "linear_1",
    "dense2": "linear_2",
    "shortcut": "conv_shortcut",
    "query": "to_q",
    "key": "to_k",
    "value": "to_v",
    "out": "to_out.0",
    "norm": "group_norm",
    "time": "time_emb_proj",
    "norm_out": "conv_norm_out",
}
UNET_STAGES = {"block": "resnets", "attention": "attentions"}


def _unet_key(path: tuple[str, ...], levels: int) -> str:
    """("params", "up1_2_block", "conv1", "kernel") -> "up_blocks.<levels - 2>.resnets.2.conv1.weight"."""
    stage, *modules, leaf = path[1:]
    inner = [UNET_NAMES.get(m, m) for m in modules]
    return ".".join([_unet_stage(stage, levels), *inner, LEAVES[leaf]])


def _unet_stage(stage: str, levels: int) -> str:
    """A top-level module's foreign name: "up1_upsample" -> "up_blocks.<levels - 2>.upsamplers.0.conv"."""
    if stage == "time":
        return "time_embedding"
    if middle := re.fullmatch(r"middle_(block|attention)(\d?)", stage):
        return f"mid_block.{UNET_STAGES[middle[1]]}.{middle[2] or 0}"
    if not (parts := re.fullmatch(r"(down|up)(\d+)_(?:(\d+)_)?(\w+)", stage)):
        return UNET_NAMES.get(stage, stage)
    way, level, index, kind = parts.groups()
    level = int(level) if way == "down" else levels - 1 - int(level)
    inner = f"{UNET_STAGES[kind]}.{index}" if index else f"{kind}rs.0.conv"
    return f"{way}_blocks.{level}.{inner}"
