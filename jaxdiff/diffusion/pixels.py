"""Images are in [0, 1] everywhere but inside of diffusion, where they are in [-1, 1], centred on 0 as the noise is."""

from jaxdiff.types import Image


def to_network(x: Image) -> Image:
    """[0, 1] -> [-1, 1]: 2 x - 1."""
    return 2.0 * x - 1.0


def from_network(x: Image) -> Image:
    """[-1, 1] -> [0, 1], not clipped: (x + 1) / 2."""
    return 0.5 * (x + 1.0)
