"""Universal perturbations: one delta that fools a classifier on most images of a data set.

By stochastic ascent (Shafahi et al. 2020, arXiv 1811.11304) on the clipped loss of batch after batch,

    delta <- project(delta + lr direction(grad mean_i min(loss(x_i + delta), clip))),              (1)

or by the sum of minimal perturbations (Moosavi-Dezfooli et al. 2017, arXiv 1610.08401, algorithm 1): for one image after
another that delta does not fool yet,

    delta <- project(delta + argmin |r| such that x_i + delta + r is fooled).                      (2)

Every image gets delta projected into its own box. Delta itself is kept where it is allowed at mid-grey: in the ball, and at
most 1/2 in every pixel.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, ScalarLike

from jaxdiff import checks
from jaxdiff.attacks.ascents.directions import Lookahead, check_direction
from jaxdiff.attacks.attack import lost
from jaxdiff.attacks.precision import towards
from jaxdiff.attacks.stepwise import ascent_gradient, finite
from jaxdiff.attacks.threats.threat import Perturbation, Threat, check_threat
from jaxdiff.floats import wide
from jaxdiff.types import Attack, Classifier, Image, Images, Label, Labels, Objective, PRNGKey, Scalar

__all__ = ["apply_universal", "fooling_rate", "universal_deepfool", "universal_pgd", "universal_step"]


class UniversalStep(NamedTuple):
    """init(x) -> state for images like x, and step(classifier, state, x [B, ...], y [B], key) -> (state, mean loss)."""

    init: Callable
    step: Callable


def apply_universal(delta: Perturbation, threat: Threat) -> Attack:
    """The attack that adds the same delta to every image, projected into the threat at that image."""
    check_threat("apply_universal", threat)
    delta = checks.floats("apply_universal", delta, "A perturbation")

    def attack(classifier, x, y, key):
        x = checks.image("apply_universal", x)
        return towards(x, threat.apply(wide(x), threat.project(delta, wide(x))))

    return attack


def fooling_rate(
    threat: Threat,
    delta: Perturbation,
    classifier: Classifier,
    x: Images,
    y: Labels,
    key: PRNGKey,
    batch_size: int | None = None,
) -> Scalar:
    """The share of images that lose their label under delta; with the clean predictions for y, the papers' fooling rate."""
    x, y, key = checks.batch("fooling_rate", classifier, x, y, key)
    if batch_size is not None:
        checks.count("fooling_rate", batch_size=batch_size)
    attack = apply_universal(delta, threat)

    def fooled(example):
        x, y, k = example
        point = attack(classifier, x, y, key)
        return lost(classifier(point, jax.random.fold_in(key, k)), y)

    lost_each = jax.lax.map(fooled, (x, y, jnp.arange(len(x))), batch_size=batch_size or len(x))
    return jnp.mean(lost_each, dtype=jnp.float32)


def universal_step(
    threat: Threat,
    objective: Objective,
    lr: ScalarLike,
    clip: float | int = jnp.inf,
    tx: optax.GradientTransformation | None = None,
) -> UniversalStep:
    """Equation (1) for one batch, from delta = 0; the state is (delta, state of `tx`).

    `tx` defaults to `threat.steepest`; ValueError for `nesterov`, whose lookahead the projection of every image would undo.
    `clip` bounds what a single image may add to the loss: without it, cross entropy is maximised by making a few images very
    wrong.
    """
    check_threat("universal_step", threat)
    checks.takes("universal_step", "(logits, y)", 2, objective=objective)
    lr = checks.number("universal_step", "[0, inf)", lr=lr)
    clip = checks.number("universal_step", "(-inf, inf]", clip=clip)
    direction = threat.steepest if tx is None else tx
    check_direction("universal_step", direction)

    def init(x: Image):
        zero = jnp.zeros_like(wide(checks.image("universal_step", x)))
        state = direction.init(zero)
        if isinstance(state, Lookahead):
            raise ValueError(
                "A universal perturbation is projected at every image; got nesterov: take momentum."
            )
        return zero, state

    def step(classifier: Classifier, state, x: Images, y: Labels, key: PRNGKey):
        x, y, key = checks.batch("universal_step", classifier, x, y, key)
        delta, tx_state = state

        def height(delta, key):
            def one(x, y, k):
                point = apply_universal(delta, threat)(classifier, x, y, key)
                return jnp.minimum(objective(classifier(point, jax.random.fold_in(key, k)), y), clip)

            return jnp.mean(jax.vmap(one)(x, y, jnp.arange(len(x))))

        value, _, gradient = ascent_gradient(height, delta, key)
        update, tx_state = direction.update(gradient, tx_state, delta)
        return (_keep(threat, delta + lr * update), tx_state), value

    return UniversalStep(init, step)


