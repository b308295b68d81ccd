"""Flow fields: every pixel of the attacked image says where in the original it looks.

In the sampling coordinates of spatial transformers (Jaderberg et al. 2015) an image spans [-1, 1] from edge to edge and
pixel j of W has its centre at g_j = (2 j + 1) / W - 1. A flow f = (f_u, f_v), horizontal and vertical, gives

    x'(i, j) = sum_{a, b} k(i + f_v H / 2 - a) k(j + f_u W / 2 - b) x(a, b),    k(t) = max(0, 1 - |t|),         (1)

with zeros outside the image; f_u = 2 / W is one pixel. The roughness of a flow (Xiao et al. 2018, eq. 4; the small constant
is that of Laidlaw et al. 2021) sums over the pixels p and their four neighbours q, the border's being repeated beyond it:

    L_flow(f) = sum_p sum_{q in N(p)} sqrt((f_u(p) - f_u(q))^2 + (f_v(p) - f_v(q))^2 + 1e-10).                    (2)
"""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, ScalarLike

from jaxdiff import checks
from jaxdiff.attacks.threats.threat import Threat, on_images
from jaxdiff.floats import wide_dtype
from jaxdiff.types import PRNGKey, Scalar

__all__ = ["bilinear", "flow_field", "flow_smoothness", "warp"]

Flow = Float[Array, "rows columns 2"]

BEYOND = ("constant", "edge")  # modes of `jnp.pad`


def warp(x: Float[Array, "h w c"], flow: Flow, beyond: str = "constant") -> Float[Array, "h w c"]:
    """Equation (1): the image whose pixels look where `flow` says, in units of half the image. A flow of 0 gives x exactly.

    Beyond the image lie zeros, or its nearest pixel for beyond = "edge".
    Raises ValueError unless there is a flow for every pixel.
    """
    x, flow = checks.image("warp", x), checks.floats("warp", flow, "flows")
    checks.pixels("warp", x.shape)
    checks.known("warp", BEYOND, beyond=beyond)
    if flow.shape != (*x.shape[:2], 2):
        raise ValueError(
            f"A flow has two numbers for every pixel of an image {x.shape}; got shape {flow.shape}."
        )
    height, width = x.shape[:2]
    rows, columns = _pixels(x)
    return bilinear(x, rows + flow[..., 1] * (height / 2), columns + flow[..., 0] * (width / 2), beyond)


def bilinear(
    x: Float[Array, "h w c"],
    rows: Float[Array, "m n"],
    columns: Float[Array, "m n"],
    beyond: str = "constant",
) -> Float[Array, "m n c"]:
    """The image between its pixels, at positions counted in pixels from the centre of the upper left one.

    `beyond` is a mode of `jnp.pad`: "constant" (zeros) or "edge". At a pixel the derivatives are those to the right and
    downwards. An image in [0, 1] stays there exactly, and keeps its dtype; positions have float32 at least.
    """
    height, width = x.shape[:2]
    top, left = jnp.floor(rows), jnp.floor(columns)
    # Two pixels more on each side: all four neighbours of a position outside are among them.
    padded = jnp.pad(x, ((2, 2), (2, 2), (0, 0)), mode=beyond)
    i = jnp.clip(top, -2, height).astype(int) + 2
    j = jnp.clip(left, -2, width).astype(int) + 2
    down, right = (rows - top)[..., None], (columns - left)[..., None]
    # Not a + t (b - a): that rounds beyond b, and this gives a exactly at t = 0.
    mix = lambda a, b, t: (1.0 - t) * a + t * b
    upper = mix(padded[i, j], padded[i, j + 1], right)
    lower = mix(padded[i + 1, j], padded[i + 1, j + 1], right)
    return mix(upper, lower, down).astype(x.dtype)


def flow_field(radius: ScalarLike) -> Threat:
    """|f| <= radius for both components of every pixel's flow, and no pixel looks beyond the edge of the image.

    The perturbation is the flow "h w 2", in units of half the image (Laidlaw et al. 2021: 0.05, 0.8 pixels at 32 x 32).
    """
    radius = checks.number("flow_field, in units of half the image,", "[0, inf)", radius=radius)

    def init(key: PRNGKey, x: Float[Array, "h w c"]) -> Flow:
        checks.pixels("flow_field", x.shape)
        return radius * jax.random.uniform(key, (*x.shape[:2], 2), wide_dtype(x.dtype), -1.0, 1.0)

    def project(flow: Flow, x: Float[Array, "h w c"]) -> Flow:
        rows, columns = _pixels(x)
        centre = jnp.stack([(2 * columns + 1) / x.shape[1] - 1, (2 * rows + 1) / x.shape[0] - 1], axis=-1)
        return jnp.clip(jnp.clip(flow, -1.0 - centre, 1.0 - centre), -radius, radius)

    steepest = optax.stateless(lambda g, _: jnp.sign(g))
    norm = lambda flow: jnp.max(jnp.abs(flow))
    words = {"name": "flow", "symbol": "flow, in halves of the image"}
    return on_images(Threat(init, warp, project, steepest, norm, radius, **words))


def flow_smoothness(flow: Flow) -> Scalar:
    """Equation (2), in the units of `flow`; a constant flow has 4 H W 1e-5."""
    height, width = flow.shape[:2]
    padded = jnp.pad(flow, ((1, 1), (1, 1), (0, 0)), mode="edge")
    shifted = (padded[i : i + height, j : j + width] for i, j in ((0, 1), (2, 1), (1, 0), (1, 2)))
    length = lambda d: jnp.sum(jnp.sqrt(jnp.sum(jnp.square(d), axis=-1) + 1e-10))
    return sum(length(flow - neighbour) for neighbour in shifted)


def _pixels(x):
    """The row and the column of every pixel. bfloat16 has no 257."""
    return tuple(jax.lax.broadcasted_iota(wide_dtype(x.dtype), x.shape[:2], axis) for axis in (0, 1))
