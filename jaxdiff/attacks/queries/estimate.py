"""Score-based black-box ascents: gradients estimated from values of the loss along random directions.

Natural evolution strategies with antithetic directions u_i (Ilyas et al. 2018, arXiv 1804.08598, algorithm 1),

    g = 1/n sum_i [f(x + sigma u_i) - f(x - sigma u_i)] / (2 sigma) u_i,    u_i ~ N(0, 1),         (1)
    delta_{i+1} = project(delta_i + lr direction(g)).                                              (2)

With u_i in {-1, 1} it is simultaneous perturbation (SPSA; Spall 1992, Uesato et al. 2018, arXiv 1802.05666). For a linear f in
d dimensions (1) is unbiased and E|g|^2 = |grad f|^2 (n + d + 1) / n (SPSA: n + d - 1): a direction costs n of the order of d.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, ScalarLike

from jaxdiff import checks
from jaxdiff.attacks.ascents.directions import check_direction, looked_ahead
from jaxdiff.attacks.precision import grain, seen_beside, signs, towards
from jaxdiff.attacks.stepwise import Stepwise, finite, improve, measured, start
from jaxdiff.attacks.threats.threat import Threat, check_threat
from jaxdiff.attacks.transforms import eot
from jaxdiff.floats import wide
from jaxdiff.types import PRNGKey

__all__ = ["nes", "nes_gradient", "spsa"]

Draw = Callable[..., Array]  # (key, shape, dtype) -> independent numbers of mean 0 and variance 1


def nes_gradient(
    loss: Callable,
    x: Float[Array, "..."],
    key: PRNGKey,
    samples: int,
    sigma: ScalarLike = 0.001,
    draw: Draw = jax.random.normal,
    batch_size: int | None = None,
) -> Float[Array, "..."]:
    """Equation (1) for `loss(x, key)` at x with n = `samples` directions: 2n evaluations, no derivative.

    The evaluations have keys of their own, as nobody outside holds the randomness of a defense. A slope that is not finite
    counts as 0. `batch_size` bounds how many directions run at once.
    """
    checks.takes("nes_gradient", "(x, key)", 2, loss=loss)
    checks.count("nes_gradient", samples=samples)
    sigma = checks.number("nes_gradient", "(0, inf)", sigma=sigma)
    x, value = checks.floats("nes_gradient", x), lambda x, key: measured(loss)(x, key)[0]

    def along(x, key):
        draw_key, plus_key, minus_key = jax.random.split(key, 3)
        u = draw(draw_key, x.shape, x.dtype)
        slope = (value(x + sigma * u, plus_key) - value(x - sigma * u, minus_key)) / (2.0 * sigma)
        return finite(slope) * u

    return eot(along, samples, batch_size)(x, key)


def nes(
    threat: Threat,
    lr: ScalarLike | None = None,
    budget: int = 10_000,
    samples: int = 100,
    sigma: float | int = 0.001,
    tx: optax.GradientTransformation | None = None,
    random_start: bool = False,
    draw: Draw = jax.random.normal,
    batch_size: int | None = None,
) -> Stepwise:
    """Equation (2) with at most `budget` evaluations: a step is 2 `samples` for the gradient and one for where it leads.

    Without `lr` a step is a fifth of the radius (Ilyas et al. 2018: 0.01 of 0.05; their budget is 10,000).
    `tx` is as in `pgd`: `threat.steepest` unless given. The best point judged counts. The probes x +- sigma u may leave the
    box by some sigma, as in the paper, and with `nesterov` ball and box by the lookahead; the result never does. `sigma` is
    taken no smaller than what a pixel surely feels, 0.0078 for images of bfloat16.
    """
    check_threat("nes", threat)
    checks.count("nes", budget=budget, samples=samples)
    lr = threat.radius / 5 if lr is None else lr
    lr = checks.number("nes", "[0, inf)", lr=lr)
    sigma = checks.number("nes", "(0, inf)", sigma=sigma)
    checks.function("nes", draw=draw)
    if batch_size is not None:
        checks.count("nes", batch_size=batch_size)
    cost = 2 * samples + 1
    if budget < cost:
        raise ValueError(
            f"nes with samples = {samples} needs a budget of at least {cost} evaluations, one step; got {budget}. "
            "Take fewer samples or a larger budget."
        )
    direction = threat.steepest if tx is None else tx
    check_direction("nes", direction)

    def init(problem):
        _, x, key = problem
        start_key, _ = jax.random.split(key)
        delta = threat.init(start_key, wide(x))
        delta = threat.project(delta if random_start else jnp.zeros_like(delta), wide(x))
        return delta, direction.init(delta), start(x)

    def step(problem, state, i):
        loss, image, key = problem
        loss, x = seen_beside(image, loss), wide(image)
        delta, tx_state, best = state
        _, step_key = jax.random.split(key)
        gradient_key, judge_key = jax.random.split(jax.random.fold_in(step_key, i))
        height = measured(lambda delta, key: loss(threat.apply(x, delta), key))
        point = looked_ahead(delta, lr, tx_state)
        felt = jnp.maximum(sigma, grain(image.dtype))
        gradient = nes_gradient(height, point, gradient_key, samples, felt, draw, batch_size)
        update, tx_state = direction.update(gradient, tx_state, delta)
        delta = threat.project(delta + lr * update, x)
        value, won = height(delta, judge_key)
        moved = towards(image, threat.apply(x, delta))
        return delta, tx_state, improve(best, moved, won, value, cost)

    return Stepwise(budget // cost, init, step, lambda state: state[-1])


def spsa(
    threat: Threat,
    lr: ScalarLike | None = None,
    budget: int = 10_000,
    samples: int = 128,
    sigma: float | int = 0.01,
    tx: optax.GradientTransformation | None = None,
    batch_size: int | None = None,
) -> Stepwise:
    """`nes` with directions of signs and, unless `tx` is given, steps by Adam (Uesato et al. 2018, algorithm 1)."""
    tx = optax.scale_by_adam() if tx is None else tx
    return nes(threat, lr, budget, samples, sigma, tx, draw=signs, batch_size=batch_size)
