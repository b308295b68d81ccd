"""DeepFool: step to the nearest of the linearised decision boundaries until the label is lost.

With f_j = z_j - z_y and w_j = grad f_j at x_i, the boundary to class j lies at the distance |f_j| / |w_j|_dual, and

    r_i = the least perturbation with <w_j, r_i> = -f_j, for the nearest j,                          (1)
    x_{i+1} = clip(x_0 + (1 + overshoot) (r_0 + ... + r_i), 0, 1).                                   (2)

Moosavi-Dezfooli et al. 2016 (arXiv:1511.04599): algorithm 2 with equation (8) for L2, and its section on other norms.
"""

import jax
import jax.numpy as jnp
from jaxtyping import ScalarLike

from jaxdiff import checks
from jaxdiff.attacks.attack import lost
from jaxdiff.attacks.least.minimal import boundaries, check_planes, highest, nearest, record
from jaxdiff.attacks.precision import in_float32
from jaxdiff.attacks.stepwise import Stepwise, start
from jaxdiff.attacks.threats.planes import free
from jaxdiff.attacks.threats.threat import Threat, check_threat

__all__ = ["deepfool"]


def deepfool(threat: Threat, steps: int = 50, overshoot: ScalarLike = 0.02, classes: int = 10) -> Stepwise:
    """Equations (1) and (2) with at most `steps` evaluations, in the threat's norm; it stands still once the label is lost.

    The boundaries are those to the `classes` largest logits of the clean image, that of y included. The result is x itself
    if the label is not lost within the radius; `jnp.inf` as radius gives the least perturbation that was found.
    """
    check_threat("deepfool", threat)
    check_planes("deepfool", threat)
    checks.count("deepfool", steps=steps)
    checks.count("deepfool", 2, classes=classes)
    overshoot = checks.number("deepfool", "[0, inf)", overshoot=overshoot)

    def init(problem):
        classifier, x, _, key = problem
        n = jax.eval_shape(classifier, x, key).shape[0]
        return jnp.zeros_like(x), jnp.zeros(min(classes, n) - 1, int), start(x)

    def step(problem, state, i):
        classifier, x_0, y, key = problem
        total, rivals, best = state
        x = jnp.clip(x_0 + (1.0 + overshoot) * total, 0.0, 1.0)
        choose = lambda logits: jnp.where(i == 0, highest(logits, y, len(rivals)), rivals)
        logits, rivals, f, w = boundaries(classifier, x, y, choose, jax.random.fold_in(key, i))
        best = record(threat, best, x_0, x, lost(logits, y))
        f, w = nearest(threat, f, w)
        # Beyond 1 there is only the border; a nearly flat classifier would go to infinity.
        move = jnp.clip(free(threat.to_plane, w, -f), -1.0, 1.0)
        return total + jnp.where(jnp.isneginf(best.loss), move, 0.0), rivals, best

    return in_float32(Stepwise(steps, init, step, lambda state: state[-1]))
