"""The check of images that come in from outside: beyond `jaxdiff.checks.images`, the layout and the channels."""

import jax
import numpy as np
from jaxtyping import Array

from jaxdiff import checks

CHANNELS = (1, 3)  # grey or colour: to guess the layout from the shape


def check_images(images: np.ndarray | jax.Array, channels: int | None = None) -> Array:
    """`images` as an array if they are float32 [B, H, W, C] in [0, 1], with C = `channels` unless that is None.

    Raises ValueError for another type or shape, and for concrete values that are not finite or lie outside [0, 1]. There may
    be no image at all.
    """
    who = "check_images"
    given = checks.floats(who, images)
    _check_rank(given.shape)
    if (dtype := getattr(images, "dtype", given.dtype)) != np.float32:  # NumPy's float64 is float32 by now
        raise ValueError(f"{who}: images are float32; got {dtype}. Use images.astype('float32').")
    images = checks.images(who, given)
    if channels is not None:
        checks.count(who, channels=channels)
    _check_channels(images.shape, channels)
    return images


def _check_rank(shape: tuple[int, ...]) -> None:
    if len(shape) == 4 and all(shape[1:]):
        return
    remedy = "Stack images along a first axis"
    if len(shape) == 3:
        remedy = "Use images[None]" if shape[2] in CHANNELS else "Use images[..., None]"
    raise ValueError(f"Images must be a batch [B, H, W, C]; got {shape}. {remedy}.")


def _check_channels(shape: tuple[int, ...], channels: int | None) -> None:
    wanted = CHANNELS if channels is None else (channels,)
    if shape[3] in wanted or (channels is None and shape[1] not in wanted):
        return
    looks_nchw = "This looks like NCHW: use images.transpose(0, 2, 3, 1)"
    remedy = looks_nchw if shape[1] in wanted else "Convert the colours"
    raise ValueError(f"Images must be [B, H, W, {channels or 'C'}]; got {shape}. {remedy}.")
