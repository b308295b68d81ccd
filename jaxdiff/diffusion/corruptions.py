"""What is left of an image to restore it from: functions (x0, key) -> `Corrupted`, of images [h, w, c] in [-1, 1]."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import checks
from jaxdiff.diffusion.multiresolution import shrunk
from jaxdiff.types import Image, PRNGKey

__all__ = ["blurred", "hidden", "hidden_pixels", "smaller"]


class Corrupted(NamedTuple):
    """What is left as an image of the same size, to be looked at; how it is measured, such that operator(restored) should be
    operator(x0); and what guidance is told: `known` and `mask`, or `operator` and `measured`.
    """

    shown: Image
    operator: Callable[[Image], Any]
    told: Mapping[str, Any]


Corruption = Callable[[Image, PRNGKey], Corrupted]


def hidden(top: float = 0.25, left: float = 0.25, height: float = 0.5, width: float = 0.5) -> Corruption:
    """A box is not known; its place and sides are shares of the image's."""
    checks.number("hidden", "[0, 1]", top=top, left=left)
    checks.number("hidden", "(0, 1]", height=height, width=width)
    return partial(_hidden, top, left, height, width)


def hidden_pixels(share: float = 0.5) -> Corruption:
    """A random share of the pixels, all channels of each, is not known."""
    checks.number("hidden_pixels", "(0, 1)", share=share)
    return partial(_hidden_pixels, share)


def smaller(factor: int = 2) -> Corruption:
    """Means of factor x factor pixels are known. ValueError for images that this does not divide."""
    checks.count("smaller", 2, factor=factor)
    return partial(_smaller, factor)


def blurred(std: float = 1.0) -> Corruption:
    """The image blurred by a Gaussian of `std` pixels is known, mirrored at its edges."""
    checks.number("blurred", "(0, inf)", std=std)
    return partial(_blurred, std)


def _hidden(top: float, left: float, height: float, width: float, x0: Image, key: PRNGKey) -> Corrupted:
    inside = lambda at, reach, n: (np.arange(n) >= at * n - 0.5) & (np.arange(n) < (at + reach) * n - 0.5)
    box = inside(top, height, x0.shape[0])[:, None] & inside(left, width, x0.shape[1])
    return _masked(x0, jnp.asarray(~box))


def _hidden_pixels(share: float, x0: Image, key: PRNGKey) -> Corrupted:
    return _masked(x0, jax.random.uniform(key, x0.shape[:2]) >= share)


def _masked(x0: Image, known: Any) -> Corrupted:
    mask = jnp.broadcast_to(known[..., None], x0.shape)
    operator = lambda x: jnp.where(mask, x, 0.0)
    return Corrupted(operator(x0), operator, {"known": x0, "mask": mask})


def _smaller(factor: int, x0: Image, key: PRNGKey) -> Corrupted:
    operator = lambda x: shrunk(x, factor)
    shown = operator(x0).repeat(factor, 0).repeat(factor, 1)
    return Corrupted(shown, operator, {"operator": operator, "measured": operator(x0)})


def _blurred(std: float, x0: Image, key: PRNGKey) -> Corrupted:
    rows, columns = (jnp.asarray(_blur(n, std), x0.dtype) for n in x0.shape[:2])
    operator = lambda x: jnp.einsum("ij,jkc,lk->ilc", rows, x, columns)
    measured = operator(x0)
    return Corrupted(measured, operator, {"operator": operator, "measured": measured})


def _blur(n: int, std: float) -> np.ndarray:
    """The blur of a row of n pixels as a matrix [n, n], its rows summing to 1."""
    reach = int(np.ceil(4.0 * std))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / std) ** 2)
    matrix = np.zeros((n, n))
    for offset, weight in zip(range(-reach, reach + 1), kernel / kernel.sum(), strict=True):
        at = (np.arange(n) + offset) % (2 * n)
        np.add.at(matrix, (np.arange(n), np.where(at < n, at, 2 * n - 1 - at)), weight)
    return matrix
