"""Multi-targeted attacks: one run towards each of the likeliest other classes (Gowal et al. 2019, Croce and Hein 2020a).

Run k maximises objective(logits, y, t_k), where t_k is the class with the (k + 1)-th highest logit of the clean image among
the classes other than y. The attack has won where the label is lost, to whichever class.
"""

import jax
from jaxtyping import Array, Int

from jaxdiff import checks
from jaxdiff.attacks.attack import as_stepwise, check_parts, lost
from jaxdiff.attacks.least.minimal import likeliest_others
from jaxdiff.attacks.stepwise import Problem, Stepwise, in_turn
from jaxdiff.types import Ascent, TargetedObjective


def multi_targeted(ascent: Ascent, objective: TargetedObjective, n: int = 9) -> Stepwise:
    """The attack that runs `ascent` towards n targets in turn: n * ascent.steps steps, and one evaluation of the clean image.

    APGD-T is `multi_targeted(apgd(threat, 100), targeted_dlr(), 9)`. ValueError where a model has fewer than n other classes.
    """

    checks.count("multi_targeted", n=n)
    check_parts("multi_targeted", ascent, objective, labels=2)

    ascent = as_stepwise(ascent)

    def targets(problem: Problem) -> Int[Array, " n"]:
        classifier, x, y, key = problem
        return likeliest_others("multi_targeted", classifier(x, key), y, n)

    def towards(problem: Problem, targets: Int[Array, " n"], k: Int[Array, ""]) -> Problem:
        classifier, x, y, key = problem

        def loss(x, key):
            logits = classifier(x, key)
            return objective(logits, y, targets[k]), lost(logits, y)

        return loss, x, jax.random.fold_in(key, k)

    return in_turn(ascent, n, towards, targets).recounted(lambda queries: queries + 1)