def universal_pgd(
    threat: Threat,
    objective: Objective,
    lr: ScalarLike,
    clip: float | int = jnp.inf,
    tx: optax.GradientTransformation | None = None,
) -> Callable[..., tuple[Perturbation, Float[Array, " steps"]]]:
    """(classifier, x [steps, batch, ...], y [steps, batch], key) -> (delta, mean loss before each step)."""
    universal = universal_step(threat, objective, lr, clip, tx)

    def run(classifier: Classifier, x: Float[Array, "steps batch *shape"], y: Array, key: PRNGKey):
        x, y = _in_batches(classifier, x, y, key)

        def step(state, batch):
            i, x, y = batch
            return universal.step(classifier, state, x, y, jax.random.fold_in(key, i))

        (delta, _), losses = jax.lax.scan(step, universal.init(x[0, 0]), (jnp.arange(len(x)), x, y))
        return delta, losses

    return run


def universal_deepfool(
    threat: Threat,
    minimal: Attack,
    passes: int = 10,
    rate: float | int = 0.8,
    batch_size: int | None = None,
) -> Callable[..., tuple[Perturbation, Float[Array, " passes"]]]:
    """(classifier, x [n, ...], y [n], key) -> (delta, fooling rate after each pass), by equation (2).

    `minimal` is a minimum-norm attack such as DeepFool: it should pass the boundary, but barely. The images are shuffled anew
    for each of at most `passes` passes; once the fooling rate has reached `rate`, delta stays.
    """
    check_threat("universal_deepfool", threat)
    checks.takes("universal_deepfool", "(classifier, x, y, key)", 4, minimal=minimal)
    checks.count("universal_deepfool", passes=passes)
    rate = checks.number("universal_deepfool", "(0, 1]", rate=rate)
    if batch_size is not None:
        checks.count("universal_deepfool", batch_size=batch_size)

    def visit(classifier: Classifier, delta: Perturbation, x: Image, y: Label, key: PRNGKey) -> Perturbation:
        judge_key, attack_key = jax.random.split(key)
        here = apply_universal(delta, threat)(classifier, x, y, key)
        add = lambda: _keep(
            threat, delta + finite(wide(minimal(classifier, here, y, attack_key)) - wide(here))
        )
        # Images come one after the other, so this saves the attack on those that are fooled already.
        return jax.lax.cond(lost(classifier(here, judge_key), y), lambda: delta, add)

    def run(classifier: Classifier, x: Images, y: Labels, key: PRNGKey):
        x, y, key = checks.batch("universal_deepfool", classifier, x, y, key)

        def one_pass(delta, key):
            order_key, visit_key, rate_key = jax.random.split(key, 3)
            turn = lambda delta, k: (
                visit(classifier, delta, x[k], y[k], jax.random.fold_in(visit_key, k)),
                None,
            )
            delta, _ = jax.lax.scan(turn, delta, jax.random.permutation(order_key, len(x)))
            return delta, fooling_rate(threat, delta, classifier, x, y, rate_key, batch_size)

        def step(state, i):
            delta, reached = state
            again = lambda: one_pass(delta, jax.random.fold_in(key, i))
            state = jax.lax.cond(reached < rate, again, lambda: (delta, reached))
            return state, state[1]

        state = jnp.zeros_like(wide(x[0])), jnp.zeros((), jnp.float32)
        (delta, _), rates = jax.lax.scan(step, state, jnp.arange(passes))
        return delta, rates

    return run


def _in_batches(classifier: Classifier, x: Array, y: Array, key: PRNGKey) -> tuple[Array, Array]:
    """The images [steps, batch, ...] and labels [steps, batch] as arrays; ValueError for other shapes."""
    x, y = checks.images("universal_pgd", x), jnp.asarray(y)
    if x.ndim < 3 or 0 in x.shape[:2] or y.shape != x.shape[:2]:
        raise ValueError(
            "universal_pgd takes images [steps, batch, ...] and labels [steps, batch], at least one of each; "
            f"got shapes {x.shape} and {y.shape}."
        )
    classes = checks.logits_of("universal_pgd", classifier, x[0, 0], key)
    return x, checks.labels("universal_pgd", y.ravel(), y.size, classes).reshape(y.shape)


def _keep(threat: Threat, delta: Perturbation) -> Perturbation:
    return threat.project(delta, jnp.full_like(delta, 0.5))
