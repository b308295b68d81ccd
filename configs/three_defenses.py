"""What the configs of three defenses share: no defense, adversarial training and DiffPure under the same attacks."""

from jaxdiff import attacks, defenses
from jaxdiff.study import part, tasks

TRAINED = ("none", "adversarial_training")


def climb(**settings):
    """PGD on the cross-entropy."""
    return part(
        attacks.untargeted, ascent=part(attacks.pgd, **settings), objective=part(attacks.cross_entropy)
    )


def madry(radius, **settings):
    """The loss of adversarial training."""
    attack = climb(threat=part(attacks.linf, radius=radius), **settings)
    return part(defenses.training.madry, attack=attack)


def victims(solver, ts, remat="none"):
    """The rows of the table; the classifiers are the stages "classifier" and "adversarial_training", the network is "score"."""
    purify = part(defenses.diffpure, denoise="@score", solver=solver, ts=ts, remat=remat)
    return {
        "none": part(tasks.victim, classifier="@classifier"),
        "adversarial_training": part(tasks.victim, classifier="@adversarial_training"),
        "diffpure": part(tasks.victim, classifier="@classifier", defense=purify),
    }


def cells(radius, lr, draws, n=None):
    """FGSM and PGD on all; on DiffPure also from outside, with BPDA, and on the mean of draws, these two on `n` images."""
    threat = part(attacks.linf, radius=radius)
    cell = lambda attack, **more: part(tasks.cell, attack=attack, threat=threat, **more)
    fgsm = part(attacks.untargeted, ascent=part(attacks.fgsm), objective=part(attacks.cross_entropy))
    best, last = climb(lr=lr, steps=40, keep_best=True), climb(lr=lr, steps=40)
    mean = lambda attack: part(attacks.against_mean, attack=attack, n=draws)
    few = {"on": "diffpure", "n": n}
    return {
        "fgsm": cell(fgsm),
        "pgd": cell(best, on=TRAINED),
        "pgd-diffpure": cell(last, column="pgd", **few),
        "blind_pgd": cell(best, view="blind", on="diffpure"),
        "bpda": cell(mean(last), view="bpda", **few),
        "adaptive_pgd": cell(mean(climb(lr=lr, steps=20)), **few),
    }
