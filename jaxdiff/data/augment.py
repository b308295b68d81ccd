"""Augmentation of ONE image: pure functions `(x, key) -> x` for `jax.vmap` with a key for each example.

As each example has its own key, what happens to it does not depend on the batch. The names in `__all__` are
those a config may use; several are composed: `compose(*(build(augment, spec) for spec in config.augment))`.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxdiff import checks
from jaxdiff.types import Image, PRNGKey

__all__ = ["flip", "noise", "none", "shift"]

Augment = Callable[[Image, PRNGKey], Image]
PADDINGS = {"zero": "constant", "edge": "edge"}


def none() -> Augment:
    """Leaves the image as it is."""
    return _none


def flip(probability: float | int = 0.5) -> Augment:
    """Mirrors left and right with `probability`; ValueError if that is not in [0, 1]."""
    checks.number("flip", "[0, 1]", probability=probability)
    return partial(_flip, probability)


def shift(pixels: int, padding: str = "zero") -> Augment:
    """Moves the image by up to `pixels` along each side, uniformly: the pad-and-crop of CIFAR training.

    What comes in from outside is `padding`: "zero" (black) or "edge" (the border repeated). ValueError for `pixels` that are
    no whole number >= 0, or more than a side of the image, and for another `padding`.
    """
    checks.count("shift", 0, pixels=pixels)
    checks.known("shift", PADDINGS, padding=padding)
    return partial(_shift, pixels, padding)


def noise(std: float | int) -> Augment:
    """Adds Gaussian noise of standard deviation `std` >= 0 to every value, not clipped."""
    checks.number("noise", "[0, inf)", std=std)
    return partial(_noise, std)


def compose(*augments: Augment) -> Augment:
    """Applies `augments` from first to last, each with a key of its own."""
    checks.function("compose", **{f"augments[{i}]": a for i, a in enumerate(augments)})
    return partial(_compose, augments)


# At the top of the module, so that what is built can be pickled.
def _none(x: Image, key: PRNGKey) -> Image:
    return x


def _flip(probability: float | int, x: Image, key: PRNGKey) -> Image:
    x = _one_image("flip", x)
    return jnp.where(jax.random.bernoulli(key, probability), x[:, ::-1], x)


def _shift(pixels: int, padding: str, x: Image, key: PRNGKey) -> Image:
    x = _one_image("shift", x)
    if pixels > min(x.shape[:2]):
        raise ValueError(
            f"shift: {pixels} pixels move an image {x.shape} out of itself; give at most a side."
        )
    padded = jnp.pad(x, ((pixels, pixels), (pixels, pixels), (0, 0)), mode=PADDINGS[padding])
    top, left = jax.random.randint(key, (2,), 0, 2 * pixels + 1)
    return jax.lax.dynamic_slice(padded, (top, left, 0), x.shape)


def _noise(std: float | int, x: Image, key: PRNGKey) -> Image:
    x = _one_image("noise", x)
    return x + std * jax.random.normal(key, x.shape, x.dtype)


def _compose(augments: tuple[Augment, ...], x: Image, key: PRNGKey) -> Image:
    for i, augment in enumerate(augments):
        x = augment(x, jax.random.fold_in(key, i))
    return x


def _one_image(who: str, x: Image) -> Array:
    """`x` as an array; its range is not checked, for noise may have left [0, 1] before."""
    x = checks.floats(who, x)
    if x.ndim != 3:
        raise ValueError(f"{who} acts on one image [H, W, C]; got {x.shape}. Use jax.vmap for a batch.")
    return x
