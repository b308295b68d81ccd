"""One pixel: differential evolution of a few pixels (Su et al. 2019).

A member of the population is k pixels, each (row, column, a value for every channel). In every generation a member i has a
child

    m = m_r1 + F (m_r2 - m_r3),    r1, r2, r3 distinct and drawn for every i,                                  (1)

without crossover, clipped to the image; the child takes its parent's place if its loss is larger. Positions are continuous and
are rounded down to a pixel. At first positions are uniform and values normal, of mean and deviation 1/2.

Evolution only compares losses, so the cross-entropy -log p_y stands for the paper's fitness, the probability p_y of the class.
"""

from functools import reduce

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdiff import checks
from jaxdiff.attacks import attack
from jaxdiff.attacks.objectives import cross_entropy
from jaxdiff.attacks.precision import in_float32
from jaxdiff.attacks.stepwise import Stepwise, choose, first_best, improve, measured, start

__all__ = ["pixel_evolution", "pixels"]


def pixels(
    k: int = 1,
    population: int = 400,
    generations: int = 100,
    differential_weight: float | int = 0.5,
    targeted: bool = False,
) -> Stepwise:
    """The attack that changes at most k pixels to lower the probability of the label, or, `targeted`, to raise it.

    A step evaluates one generation, `population` queries; the first one evaluates the parents of the `generations`.
    """
    checks.instance("pixels", bool, "True", targeted=targeted)
    of_label = attack.targeted if targeted else attack.untargeted
    return of_label(pixel_evolution(k, population, generations, differential_weight), cross_entropy())


def pixel_evolution(
    k: int = 1, population: int = 400, generations: int = 100, differential_weight: float | int = 0.5
) -> Stepwise:
    """The ascent of `pixels` on any loss."""
    checks.count("pixels", k=k)
    checks.count("pixels", 3, population=population)
    checks.count("pixels", 0, generations=generations)
    differential_weight = checks.number("pixels", "[0, inf)", differential_weight=differential_weight)

    def init(problem):
        _, x, key = problem
        checks.pixels("pixels", x.shape)
        members = _founders(_keys(key, 0)[0], x, (population, k))
        return members, jnp.full(population, -jnp.inf, x.dtype), start(x)

    def step(problem, state, i):
        loss, x, key = problem
        members, heights, best = state
        # A random classifier judges a whole generation by one draw, so that luck favours no member of it.
        move_key, loss_key = _keys(key, i)
        children = jnp.where(i == 0, members, _children(move_key, members, differential_weight, x))
        values, won = jax.vmap(lambda child: measured(loss)(paint(x, child), loss_key))(children)
        values = jnp.where(jnp.isnan(values), -jnp.inf, values).astype(x.dtype)
        first = first_best(won, values)
        found = improve(best, paint(x, children[first]), won[first], values[first], population)
        best = choose(best.won, best, found)
        better = values > heights
        members = jnp.where(better[:, None, None], children, members)
        return members, jnp.where(better, values, heights), best

    return in_float32(Stepwise(generations + 1, init, step, lambda state: state[-1]))


def paint(x: Float[Array, "h w c"], member: Float[Array, "k gene"]) -> Float[Array, "h w c"]:
    """x with the k pixels of `member`, rows (row, column, values); of two at one position the later is seen."""
    height, width, _ = x.shape

    def put(image, pixel):
        row = jnp.clip(jnp.floor(pixel[0]), 0, height - 1).astype(int)
        column = jnp.clip(jnp.floor(pixel[1]), 0, width - 1).astype(int)
        return image.at[row, column].set(pixel[2:])

    return reduce(put, member, x)


def _founders(key, x, size):
    """The first generation, [population, k, 2 + c]."""
    place_key, value_key = jax.random.split(key)
    places = jax.random.uniform(place_key, (*size, 2), x.dtype)
    values = 0.5 + 0.5 * jax.random.normal(value_key, (*size, x.shape[-1]), x.dtype)
    upper = _upper(x)
    return jnp.clip(jnp.concatenate([places * upper[..., :2], values], axis=-1), 0.0, upper)


def _children(key, members, weight, x):
    """Equation (1) for every member."""
    a, b, c = (members[r] for r in _distinct(key, len(members)))
    return jnp.clip(a + weight * (b - c), 0.0, _upper(x))


def _distinct(key, n):
    """Three different indices below n for each of n members, uniform over all such triples."""
    draws = jax.random.uniform(key, (3, n), jnp.float32)
    a, b, c = (jnp.floor(draw * (n - taken)).astype(int) for taken, draw in enumerate(draws))
    b = b + (b >= a)  # the b-th of those that are left
    low, high = jnp.minimum(a, b), jnp.maximum(a, b)
    c = c + (c >= low)
    return a, b, c + (c >= high)


def _upper(x):
    """The largest value of every gene."""
    height, width, channels = x.shape
    return jnp.asarray([height, width] + [1] * channels, x.dtype)[None, None, :]


def _keys(key, i):
    return jax.random.split(jax.random.fold_in(key, i))
