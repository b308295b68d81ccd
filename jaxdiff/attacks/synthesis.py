"""Images made to be classified as a target, from noise or from an image that they stay near.

    synthesise:  maximise  log p_target(x') - tv_weight TV(x')   (or the logit)   from noise                  (1)
    stay_near:   minimise  |p(x') - onehot(target)|^2 + lmbda |x' - x|^2          from x                      (2)

(1) is the image of a class of Simonyan et al. 2014, TV the total variation of Mahendran and Vedaldi 2015 (the sum of absolute
differences of neighbours); (2) is the attack with a squared error in place of the cross-entropy, and a distance (in the way of
Szegedy et al. 2014). Any optax optimiser moves the image itself, clipped to [0, 1] after each step: so `lr` is in units of
the image, corners of the box are reached, and a black pixel is as free to move as a grey one, which behind a sigmoid it is not.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, ScalarLike

from jaxdiff import checks
from jaxdiff.attacks.ascents.directions import check_direction
from jaxdiff.attacks.attack import lost
from jaxdiff.attacks.objectives import log_softmax, targeted_cross_entropy
from jaxdiff.attacks.precision import in_float32
from jaxdiff.attacks.stepwise import Stepwise, ascent_gradient, improve, start
from jaxdiff.floats import wide
from jaxdiff.types import Image, Label, Logits, PRNGKey, Scalar

__all__ = ["stay_near", "synthesise"]

Height = Callable[[Logits, Label, Image, Image], Scalar]  # (logits at x', target, x', x) -> what is maximised

SCORES = {
    "log_probability": lambda logits, target: targeted_cross_entropy()(logits, target, target),
    "logit": lambda logits, target: logits[target],
}


def synthesise(
    steps: int,
    lr: ScalarLike,
    score: str = "log_probability",
    tv_weight: ScalarLike = 0.0,
    tx: optax.GradientTransformation | None = None,
) -> Stepwise:
    """The attack (1): (classifier, x, target, key) -> an image of the class, from uniform noise; x only gives its shape.

    `tx` turns the gradient of what is maximised into a direction, by default Adam's. A pool goes on after
    the first victory: that image is no good one. Raises ValueError for an unknown score, steps < 1 or a negative number.
    """
    checks.known("synthesise", SCORES, score=score)
    tv_weight = checks.number("synthesise", "[0, inf)", tv_weight=tv_weight)

    def height(logits, target, image, x):
        return SCORES[score](logits, target) - tv_weight * absolute_variation(image)

    return _climb(
        "synthesise", steps, lr, tx, lambda key, x: jax.random.uniform(key, x.shape, x.dtype), height
    )


def stay_near(
    lmbda: ScalarLike, steps: int, lr: ScalarLike, tx: optax.GradientTransformation | None = None
) -> Stepwise:
    """The attack (2): (classifier, x, target, key) -> x', a victory on the way if there was one, of these that of least loss.

    The loss decides, not the distance alone: the nearest victory is the first image past the boundary, whatever lmbda is.
    Likewise a pool goes on after it. `tx` as in `synthesise`. Raises ValueError for steps < 1 or a negative number.
    """
    lmbda = checks.number("stay_near", "[0, inf)", lmbda=lmbda)

    def height(logits, target, image, x):
        logits = wide(logits)
        miss = jnp.exp(log_softmax(logits)) - jax.nn.one_hot(target, logits.size, dtype=logits.dtype)
        return -jnp.sum(jnp.square(miss)) - lmbda * jnp.sum(jnp.square(image - x))

    return _climb("stay_near", steps, lr, tx, lambda key, x: x, height)


def absolute_variation(image: Image) -> Scalar:
    """The sum of |differences| between neighbours along the two axes of an image "h w c"."""
    image = checks.floats("absolute_variation", image)
    checks.pixels("absolute_variation", image.shape)
    return sum(jnp.sum(jnp.abs(jnp.diff(image, axis=axis))) for axis in (0, 1))


def _climb(
    name: str,
    steps: int,
    lr: ScalarLike,
    tx: optax.GradientTransformation | None,
    begin: Callable[[PRNGKey, Image], Image],
    height: Height,
) -> Stepwise:
    """Ascent of `height` in the box from `begin(key, x)`, one gradient a step."""
    checks.count(name, steps=steps)
    lr = checks.number(name, "[0, inf)", lr=lr)
    tx = optax.scale_by_adam() if tx is None else tx
    check_direction(name, tx)

    def init(problem):
        _, x, _, key = problem
        image = begin(jax.random.split(key)[0], x)
        return image, tx.init(image), start(x)

    def step(problem, state, i):
        classifier, x, target, key = problem
        image, tx_state, best = state

        def judged(image: Image, key: PRNGKey) -> tuple[Scalar, Array]:
            logits = classifier(image, key)
            return height(logits, target, image, x), ~lost(logits, target)

        loss_key = jax.random.fold_in(jax.random.split(key)[1], i)
        value, won, gradient = ascent_gradient(judged, image, loss_key)
        best = improve(best, image, won, value)
        update, tx_state = tx.update(gradient, tx_state, image)
        return jnp.clip(image + lr * update, 0.0, 1.0), tx_state, best

    return in_float32(Stepwise(steps, init, step, lambda state: state[-1], True, targeted=True))
