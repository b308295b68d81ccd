"""From a picture of any size, in a file or in memory, to pixels of one size: uint8 [H, W, C].

The rules are rows of `RESIZES`. What is made smaller is averaged over all the pixels that it covers (Pillow's bicubic filter,
whose support grows with the scale), so that nothing aliases. A picture is first turned as its camera says (EXIF); of several
frames it is the first; transparency is left out.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from numbers import Integral
from os import PathLike
from typing import Any

import numpy as np

from jaxdiff import checks

MODES = {1: "L", 3: "RGB"}  # channels -> Pillow's name
Size = tuple[int, int]  # height, width


def crop(image: Any, size: Size) -> Any:
    """The largest part in the middle with the proportions of `size`, scaled to it: the shorter side fits, the other is cut."""
    (width, height), (h, w) = image.size, size
    scale = min(width / w, height / h)
    left, top = (width - w * scale) / 2, (height - h * scale) / 2
    return _scaled(image, size, (left, top, left + w * scale, top + h * scale))


def stretch(image: Any, size: Size) -> Any:
    """The whole picture, whatever becomes of its proportions."""
    return _scaled(image, size, None)


def exact(image: Any, size: Size) -> Any:
    """The picture as it is; ValueError unless it has this size."""
    if (found := image.size[::-1]) != size:
        raise ValueError(
            f'it is {found[0]} x {found[1]}, not {size[0]} x {size[1]}; for any size use resize="crop" or "stretch"'
        )
    return image


RESIZES: dict[str, Callable[[Any, Size], Any]] = {"crop": crop, "exact": exact, "stretch": stretch}


def check_rule(who: str, size: Size | None, resize: str, channels: int) -> None:
    """ValueError unless size is (height, width) or None, resize a row of `RESIZES`, and channels 1 or 3."""
    checks.known(who, RESIZES, resize=resize)
    if size is not None:
        if not isinstance(size, tuple | list) or len(size) != 2:
            raise ValueError(f"{who} needs size as (height, width), such as (32, 32); got {size!r}.")
        checks.count(who, **{"the height in size": size[0], "the width in size": size[1]})
    if isinstance(channels, bool) or not isinstance(channels, Integral) or channels not in MODES:
        raise ValueError(f"{who} needs channels as 1 (grey) or 3 (colour); got {channels!r}.")


def pixels(picture: Any, size: Size, resize: str, channels: int) -> np.ndarray:
    """uint8 [*size, channels] of a picture of Pillow, by the rule `resize`; ValueError if it has more than 8 bits a value."""
    if picture.mode.startswith(("I", "F")):
        raise ValueError(f"it has more than 8 bits a value (mode {picture.mode}); save it with 8")
    if "transparency" in picture.info:
        picture = picture.convert("RGBA")
    image = RESIZES[resize](picture.convert(MODES[channels]), tuple(size))
    return np.asarray(image, np.uint8).reshape(*size, channels)


def opened(file: str | PathLike | BytesIO) -> Any:
    """The picture of Pillow in a file, decoded and upright."""
    from PIL import Image, ImageOps

    with Image.open(file) as picture:
        picture.load()
        return ImageOps.exif_transpose(picture)


@contextmanager
def named(where: str) -> Iterator[None]:
    """Whatever is wrong with an image becomes a ValueError that says where it is."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises OSError, SyntaxError, struct.error, ... for what is damaged
        told = str(error) or type(error).__name__
        raise ValueError(f"The image {where} cannot be used: {told}. Mend it, or leave it out.") from error


def _scaled(image: Any, size: Size, box: tuple[float, ...] | None) -> Any:
    from PIL import Image

    return image.resize(size[::-1], Image.Resampling.BICUBIC, box)
