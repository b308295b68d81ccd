"""Rotations and translations: the image is moved as a whole, no pixel is chosen (Engstrom et al. 2019).

    x'(p) = x(c + R(-angle) (p - c - shift)),    c the centre of the image, x bilinear and 0 outside        (1)

The space has three dimensions, so it is searched, not climbed: every point of a grid, or the worst of k random ones. All
candidates of an example are judged with the same key, so a randomised classifier does not favour one by luck.
"""

import itertools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, ScalarLike

from jaxdiff import checks
from jaxdiff.attacks.stepwise import Stepwise, improve, measured, start
from jaxdiff.attacks.threats.flow import bilinear
from jaxdiff.floats import wide_dtype
from jaxdiff.types import Image, PRNGKey

__all__ = ["rotation_translation", "worst_of_k"]

Motion = Float[Array, "3"]  # shares of the largest (degrees, dx, dy), each in [-1, 1]


def rotate_translate(x: Image, degrees: ScalarLike, dx: ScalarLike, dy: ScalarLike) -> Image:
    """Equation (1): x "h w c" turned anticlockwise by `degrees`, then moved dx pixels right and dy down."""
    x = checks.image("rotate_translate", x)
    checks.pixels("rotate_translate", x.shape)
    degrees, dx, dy = checks.number("rotate_translate", "(-inf, inf)", degrees=degrees, dx=dx, dy=dy)
    dtype, (h, w, _) = wide_dtype(x.dtype), x.shape
    rows, columns = jnp.meshgrid(*(jnp.arange(n, dtype=dtype) - (n - 1) / 2 for n in (h, w)), indexing="ij")
    degrees, dx, dy = (jnp.asarray(value, dtype) for value in (degrees, dx, dy))
    rows, columns = rows - dy, columns - dx
    angle = jnp.deg2rad(degrees)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    source = [cos * rows + sin * columns + (h - 1) / 2, cos * columns - sin * rows + (w - 1) / 2]
    return bilinear(x, *source)


def rotation_translation(
    max_degrees: float | int = 30.0, max_shift: float | int = 0.1, grid: Sequence[int] = (31, 5, 5)
) -> Stepwise:
    """The ascent that tries a grid of (angles, dx, dy), one a step, the image itself first.

    Angles reach max_degrees either way, shifts the whole pixels in `max_shift` of each side (3 of 32 by default). The
    defaults are those of Engstrom et al. 2019 for CIFAR-10. Raises ValueError for a bad limit or grid.
    """
    limits = _limits("rotation_translation", max_degrees, max_shift)
    if np.shape(grid) != (3,):
        raise ValueError(f"rotation_translation needs grid = (angles, dx, dy), three numbers; got {grid!r}.")
    for name, n in zip(("angles", "dx", "dy"), grid, strict=True):
        checks.count("rotation_translation's grid", **{name: n})
    # Whole numbers over whole numbers: the middle is 0 and not 1e-17, and a grid of 2 n - 1 holds that of n.
    axes = [[(2 * k - (n - 1)) / max(n - 1, 1) for k in range(n)] for n in grid]
    none = (0.0, 0.0, 0.0)
    motions = jnp.asarray(np.array([none, *(m for m in itertools.product(*axes) if m != none)], np.float32))
    return _worst(len(motions), *limits, lambda i, key: motions[i])


def worst_of_k(k: int = 10, max_degrees: float | int = 30.0, max_shift: float | int = 0.1) -> Stepwise:
    """The ascent that tries k random rotations and translations, uniform within the limits of `rotation_translation`.

    Raises ValueError for k < 1 or a bad limit.
    """
    checks.count("worst_of_k", k=k)
    limits = _limits("worst_of_k", max_degrees, max_shift)
    draw = lambda i, key: jax.random.uniform(jax.random.fold_in(key, i), (3,), jnp.float32, -1.0, 1.0)
    return _worst(k, *limits, draw)


def _limits(name: str, max_degrees: float | int, max_shift: float | int) -> tuple[float, float]:
    max_degrees = checks.number(name, "[0, 180]", max_degrees=max_degrees)
    max_shift = checks.number(f"{name} (a share of the image's side)", "[0, 1]", max_shift=max_shift)
    return max_degrees, max_shift


def _worst(
    n: int,
    max_degrees: float | int,
    max_shift: float | int,
    motion: Callable[[Int[Array, ""], PRNGKey], Motion],
) -> Stepwise:
    """The best of `motion(i, key)` for i < n."""

    def step(problem, best, i):
        loss, x, key = problem
        motion_key, loss_key = jax.random.split(key)
        checks.pixels("A rotation", x.shape)
        h, w, _ = x.shape
        # 0.29 * 100 is 28.999999999999996.
        dx, dy = (int(max_shift * side + 1e-6) for side in (w, h))
        degrees, right, down = motion(i, motion_key)
        moved = rotate_translate(x, max_degrees * degrees, dx * right, dy * down)
        value, won = measured(loss)(moved, loss_key)
        return improve(best, moved, won, value)

    return Stepwise(n, lambda problem: start(problem[1]), step, lambda best: best)
