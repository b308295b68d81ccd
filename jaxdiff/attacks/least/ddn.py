"""DDN: a perturbation turns with the gradient; its norm shrinks where the label is lost and grows where it is not.

With J the cross-entropy of y at x_k, delta_k = x_k - x and delta_0 = 0,

    d     = delta_k + lr_k grad J / |grad J|_2,                                                      (1)
    eps  <- eps (1 - gamma) if the label is lost at x_k, else eps (1 + gamma),                       (2)
    x_{k+1} = quantise(clip(x + eps d / |d|_2, 0, 1)),                                               (3)

and lr_k falls from 1 to 0.01 along a cosine. The nearest x_k at which the label is lost counts. Rony et al. 2019
(arXiv:1811.09600), algorithm 1.
"""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import ScalarLike

from jaxdiff import checks
from jaxdiff.attacks.attack import goal
from jaxdiff.attacks.objectives import cross_entropy
from jaxdiff.attacks.precision import in_float32
from jaxdiff.attacks.stepwise import Stepwise, improve, start
from jaxdiff.attacks.threats.threat import l2

__all__ = ["ddn"]


def ddn(
    steps: int = 100,
    gamma: ScalarLike = 0.05,
    init_norm: ScalarLike = 1.0,
    levels: int | None = 256,
    targeted: bool = False,
) -> Stepwise:
    """The L2 attack of equations (1) to (3) with `steps` evaluations, from the norm eps = `init_norm`.

    Images have `levels` equidistant values as in the paper; None leaves them as they are. `targeted` takes y for the class
    to reach. The result is x itself where none was found.
    """
    checks.count("ddn", steps=steps)
    gamma = checks.number("ddn", "(0, 1)", gamma=gamma)
    init_norm = checks.number("ddn", "(0, inf)", init_norm=init_norm)
    checks.instance("ddn", bool, "True", targeted=targeted)
    if levels is not None:
        checks.count("ddn (or None)", 2, levels=levels)
    sphere, height, has_won = l2(jnp.inf), cross_entropy(), goal(targeted)
    unit = lambda v: sphere.steepest.update(v, optax.EmptyState())[0]

    def step(problem, state, i):
        classifier, x, y, key = problem
        x_k, eps, best = state
        evaluation_key, direction_key = jax.random.split(jax.random.fold_in(key, i))

        def climb(image):
            logits = classifier(image, evaluation_key)
            return (-height(logits, y) if targeted else height(logits, y)), logits

        gradient, logits = jax.grad(climb, has_aux=True)(x_k)
        won = has_won(logits, y)
        best = improve(best, x_k, won, jnp.where(won, -sphere.norm(x_k - x), -jnp.inf))

        # Where the cross-entropy is flat any direction is as good as another.
        usable = jnp.all(jnp.isfinite(gradient)) & jnp.any(gradient != 0.0)
        gradient = jnp.where(usable, gradient, jax.random.normal(direction_key, x.shape, x.dtype))
        lr = 0.01 + 0.99 * (1.0 + jnp.cos(jnp.pi * i / steps)) / 2.0
        d = x_k - x + lr * unit(gradient)
        farthest = sphere.norm(jnp.maximum(x, 1.0 - x))
        eps = jnp.minimum(eps * jnp.where(won, 1.0 - gamma, 1.0 + gamma), farthest)
        return _quantise(jnp.clip(x + eps * unit(d), 0.0, 1.0), levels), eps, best

    def begin(problem):
        x = problem[1]
        return x, jnp.asarray(init_norm, x.dtype), start(x)

    return in_float32(Stepwise(steps, begin, step, lambda state: state[-1], True, targeted))


def _quantise(x, levels):
    return x if levels is None else jnp.round(x * (levels - 1)) / (levels - 1)
