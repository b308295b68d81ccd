"""Foreign checkpoints: a flat dict of arrays in PyTorch's layout -> Flax variables.

Each leaf that the module expects is looked up under its foreign name, brought into the layout of Flax (`models.layouts`: one
that is not known is refused) and compared with the expected shape, so that a checkpoint of another architecture fails
with the key named.
"""

import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import unflatten_dict

from jaxdiff import checks
from jaxdiff.models.inception import InceptionV3
from jaxdiff.models.layouts import Layout, linear, network, same
from jaxdiff.models.resnet import ResNetCIFAR
from jaxdiff.models.unet import UNet
from jaxdiff.types import Variables

LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
SAVE = "Save it with np.savez(path, **{k: v.float().numpy() for k, v in model.state_dict().items()})"


def load_npz(path: str | Path) -> dict[str, np.ndarray]:
    """All arrays of an npz file; `~` is the home directory.

    FileNotFoundError if there is no such file, ValueError if it is a folder, broken, or of another format.
    """
    checks.instance("load_npz", (str, Path), "'weights.npz'", path=path)
    path = Path(path).expanduser()
    if path.is_dir():
        raise ValueError(f"The weights {path} are a folder; give the .npz file in it.")
    if not path.exists():
        raise FileNotFoundError(f"No weights at {path}.")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
    except (
        OSError,
        ValueError,
        EOFError,
        TypeError,
        AttributeError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise ValueError(
            f"The weights {path} cannot be read as an npz file of arrays ({error}). {SAVE}."
        ) from error
    strange = [k for k, v in arrays.items() if not isinstance(v, np.ndarray)]
    if strange:  # a zip file of something else, as PyTorch's own
        raise ValueError(f"The weights {path} are no npz file of arrays: {strange[0]!r} is none. {SAVE}.")
    return arrays


def resnet_cifar_from_torch(arrays: Mapping[str, np.ndarray]) -> Variables:
    """Variables of `ResNetCIFAR` from a PyTorch state dict of the public option-A models (akamaster's).

    Depth and classes are read off the keys. ValueError as `fill` raises it.
    """
    arrays = state_dict(arrays)
    blocks = len([k for k in arrays if re.fullmatch(r"layer1\.\d+\.conv1\.weight", k)])
    classes = np.size(arrays.get("linear.bias", range(10)))
    model = ResNetCIFAR(6 * max(blocks, 1) + 2, max(classes, 2))
    return fill(model, (jnp.zeros((1, 32, 32, 3)),), arrays, _resnet_key)


def inception_from_torch(arrays: Mapping[str, np.ndarray]) -> Variables:
    """Variables of `InceptionV3` from the state dict of the usual file of FID's weights; the bias of its logits is left out."""
    arrays = {key: value for key, value in state_dict(arrays).items() if key != "fc.bias"}
    return fill(InceptionV3(), (jnp.zeros((1, 32, 32, 3)),), arrays, _dotted_key)


def load_weights(path: str | Path) -> dict[str, np.ndarray]:
    """All arrays of an npz file, or of a state dict that PyTorch has saved (.pth, .pt), for which it has to be installed."""
    checks.instance("load_weights", (str, Path), "'weights.npz'", path=path)
    path = Path(path).expanduser()
    if path.suffix not in (".pth", ".pt") or not path.is_file():
        return load_npz(path)
    try:
        import torch
    except ImportError:
        raise ValueError(
            f"The weights {path} are PyTorch's own format, which only PyTorch reads: install it, or where it is installed "
            f"load them with model = torch.load(path, weights_only=True). {SAVE}."
        ) from None
    loaded = torch.load(path, map_location="cpu", weights_only=True)
    return {key: value.float().numpy() for key, value in loaded.items()}


def unet_from_diffusers(arrays: Mapping[str, np.ndarray], model: UNet, size: int = 32) -> Variables:
    """Variables of `model` from the state dict of a diffusers `UNet2DModel`, such as google/ddpm-cifar10-32.

    `size` is the side of the images (it decides where attention sits). The foreign model must have
    `attention_head_dim=None`, `norm_eps=1e-6`, `flip_sin_to_cos=False`, `freq_shift=1`,
    `downsample_padding=0` and as many groups in each norm. ValueError as `fill` raises it.
    """
    checks.instance("unet_from_diffusers", UNet, "UNet()", model=model)
    checks.count("unet_from_diffusers", size=size)
    arrays = state_dict(arrays)
    shape = np.shape(arrays.get("conv_in.weight"))
    x = jnp.zeros((1, size, size, shape[1] if len(shape) == 4 else 3))
    # Its dense layers act on the channels of one pixel, or of the time; heads are in the same order.
    layouts = {k: (same, linear)[np.ndim(v) - 1] for k, v in arrays.items() if np.ndim(v) in (1, 2)}
    name = partial(_unet_key, levels=len(model.multipliers))
    return fill(model, (x, jnp.zeros(1)), arrays, name, layouts)


def state_dict(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """A state dict without the prefixes of PyTorch's wrappers and its counters of batches."""
    checks.instance("A state dict", Mapping, "load_npz(path)", arrays=arrays)
    plain = {
        re.sub(r"^(module\.|_orig_mod\.)+", "", k): v
        for k, v in arrays.items()
        if not k.endswith("num_batches_tracked")
    }
    wrapped = [k for k in arrays if not k.endswith("num_batches_tracked")]
    if len(plain) < len(wrapped):
        raise ValueError(
            "A state dict has the same key with and without 'module.': it holds two models. Keep one."
        )
    return plain


def fill(
    module: nn.Module,
    inputs: tuple[Any, ...],
    arrays: Mapping[str, Any],
    name: Callable[[tuple[str, ...]], str],
    layouts: Mapping[str, Layout] | None = None,
) -> Variables:
    """The variables of `module`, as it is for a batch like `inputs`, from `arrays`; `name` gives the key of each path.

    `layouts` declares, by key, those that cannot be known (`models.layouts`): {"fc.weight": flattened(8, 8, 64)} for a
    dense layer after a flattened feature map [8, 8, 64].

    Raises ValueError for a missing or unexpected key, a layout that is not known, a wrong shape, and values that are no
    finite floating point numbers.
    """
    checks.instance("fill", nn.Module, "ResNetCIFAR()", module=module)
    checks.instance("fill", (tuple, list), "(jnp.zeros((1, 32, 32, 3)),)", inputs=inputs)
    checks.instance("fill", (Mapping, type(None)), "{'fc.weight': flattened(8, 8, 64)}", layouts=layouts)
    checks.function("fill", name=name)
    arrays, declared, known = state_dict(arrays), dict(layouts or {}), network(module, inputs)
    names = {path: name(path) for path in known.shapes}
    _check_keys(names, arrays, declared)
    filled = {}
    for path, key in names.items():
        layout = declared.get(key, known.layout(path))
        if layout is None:
            raise ValueError(_unknown_layout(key, np.shape(arrays[key]), known.shapes[path].shape))
        filled[path] = _leaf(key, arrays[key], layout, known.shapes[path])
    return unflatten_dict(filled)


def _check_keys(names: Mapping[Any, str], arrays: Mapping[str, Any], declared: Mapping[str, Layout]) -> None:
    wanted = Counter(names.values())
    missing, unexpected = sorted(set(wanted) - set(arrays)), sorted(set(arrays) - set(wanted))
    if missing or unexpected:
        raise ValueError(
            f"These weights are of another architecture: missing {missing[:3]} ({len(missing)} in all), "
            f"unexpected {unexpected[:3]} ({len(unexpected)} in all)."
        )
    if twice := [key for key, n in wanted.items() if n > 1]:
        raise ValueError(f"The name {twice[0]!r} was given to {wanted[twice[0]]} leaves; each needs its own.")
    checks.function("fill", **{f"the layout of {key!r}": layout for key, layout in declared.items()})
    if other := sorted(set(declared) - set(wanted)):
        raise ValueError(
            f"A layout is declared for {other[0]!r}, which is no key{checks.nearest(other[0], wanted)}"
        )


def _unknown_layout(key: str, theirs: tuple[int, ...], ours: tuple[int, ...]) -> str:
    return (
        f"The layout of {key!r} is not known: {list(theirs)} there, {list(ours)} here. It depends on the size of the images "
        "(a dense layer after a flattened feature map, a table of positions), or on a reshape that cannot be seen from here. "
        "Declare it with a function of jaxdiff.models.layouts, for example "
        f"fill(..., layouts={{{key!r}: flattened(height, width, channels)}}), or linear, or same."
    )


def _leaf(key: str, array: Any, layout: Layout, expected: jax.ShapeDtypeStruct) -> jax.Array:
    """One array in the layout and type of `expected`."""
    array = _floats(key, array)
    try:
        array = layout(array)
    except ValueError as error:
        raise ValueError(
            f"Weights {key!r} of shape {list(array.shape)} do not fit their layout: {error}."
        ) from error
    if array.shape != expected.shape:
        raise ValueError(
            f"Weights {key!r} have shape {array.shape} (channels last); expected {expected.shape}."
        )
    with np.errstate(over="ignore"):  # what overflows is reported here
        array = array.astype(expected.dtype)
    bad = array.size - int(np.isfinite(array).sum())
    if bad:
        raise ValueError(
            f"Weights {key!r} have {bad} of {array.size} values that are not finite in {array.dtype}."
        )
    if key.endswith("running_var") and array.min(initial=0.0) < 0:
        raise ValueError(f"Weights {key!r} are variances, but the least is {array.min():.6g}.")
    return jnp.asarray(array)


def _floats(key: str, array: Any) -> np.ndarray:
    """Floating point numbers of any width, as NumPy holds them."""
    try:
        array = np.asarray(array)
    except (
        TypeError,
        ValueError,
        RuntimeError,
    ) as error:  # a tensor that is on another device or wants a gradient
        raise ValueError(
            f"Weights {key!r} are no array ({error}). Use tensor.detach().cpu().numpy()."
        ) from error
    if array.dtype.kind == "V" and not jnp.issubdtype(array.dtype, jnp.floating):
        raise ValueError(
            f"Weights {key!r} are raw bytes ({array.dtype}): npz does not know bfloat16. {SAVE}."
        )
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise ValueError(f"Weights {key!r} are floating point numbers; got {array.dtype}.")
    return array


def _dotted_key(path: tuple[str, ...]) -> str:
    """("params", "Mixed_5b", "branch1x1", "conv", "kernel") -> "Mixed_5b.branch1x1.conv.weight"."""
    *modules, leaf = path[1:]
    return ".".join([*modules, LEAVES[leaf]])


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
