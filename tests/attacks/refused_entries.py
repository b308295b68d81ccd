"""Bad input of threats, ascents, combinations and entries of attacks: {what is wrong: (the call, words of its message)}."""

import jax
import jax.numpy as jnp
import numpy as np
from known_models import three_sums

from jaxdiff import attacks as a
from jaxdiff.attacks import autoattack
from jaxdiff.attacks.cascade import in_order
from jaxdiff.attacks.stepwise import in_turn

NAN, INF = float("nan"), float("inf")
KEY, X, Y = jax.random.key(0), np.full((4, 4, 1), 0.5, np.float32), np.int32(0)
LINF, CE, MARGIN = a.linf(0.1), a.cross_entropy(), a.margin()
APGD, PGD = a.apgd(LINF, 3), a.pgd(LINF, 0.1, 2)
ATTACK, PLAIN = a.untargeted(APGD, CE), a.untargeted(PGD, CE)


NUMBERS = {"nan": NAN, "negative": -0.1, "word": "0.1", "none": None, "array": np.ones(3), "truth": True}
COUNTS = {
    "zero": 0,
    "negative": -1,
    "float": 2.0,
    "nan": NAN,
    "word": "2",
    "none": None,
    "truth": True,
    "array": np.ones(2),
}
WITH_NUMBER = {
    "linf, radius": (a.linf, "radius"),
    "l2, radius": (a.l2, "radius"),
    "pgd, lr": (lambda v: a.pgd(LINF, v, 2), "lr"),
    "fgsm, lr": (lambda v: a.fgsm(LINF, v), "lr"),
}
WITH_COUNT = {
    "pgd, steps": (lambda v: a.pgd(LINF, 0.1, v), "steps"),
    "restarts, n": (lambda v: a.restarts(ATTACK, v), "n "),
    "eot, n": (lambda v: a.eot(three_sums, v), "n "),
    "averaged, n": (lambda v: a.averaged(APGD, v), "n "),
    "multi_targeted, n": (lambda v: a.multi_targeted(APGD, a.targeted_margin(), v), "n "),
    "pooled, slots": (lambda v: a.pooled(ATTACK, v), "slots"),
    "in_order, slots": (lambda v: in_order({"a": ATTACK}, v), "slots"),
    "standard, classes": (lambda v: autoattack.standard("linf", 0.1, v), "classes"),
    "plus, steps": (lambda v: autoattack.plus("linf", 0.1, 5, steps=v), "steps"),
    "rand, draws": (lambda v: autoattack.rand("linf", 0.1, 5, draws=v), "n "),
}
ROWS = {
    f"{name} {kind}": (lambda make=make, v=v: make(v), words)
    for table, values in ((WITH_NUMBER, NUMBERS), (WITH_COUNT, COUNTS))
    for name, (make, words) in table.items()
    for kind, v in values.items()
    if not (v is None and name in ("pgd, lr", "fgsm, lr"))  # left out: a share of the radius
} | {
    "a radius of 8": (lambda: a.linf(8), "8 / 255"),
    "a radius of 2.5": (lambda: a.linf(2.5), "2.5 / 255", "beyond"),
    "pgd, infinite lr": (lambda: a.pgd(LINF, INF, 2), "lr"),
    "pgd of an ascent": (lambda: a.pgd(APGD, 0.1, 2), "threat", "linf"),
    "pgd of a radius": (lambda: a.pgd(0.1, 0.1, 2), "threat", "linf"),
    "fgsm, form": (lambda: a.fgsm(LINF, 0.1, "signed"), "form", "did you mean 'sign'"),
    "a threat for an ascent": (lambda: a.untargeted(LINF, CE), "ascent", "Threat"),
    "a number for an ascent": (lambda: a.untargeted(3, CE), "ascent"),
    "an objective not called": (lambda: a.untargeted(APGD, a.cross_entropy), "cross_entropy()"),
    "pgd, a word for tx": (lambda: a.pgd(LINF, 0.1, 2, tx="adam"), "pgd", "tx", "adam"),
    "square in units of 255": (lambda: a.square_linf(8.0), "8 / 255"),
    "a label for kl": (lambda: a.untargeted(PGD, a.kl())(three_sums, X, Y, KEY), "cross_entropy()"),
    "in_turn, n": (lambda: in_turn(APGD, 1.5, lambda problem, _, k: problem), "in_turn", "n "),
    "no objective": (lambda: a.untargeted(APGD, None), "objective"),
    "a targeted objective for an untargeted attack": (
        lambda: a.untargeted(APGD, a.targeted_margin()),
        "objective",
        "(logits, y)",
    ),
    "an untargeted objective for targets": (
        lambda: a.multi_targeted(APGD, MARGIN),
        "objective",
        "(logits, y, target)",
    ),
    "a pool, stop": (lambda: a.pooled(ATTACK, 4, "yes"), "stop"),
    "in order, a list": (lambda: in_order([ATTACK], 4), "by their names"),
    "in order, none": (lambda: in_order({}, 4), "by their names"),
    "autoattack, norm": (lambda: autoattack.standard("l3", 0.1, 10), "norm", "'l3'"),
    "autoattack, no norm": (lambda: autoattack.standard(LINF, 0.1, 10), "norm"),
    "autoattack, radius": (lambda: autoattack.standard("linf", 8, 10), "8 / 255"),
    "one class": (lambda: autoattack.standard("linf", 0.1, 1), "classes", ">= 2"),
    "bpda of nothing": (lambda: a.bpda(None), "defense"),
    "defend with nothing": (lambda: a.defend(three_sums, None), "defense"),
    "eot of nothing": (lambda: a.eot(None, 2), "function"),
    "transfer from nothing": (lambda: a.transfer(PLAIN, None), "surrogate"),
    "ensemble of none": (lambda: a.ensemble(), "at least one"),
    "ensemble of a list": (lambda: a.ensemble([three_sums]), "classifier"),
    "without a label": (lambda: ATTACK(three_sums, X), "2 arguments", "(classifier, image, label, key)"),
    "without a key": (lambda: PLAIN(three_sums, X, Y, None), "random key"),
    "logits for a label": (lambda: CE(jnp.ones(4), jnp.ones(4)), "one integer", "kl()"),
    "logits of a batch": (lambda: CE(jnp.ones((2, 4)), jnp.asarray(0)), "one example", "[2, 4]"),
    "the class for logits": (lambda: CE(jnp.asarray(3), jnp.asarray(0)), "logits"),
    "cross-entropy as a trades attack": (
        lambda: PLAIN(three_sums, X, np.ones(3, np.float32), KEY),
        "one integer",
        "kl()",
    ),
}
