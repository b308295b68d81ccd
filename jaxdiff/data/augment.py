"""Augmentation of ONE image: pure functions `(x, key) -> x` for `jax.vmap` with a key for each example.

As each example has its own key, what happens to it does not depend on the batch. The names in `__all__` are
those a config may use; several are composed: `compose(*(build(augment, spec) for spec in config.augment))`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxdiff.types import Image, PRNGKey

__all__ = ["flip", "noise", "none", "shift"]

Augment = Callable[[Image, PRNGKey], Image]


def none() -> Augment:
    """Leaves the image as it is."""
    return lambda x, key: x


def flip(probability: float = 0.5) -> Augment:
    """Mirrors left and right with `probability`; ValueError if that is not in [0, 1]."""
    if not 0 <= probability <= 1:
        raise ValueError(f"flip: probability must lie in [0, 1]; got {probability}.")

    def apply(x, key):
        _check_one_image(x, "flip")
        return jnp.where(jax.random.bernoulli(key, probability), x[:, ::-1], x)

    return apply


def shift(pixels: int, padding: str = "zero") -> Augment:
    """Moves the image by up to `pixels` along each side, uniformly: the pad-and-crop of CIFAR training.

    What comes in from outside is `padding`: "zero" (black) or "edge" (the border repeated). ValueError for a
    negative `pixels` or another `padding`.
    """
    modes = {"zero": "constant", "edge": "edge"}
    if pixels < 0:
        raise ValueError(f"shift: pixels must be at least 0; got {pixels}.")
    if padding not in modes:
        raise ValueError(f"shift: padding is one of {sorted(modes)}; got {padding!r}.")

    def apply(x, key):
        _check_one_image(x, "shift")
        padded = jnp.pad(x, ((pixels, pixels), (pixels, pixels), (0, 0)), mode=modes[padding])
        top, left = jax.random.randint(key, (2,), 0, 2 * pixels + 1)
        return jax.lax.dynamic_slice(padded, (top, left, 0), x.shape)

    return apply


def noise(std: float | int) -> Augment:
    """Adds Gaussian noise of standard deviation `std` to every value, not clipped; ValueError if it is negative."""
    if std < 0:
        raise ValueError(f"noise: std must be at least 0, in units of [0, 1] images; got {std}.")

    def apply(x, key):
        _check_one_image(x, "noise")
        return x + std * jax.random.normal(key, x.shape, x.dtype)

    return apply


def compose(*augments: Augment) -> Augment:
    """Applies `augments` from first to last, each with a key of its own."""

    def apply(x, key):
        for i, augment in enumerate(augments):
            x = augment(x, jax.random.fold_in(key, i))
        return x

    return apply


def _check_one_image(x: Image, name: str) -> None:
    if x.ndim != 3:
        raise ValueError(f"{name} acts on one image [H, W, C]; got {x.shape}. Use jax.vmap for a batch.")
