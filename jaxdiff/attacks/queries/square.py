"""Square: random search over square windows, from values of the loss alone (Andriushchenko et al. 2020, Algorithms 1 to 3).

    x_{i+1} = z_i if loss(z_i) > loss(x_i) or the attack has won at z_i, else x_i                              (1)

The proposal z_i differs from x_i in a window of side s, the integer nearest to sqrt(p_i h w), at a uniform position; the
fraction p_i halves on a fixed schedule (`fraction`). With a sign rho_c = +-1 drawn for every channel c, and clipped to the box:

    L-infinity:  delta_c = radius rho_c in the window; the start has vertical stripes, delta = +-radius.       (2)
    Lq, q = 1, 2:  delta_c in the window is a(c) t / |t|,  t = rho_c eta / |eta| + delta_c / |delta_c|,        (3)
                   a(c)^q = |delta_c in both windows|^q + (radius^q - |delta|^q) / channels,

with |.| the norm of the ball, where a second window, of the same side, gives its norm to the first and becomes 0. The paper's
is q = 2. Croce and Hein (2021, "Mind the box") take the search to L1. There the window gets `EXCESS` a(c), more than the ball
holds: the projection onto ball and box takes the same from every pixel, and leaves the few that are worth it. eta is a pair
of pyramids of opposite sign:

    eta = sum over j = d .. floor(s / 2) of 1 / (j + 1)^2,                                                     (4)

with d the Chebyshev distance to the centre of its half of the window. The Lq start is a grid of such pairs.

Every example has its own windows, at any position, the last included; other libraries share one window in a batch and leave
the last position out. Adding 2 radius rho and projecting, as the paper has it, is (2): delta was within +-radius.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, ScalarLike

from jaxdiff import checks
from jaxdiff.attacks.precision import in_float32, signs
from jaxdiff.attacks.stepwise import Stepwise, choose, improve, measured, start
from jaxdiff.attacks.threats.l1 import l1
from jaxdiff.attacks.threats.threat import Threat, l2, linf
from jaxdiff.types import Image, PRNGKey, Scalar

__all__ = ["square_l1", "square_l2", "square_linf"]

# Of 54 images of ResNet-20 at radius 6, 38 fall to 600 queries, with 1 only 11; 3 sticks in small images.
EXCESS = 2
HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # of 10 000 queries, as in the authors' code


def square_linf(
    radius: ScalarLike, queries: int = 5000, p: float | int = 0.8, rescale: bool = False
) -> Stepwise:
    """Equations (1, 2): an ascent of `queries` evaluations, one a step; it stops counting at its first victory.

    `p` is the share of the image in the first windows. `rescale` fits the schedule of 10 000 queries to `queries`.
    """
    radius = checks.number("square_linf", "[0, inf)", radius=radius)
    linf(radius)  # refuses units of 255

    def within(z, x):
        return jnp.clip(jnp.clip(z, x - radius, x + radius), 0.0, 1.0)

    def begin(key, x):
        return within(x + radius * signs(key, (1, *x.shape[1:]), x.dtype), x)

    def propose(key, x, current, p_i):
        draws = jax.random.uniform(key, (2 + x.shape[-1],), x.dtype)
        *_, window = _window(draws[:2], _side(p_i, x), x)
        # From anywhere in the box, 2 leads beyond every bound: (2) without rounding, and faster than a select.
        return within(current + window * (2.0 * _signs(draws[2:], x)), x)

    return _random_search(begin, propose, 1, queries, p, rescale)


def square_l2(
    radius: ScalarLike, queries: int = 5000, p: float | int = 0.8, rescale: bool = False
) -> Stepwise:
    """Equations (1, 3, 4), with windows of odd side >= 3; otherwise as `square_linf`. Images are 3 x 3 or larger."""
    radius = checks.number("square_l2", "[0, inf)", radius=radius)
    return _square_lq(l2(radius), 2, queries, p, rescale)


def square_l1(
    radius: ScalarLike, queries: int = 5000, p: float | int = 0.8, rescale: bool = False
) -> Stepwise:
    """Equations (1, 3, 4) in the L1 ball, projected onto ball and box together; otherwise as `square_l2`."""
    radius = checks.number("square_l1", "[0, inf)", radius=radius)
    return _square_lq(l1(radius), 1, queries, p, rescale)


def _square_lq(limits: Threat, order: int, queries: int, p: float | int, rescale: bool) -> Stepwise:
    power = jnp.abs if order == 1 else jnp.square
    sums = lambda delta: jnp.sum(power(delta), axis=(0, 1), keepdims=True)  # of every channel, [1, 1, c]
    unit = lambda delta: delta / jnp.maximum(sums(delta) ** (1 / order), 1e-12)

    def begin(key, x):
        tiles = _tiles(key, x)
        return limits.apply(x, limits.project(limits.radius * tiles / limits.norm(tiles), x))

    def propose(key, x, current, p_i):
        draws = jax.random.uniform(key, (5 + x.shape[-1],), x.dtype)
        side = _odd(_side(p_i, x), x)
        u, v, first = _window(draws[:2], side, x)
        *_, second = _window(draws[2:4], side, x)
        delta, both = current - x, jnp.maximum(first, second)
        eta = pyramids(u, v, side, draws[4] < 0.5)[:, :, None].astype(x.dtype)
        t = _signs(draws[5:], x) * unit(eta) + unit(first * delta)
        spare = (limits.radius**order - jnp.sum(power(delta))) / x.shape[-1]
        a = jnp.maximum(sums(both * delta) + spare, 0.0) ** (1 / order) * (EXCESS if order == 1 else 1)
        return limits.apply(x, limits.project((1.0 - both) * delta + a * unit(t), x))

    return _random_search(begin, propose, 3, queries, p, rescale)


def fraction(i: Int[Array, ""] | int, queries: int, p: float | int, rescale: bool = False) -> Scalar:
    """p_i: the share of the image in the window of proposal i; half as large after each of `HALVINGS`.

    `rescale` takes floor(10 000 i / queries) in place of i.
    """
    limits = [((t + 1) * queries - 1) // 10_000 if rescale else t for t in HALVINGS]
    return p / jnp.left_shift(1, jnp.sum(i > jnp.asarray(limits)))


def pyramids(
    u: Int[Array, " rows"], v: Int[Array, " columns"], side: ScalarLike, across: ScalarLike
) -> Float[Array, "rows columns"]:
    """eta / |eta|_2 of equation (4) at the pixels (u, v), counted from the corner of the window; 0 outside.

    The halves lie side by side if `across`, else one above the other.
    """
    row_sign, row_height = _profile(u, side, jnp.logical_not(across))
    column_sign, column_height = _profile(v, side, jnp.asarray(across))
    # Heights fall with the distance, so the one at the larger distance is the smaller one.
    eta = jnp.minimum(row_height[:, None], column_height[None, :])
    eta = eta * row_sign[:, None] * column_sign[None, :]
    return eta / jnp.sqrt(jnp.sum(jnp.square(eta)))


def _profile(u, side, halved):
    """(sign, height) of the pyramids along one axis, which may be cut into halves of opposite sign."""
    first = jnp.where(halved, side // 2, side)
    upper = u < first
    distance = jnp.abs(u - jnp.where(upper, first // 2, first + (side - first) // 2))[:, None]
    j = jnp.arange(len(u) // 2 + 1)[None, :]
    # All terms that could be needed: the side is traced.
    terms = jnp.where((j >= distance) & (j <= side // 2), 1.0 / jnp.square(j + 1.0), 0.0)
    height = jnp.where((u >= 0) & (u < side), jnp.sum(terms, axis=1), 0.0)
    # Without the barrier these sums would be fused into, and repeated for, every pixel.
    return jax.lax.optimization_barrier((jnp.where(upper, 1.0, -1.0), height))


def _tiles(key, x):
    """The image covered by tiles of `pyramids`, five along its shorter side, with random signs; all of one norm."""
    height, width, channels = x.shape
    side = max(min(height, width) // 5, 1)
    rows, columns = height // side, width // side
    sign_key, turn_key = jax.random.split(key)
    side_up = signs(sign_key, (rows, 1, columns, 1, channels), x.dtype)
    across = jax.random.uniform(turn_key, (rows, 1, columns, 1, 1), x.dtype) < 0.5
    u = jnp.arange(side)
    shape = lambda turned: pyramids(u, u, side, turned)[None, :, None, :, None]
    tiles = side_up * jnp.where(across, shape(True), shape(False)).astype(x.dtype)
    tiles = tiles.reshape(rows * side, columns * side, channels)
    margins = [(gap // 2, gap - gap // 2) for gap in (height - rows * side, width - columns * side)]
    return jnp.pad(tiles, (*margins, (0, 0)))


def _window(draws, side, x):
    """(u, v, mask) of a window drawn uniformly: coordinates counted from its corner; [h, w, 1], 1 inside, 0 outside."""
    u, v = (
        jnp.arange(size) - jnp.floor(draw * (size - side + 1)).astype(int)
        for size, draw in zip(x.shape[:2], draws, strict=True)
    )
    rows, columns = (jnp.where((at >= 0) & (at < side), 1.0, 0.0).astype(x.dtype) for at in (u, v))
    return u, v, rows[:, None, None] * columns[None, :, None]


def _side(p_i, x):
    """The integer nearest to sqrt(p_i h w), from 1 to the shorter side of the image."""
    height, width, _ = x.shape
    side = jnp.round(jnp.sqrt(p_i * height * width)).astype(int)
    return jnp.clip(side, 1, min(height, width))


def _odd(side, x):
    """The next odd integer, from 3 to the shorter side of the image."""
    shorter = min(x.shape[:2])
    return jnp.clip(side + 1 - side % 2, 3, shorter - 1 + shorter % 2)


def _signs(draws, x):
    return jnp.where(draws < 0.5, -1.0, 1.0).astype(x.dtype)[None, None, :]


def _random_search(
    begin: Callable[[PRNGKey, Image], Image],
    propose: Callable[[PRNGKey, Image, Image, Scalar], Image],
    smallest: int,
    queries: int,
    p: float | int,
    rescale: bool,
) -> Stepwise:
    """Equation (1); step 0 evaluates the start."""
    checks.count("Square", queries=queries)
    p = checks.number("Square", "(0, 1]", p=p)
    checks.instance("Square", bool, "True", rescale=rescale)

    def init(problem):
        _, x, key = problem
        checks.pixels("Square", x.shape, smallest)
        return start(begin(_keys(key, 0)[0], x))

    def step(problem, best, i):
        loss, x, key = problem
        move_key, loss_key = _keys(key, i)
        moved = propose(move_key, x, best.x, fraction(i, queries, p, rescale))
        candidate = jnp.where(i == 0, best.x, moved)
        value, won = measured(loss)(candidate, loss_key)
        found = improve(best, candidate, won, value)
        return choose(best.won, best, found)

    return in_float32(Stepwise(queries, init, step, lambda best: best))


def _keys(key, i):
    return jax.random.split(jax.random.fold_in(key, i))
