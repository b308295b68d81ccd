"""Directions that `pgd(tx=...)` follows in place of the steepest one.

With g_t the accumulated gradient, a(x) = grad(x) / mean|grad(x)|, s the threat's steepest direction and alpha the step:

    momentum (MI-FGSM, Dong et al. 2018):     g_{t+1} = decay g_t + a(x_t),     x_{t+1} = x_t + alpha s(g_{t+1})      (1)
    nesterov (NI-FGSM, Lin et al. 2020):      y_t = x_t + alpha decay g_t,      g_{t+1} = decay g_t + a(y_t)          (2)

Dong et al. divide by the sum of |grad|, both authors' programs by the mean: a factor that (1) does not see, and without which
the lookahead of (2) would be nothing. Only x_t is projected; y_t may lie outside the ball and the box.
"""

from typing import NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import ScalarLike

from jaxdiff import checks
from jaxdiff.attacks.threats.threat import Perturbation, Threat, check_threat

__all__ = ["adam", "momentum", "nesterov", "steepest"]


def steepest(threat: Threat) -> optax.GradientTransformation:
    """The threat's own direction: sign for L-infinity, g / |g| for L2."""
    check_threat("steepest", threat)
    return threat.steepest


def momentum(threat: Threat, decay: float | int = 1.0) -> optax.GradientTransformation:
    """Equation (1) (MI-FGSM). Raises ValueError unless decay >= 0."""
    decay = _checked_decay("momentum", threat, decay)
    return optax.chain(optax.stateless(lambda g, _: _averaged(g)), optax.trace(decay), threat.steepest)


class Lookahead(NamedTuple):
    """The state of `nesterov`: the next gradient is wanted at delta + lr `ahead`."""

    g: Perturbation
    ahead: Perturbation
    inner: optax.OptState


def nesterov(threat: Threat, decay: float | int = 1.0) -> optax.GradientTransformation:
    """Equation (2) (NI-FGSM), for ascents that take the gradient at `looked_ahead` (`pgd`, `nes`); else it is equation (1).

    Beyond the paper, for threats other than L-infinity, the lookahead is as long as the step: g counts times mean|s(g)|,
    which is 1 for the sign. Raises ValueError unless decay >= 0.
    """
    decay = _checked_decay("nesterov", threat, decay)

    def init(delta):
        return Lookahead(jnp.zeros_like(delta), jnp.zeros_like(delta), threat.steepest.init(delta))

    def update(gradient, state, delta=None):
        g = decay * state.g + _averaged(gradient)
        step, inner = threat.steepest.update(g, state.inner, delta)
        return step, Lookahead(g, decay * jnp.mean(jnp.abs(step)) * g, inner)

    return optax.GradientTransformation(init, update)


def looked_ahead(delta: Perturbation, lr: ScalarLike, state: optax.OptState) -> Perturbation:
    """Where a direction in this state wants its next gradient: at delta itself, or ahead of it."""
    return delta + lr * state.ahead if isinstance(state, Lookahead) else delta


def adam(
    b1: ScalarLike = 0.9, b2: ScalarLike = 0.999, eps: ScalarLike = 1e-8
) -> optax.GradientTransformation:
    """Adam's direction (Kingma and Ba 2015), whatever the threat's norm; `eps` keeps its quotient finite."""
    b1, b2 = checks.number("adam", "[0, 1)", b1=b1, b2=b2)
    eps = checks.number("adam", "(0, inf)", eps=eps)
    return optax.scale_by_adam(b1, b2, eps)


def _averaged(g: Perturbation) -> Perturbation:
    """g / mean|g|, and 0 for 0."""
    mean = jnp.mean(jnp.abs(g))
    return g / jnp.where(mean > 0.0, mean, 1.0)


def check_direction(name: str, tx: optax.GradientTransformation) -> None:
    """ValueError unless `tx` turns gradients into directions."""
    checks.instance(name, optax.GradientTransformation, "directions.momentum(threat)", tx=tx)


def _checked_decay(name: str, threat: Threat, decay: float | int) -> float:
    check_threat(name, threat)
    return checks.number(name, "[0, inf)", decay=decay)
