"""One cell for every kind of attack, for the configs that compare them."""

from jaxdiff import attacks
from jaxdiff.attacks import directions
from jaxdiff.study import part, tasks


def climb(ascent, objective=attacks.cross_entropy):
    """An ascent on an objective."""
    return part(attacks.untargeted, ascent=ascent, objective=part(objective))


def movement(bound):
    """The picture of an attack by flow."""
    return part(tasks.flows, attack=part(attacks.stadv, bound=bound))


def cells(linf, l2, l1, surrogate, bound, n=None):
    """The cells within these threats; `bound` is that of flows, `n` how many images the slow ones have."""
    cell = lambda attack, threat=linf, **more: part(tasks.cell, attack=attack, threat=threat, **more)
    pgd = part(attacks.pgd, steps=20, keep_best=True)
    momentum = part(attacks.pgd, steps=20, keep_best=True, tx=part(directions.momentum))
    low = part(attacks.low_frequency, threat=linf, cutoff=0.5)
    standard = part(attacks.autoattack.standard)
    return {
        "fgsm": cell(climb(part(attacks.fgsm))),
        "pgd": cell(part(attacks.restarts, attack=climb(pgd), n=5)),
        "mi-fgsm": cell(climb(momentum)),
        "apgd-ce": cell(climb(part(attacks.apgd))),
        "autoattack": cell(standard),
        "autoattack-l2": cell(standard, l2),
        "autoattack-l1": cell(standard, l1),
        "deepfool": cell(part(attacks.deepfool), l2, n=n),
        "cw": cell(part(attacks.carlini_wagner, steps=300, lr=0.05), l2, n=n),
        "ddn": cell(part(attacks.ddn), l2, n=n),
        "square": cell(climb(part(attacks.square_linf, queries=1000), attacks.margin)),
        "nes": cell(climb(part(attacks.nes, budget=5000, samples=50), attacks.margin), n=n),
        "hop-skip-jump": cell(part(attacks.hop_skip_jump, budget=2500), l2, n=n),
        "transfer": cell(part(attacks.transfer, attack=climb(pgd), surrogate=surrogate)),
        "low-frequency": cell(climb(pgd), low),
        "one-pixel": part(tasks.cell, attack=part(attacks.pixels, k=1, population=100, generations=30), n=n),
        "stadv": part(tasks.cell, attack=part(attacks.stadv, bound=bound), n=n),
        "rotation": part(
            tasks.cell,
            attack=climb(
                part(attacks.rotation_translation, grid=(13, 3, 3), max_degrees=20, max_shift=0.125),
                attacks.margin,
            ),
            n=n,
        ),
    }
