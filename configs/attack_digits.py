"""Every kind of attack on the two classifiers of configs/digits.py: nothing to download.

    python experiments/robustness.py --config=configs/digits.py --workdir=runs/digits
    python experiments/attack.py --config=configs/attack_digits.py --workdir=runs/attack_digits

The first command trains the classifiers (four minutes on two cores); train_classifier.py with --section does no more than that.
Images are 8 x 8 with one channel. Variant "smoke": few images, few steps, a network fitted in a hundred steps.
"""

from ml_collections import ConfigDict

RADIUS = 0.2
LINF, L2, L1 = (
    {"name": "linf", "radius": RADIUS},
    {"name": "l2", "radius": 0.8},
    {"name": "l1", "radius": 1.5},
)
CE, MARGIN = {"name": "cross_entropy"}, {"name": "margin"}
PGD = {"name": "pgd", "lr": RADIUS / 4, "steps": 20, "keep_best": True}


def _climb(ascent, objective=CE, threat=LINF, **more):
    # Dicts of their own: an override of one cell is none of the others.
    return {"threat": dict(threat), "ascent": dict(ascent), "objective": dict(objective), **more}


def _cells():
    momentum = {**PGD, "tx": {"name": "momentum"}}
    return {
        "fgsm": _climb({"name": "fgsm", "lr": RADIUS}),
        "pgd": _climb(PGD, restarts=5),
        "mi-fgsm": _climb(momentum),
        "apgd-ce": _climb({"name": "apgd"}),
        "autoattack": {"threat": dict(LINF), "autoattack": {"name": "standard"}},
        "autoattack-l2": {"threat": dict(L2), "autoattack": {"name": "standard"}},
        "autoattack-l1": {"threat": dict(L1), "autoattack": {"name": "standard"}},
        "deepfool": {"threat": dict(L2), "attack": {"name": "deepfool"}},
        "cw": {"threat": dict(L2), "attack": {"name": "carlini_wagner", "steps": 300, "lr": 0.05}},
        "ddn": {"threat": dict(L2), "attack": {"name": "ddn"}},
        "square": _climb({"name": "square_linf", "queries": 1000}, MARGIN),
        "nes": _climb({"name": "nes", "lr": RADIUS / 8, "budget": 5000, "samples": 50}, MARGIN),
        "hop-skip-jump": {"threat": dict(L2), "attack": {"name": "hop_skip_jump", "budget": 2500}},
        "transfer": _climb(PGD, surrogates=("small",)),
        "low-frequency": _climb(PGD, low_frequency=0.5),
        "one-pixel": {"attack": {"name": "pixels", "k": 1, "population": 100, "generations": 30}},
        "stadv": {"attack": {"name": "stadv", "bound": 0.1}},
        "rotation": {
            "ascent": {
                "name": "rotation_translation",
                "grid": (13, 3, 3),
                "max_degrees": 20,
                "max_shift": 0.125,
            },
            "objective": MARGIN,
        },
    }


def get_config(variant: str = "default") -> ConfigDict:
    """The config of a variant: "default" or "smoke"."""
    if variant not in ("default", "smoke"):
        raise ValueError(f"configs/attack_digits.py has no variant {variant!r}. Known: ['default', 'smoke'].")
    config = ConfigDict({"seed": 0, "data": {"name": "digits"}})
    trained = {"name": "trained", "workdir": "runs/digits"}
    config.attack = {
        "n": 360,
        "batch_size": 128,
        "slots": 16,
        "show": 6,
        "panel": ("apgd-ce", "cw", "one-pixel", "stadv"),
        "flow": ("stadv",),
        "classifiers": {
            "plain": {**trained, "section": "classifier"},
            "adversarially-trained": {**trained, "section": "adversarial_training"},
        },
        "surrogates": {
            "small": {
                "name": "fitted",
                "model": {"name": "CNN", "channels": (16, 16)},
                "data": {"name": "digits"},
                "steps": 500,
            }
        },
        "cells": _cells(),
        "masking": {"n": 100, "radius": 0.1},
        "curve": {
            "cells": ("fgsm", "pgd", "apgd-ce", "square", "ddn", "hop-skip-jump"),
            "radii": {"linf": (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5), "l2": (0.0, 0.2, 0.4, 0.8, 1.2, 2.0)},
            "n": 128,
        },
    }
    if variant == "smoke":
        from smoke import shrink_attacks

        shrink_attacks(config, {"name": "CNN", "channels": (8, 8)})
    return config.lock()
