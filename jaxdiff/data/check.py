"""The check of images that come in from outside: dtype, layout, channels, range and what to do about each."""

import math

import jax
import numpy as np

CHANNELS = (1, 3)  # grey or colour: to guess the layout from the shape


def check_images(images: np.ndarray | jax.Array, channels: int | None = None) -> np.ndarray | jax.Array:
    """Returns `images` if they are float32 [B, H, W, C] in [0, 1], with C = `channels` unless that is None.

    For concrete arrays, outside of jit. Raises TypeError for another dtype, ValueError for another shape, an
    empty batch, and values that are not finite or lie outside [0, 1].
    """
    _check_dtype(images.dtype)
    _check_rank(images.shape)
    _check_channels(images.shape, channels)
    _check_range(float(images.min()), float(images.max()))
    return images


def _check_dtype(dtype) -> None:
    if dtype == np.float32:
        return
    remedy = "images.astype(np.float32)" + (" and divide by 255" if dtype == np.uint8 else "")
    raise TypeError(f"Images must be float32 in [0, 1]; got dtype {dtype}. Use {remedy}.")


def _check_rank(shape: tuple[int, ...]) -> None:
    if len(shape) == 4 and 0 not in shape:
        return
    remedy = "Stack images along a first axis"
    if len(shape) == 3:
        remedy = "Use images[None]" if shape[2] in CHANNELS else "Use images[..., None]"
    elif 0 in shape:
        remedy = "There is nothing to check"
    raise ValueError(f"Images must be a batch [B, H, W, C] with at least one image; got {shape}. {remedy}.")


def _check_channels(shape: tuple[int, ...], channels: int | None) -> None:
    wanted = CHANNELS if channels is None else (channels,)
    if shape[3] in wanted or (channels is None and shape[1] not in wanted):
        return
    looks_nchw = "This looks like NCHW: use images.transpose(0, 2, 3, 1)"
    remedy = looks_nchw if shape[1] in wanted else "Convert the colours"
    raise ValueError(f"Images must be [B, H, W, {channels or 'C'}]; got {shape}. {remedy}.")


def _check_range(low: float, high: float) -> None:
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(
            f"Images must be finite; got min {low}, max {high}. Look for what made NaN or infinity."
        )
    if low >= 0 and high <= 1:
        return
    remedy = "If this is rounding, use images.clip(0, 1)"
    if high > 2 and low >= 0:
        remedy = "For pixels in 0..255, divide by 255"
    elif low < -0.5:
        remedy = "For [-1, 1] use (images + 1) / 2; for standardised data undo the normalisation"
    raise ValueError(f"Images must lie in [0, 1]; got min {low:.6g}, max {high:.6g}. {remedy}.")
