"""How PyTorch lays out an array that Flax holds otherwise, known from the kind of the layer that owns it.

PyTorch puts channels before space, here they come last. For a kernel that is a transposition. Where a network reshapes, it
is not: after conv, flatten, linear a row of PyTorch's weight runs through (channels, height, width), ours through (height,
width, channels), and no shape tells. So a layout is known or the array is refused, never guessed:

- the kernel (and bias) of a convolution, transposed or not, is known from its layer;
- a dense kernel, an embedding or a vector is known if it has the same shape when the images are twice as large: after a
  flattened image it has not. A network that takes one size only, or makes images of vectors, cannot be asked;
- the rest is declared, key by key, with one of the functions here.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict

Layout = Callable[[np.ndarray], np.ndarray]  # an array of PyTorch -> the same in Flax
Path = tuple[str, ...]


def same(w: np.ndarray) -> np.ndarray:
    """No change: vectors over channels, embeddings [entries, features]."""
    return w


def linear(w: np.ndarray) -> np.ndarray:
    """[out, in] -> [in, out]."""
    return np.moveaxis(w, 0, -1)


def convolution(w: np.ndarray) -> np.ndarray:
    """[out, in, *window] -> [*window, in, out]."""
    return np.moveaxis(w, (1, 0), (-2, -1))


def transposed_convolution(w: np.ndarray) -> np.ndarray:
    """[in, out, *window] -> [*window, in, out], mirrored: PyTorch's is the gradient of a convolution, Flax's is none."""
    return np.flip(np.moveaxis(w, (0, 1), (-2, -1)), tuple(range(w.ndim - 2)))


def flattened(height: int, width: int, channels: int) -> Layout:
    """After flattening [height, width, channels]: a weight [out, channels x height x width], or a vector of that length."""
    return lambda w: linear(_channels_last(w, -1, (channels, height, width)))


def unflattened(height: int, width: int, channels: int) -> Layout:
    """Before reshaping to [height, width, channels]: a weight [channels x height x width, in], or a vector."""
    return lambda w: linear(_channels_last(w, 0, (channels, height, width)))


def _channels_last(w: np.ndarray, axis: int, sides: tuple[int, int, int]) -> np.ndarray:
    if w.shape[axis] != np.prod(sides):
        raise ValueError(f"[height, width, channels] = {[*sides[1:], sides[0]]} has {np.prod(sides)} values")
    axis = axis % w.ndim
    apart = w.reshape(*w.shape[:axis], *sides, *w.shape[axis + 1 :])
    return np.moveaxis(apart, axis, axis + 2).reshape(w.shape)


def _kernel(layer: nn.Module) -> Layout | None:
    """The layout of the kernel of a convolution; None for any other layer."""
    if type(layer) is nn.Conv or (type(layer) is nn.ConvTranspose and layer.transpose_kernel):
        return convolution
    return transposed_convolution if type(layer) is nn.ConvTranspose else None


class Network(NamedTuple):
    """Shapes of the variables, those for images twice as large (empty if they cannot be asked), and the layers."""

    shapes: dict[Path, jax.ShapeDtypeStruct]
    doubled: dict[Path, jax.ShapeDtypeStruct]
    kinds: dict[Path, type]  # of the layer at each path
    convolutions: dict[Path, Layout]  # of the kernels of those that are convolutions

    def layout(self, path: Path) -> Layout | None:
        """The layout of the leaf at `path`; None if it is not known."""
        *_, leaf = path
        layer, shape = path[1:-1], self.shapes[path].shape
        if layer in self.convolutions:
            return {"kernel": self.convolutions[layer], "bias": same}.get(leaf)
        if path not in self.doubled or self.doubled[path].shape != shape:
            return None
        known = {(nn.Dense, "kernel"): linear, (nn.Embed, "embedding"): same}
        return same if len(shape) < 2 else known.get((self.kinds.get(layer), leaf))


def network(module: nn.Module, inputs: tuple[Any, ...]) -> Network:
    """What `module` is for inputs like these, by tracing it twice; nothing is computed."""
    kinds, convolutions = {}, {}

    def watch(call, args, kwargs, context):
        layer = context.module
        kinds[layer.path] = type(layer)
        if kernel := _kernel(layer):
            convolutions[layer.path] = kernel
        return call(*args, **kwargs)

    with nn.intercept_methods(watch):
        shapes = _shapes(module, inputs)
    from_images = any(np.ndim(x) > 2 for x in inputs)
    return Network(
        shapes,
        _shapes_doubled(module, inputs) if from_images or not convolutions else {},
        kinds,
        convolutions,
    )


def _shapes(module: nn.Module, inputs: tuple[Any, ...]) -> dict[Path, jax.ShapeDtypeStruct]:
    return flatten_dict(jax.eval_shape(module.init, jax.random.key(0), *inputs))


def _shapes_doubled(module: nn.Module, inputs: tuple[Any, ...]) -> dict[Path, jax.ShapeDtypeStruct]:
    """For all axes between the first and the last twice as long; empty if the module does not take that."""
    grown = [(*np.shape(x)[:1], *(2 * n for n in np.shape(x)[1:-1]), *np.shape(x)[1:][-1:]) for x in inputs]
    try:
        return _shapes(
            module, tuple(jax.ShapeDtypeStruct(s, x.dtype) for s, x in zip(grown, inputs, strict=True))
        )
    except Exception:  # whatever a network says to a size it is not for
        return {}
