"""Every attack on a trained CIFAR-10 ResNet-20 (91.7 % accuracy), in one table.

    JAXDIFF_WEIGHTS_DIR=... python experiments/attack.py --config=configs/attack_cifar10.py --workdir=runs/attack_cifar10

The weights are the public `resnet20-12fca82f` (akamaster) as npz, and `resnet56-4bfd9763` for the transfer attack; the
images are the first 500 of a seeded permutation of TFDS's `cifar10` test set. An ordinarily trained network falls to tiny
perturbations: the L-infinity radius is 1/255. Variant "smoke": the same attacks with few steps on an untrained network;
"autoattack": AutoAttack alone, at 0.5, 1 and 2 /255.
"""

from ml_collections import ConfigDict

RADIUS = 1 / 255
LINF, L2, L1 = (
    {"name": "linf", "radius": RADIUS},
    {"name": "l2", "radius": 0.1},
    {"name": "l1", "radius": 2.0},
)
CE, DLR, MARGIN = {"name": "cross_entropy"}, {"name": "dlr"}, {"name": "margin"}


def _climb(ascent, objective=CE, threat=LINF, **more):
    # Dicts of their own: an override of one cell is none of the others.
    return {"threat": dict(threat), "ascent": dict(ascent), "objective": dict(objective), **more}


def _resnet(depth, digest):
    return {
        "name": "converted",
        "model": {"name": "ResNetCIFAR", "depth": depth},
        "weights": f"$JAXDIFF_WEIGHTS_DIR/resnet{depth}-{digest}.npz",
        "converter": "resnet_cifar_from_torch",
    }


def _cells():
    pgd = {"name": "pgd", "lr": RADIUS / 4, "steps": 40, "keep_best": True}
    apgd, targeted = {"name": "apgd", "steps": 100}, {"name": "targeted_dlr"}
    return {
        "fgsm": _climb({"name": "fgsm", "lr": RADIUS}),
        "pgd": _climb(pgd),
        "apgd-ce": _climb(apgd),
        "apgd-dlr": _climb(apgd, DLR),
        "apgd-t": _climb(apgd, targeted, targets=9),
        "fab-t": {"threat": dict(LINF), "attack": {"name": "fab_targeted", "n": 9, "steps": 100}},
        "square": _climb({"name": "square_linf", "queries": 5000}, MARGIN),
        "autoattack": {"threat": dict(LINF), "autoattack": {"name": "standard"}},
        "autoattack-l2": {"threat": dict(L2), "autoattack": {"name": "standard"}},
        "autoattack-l1": {"threat": dict(L1), "autoattack": {"name": "standard"}},
        "deepfool": {"threat": dict(L2), "attack": {"name": "deepfool"}, "n": 128},
        "cw": {"threat": dict(L2), "attack": {"name": "carlini_wagner", "steps": 200}, "n": 128},
        "ddn": {"threat": dict(L2), "attack": {"name": "ddn"}, "n": 128},
        "nes": _climb({"name": "nes", "lr": RADIUS / 4, "budget": 5000, "samples": 50}, MARGIN, n=128),
        "hop-skip-jump": {"threat": dict(L2), "attack": {"name": "hop_skip_jump", "budget": 5000}, "n": 128},
        "transfer": _climb(pgd, surrogates=("resnet56",)),
        "low-frequency": _climb(pgd, low_frequency=0.25),
        "one-pixel": {"attack": {"name": "pixels", "k": 1}, "n": 128},
        "stadv": {"attack": {"name": "stadv", "bound": 0.05}, "n": 128},
        "rotation": {
            "ascent": {"name": "rotation_translation", "grid": (13, 5, 5)},
            "objective": MARGIN,
            "n": 128,
        },
    }


def get_config(variant: str = "default") -> ConfigDict:
    """The config of a variant: "default", "autoattack" or "smoke"."""
    if variant not in ("default", "autoattack", "smoke"):
        raise ValueError(
            f"configs/attack_cifar10.py has no variant {variant!r}. Known: ['autoattack', 'default', 'smoke']."
        )
    config = ConfigDict({"seed": 0, "data": {"name": "tfds", "dataset": "cifar10"}})
    config.attack = {
        "n": 500,
        "batch_size": 128,
        "slots": 4,  # for CPUs; a GPU wants many
        "show": 8,
        "panel": ("apgd-ce", "square", "one-pixel", "stadv"),
        "classifiers": {"resnet20": _resnet(20, "12fca82f")},
        "surrogates": {"resnet56": _resnet(56, "4bfd9763")},
        "cells": _cells(),
        "flow": ("stadv",),
        "masking": {"n": 64, "radius": RADIUS},
        "curve": {
            "cells": ("fgsm", "pgd", "apgd-ce", "ddn"),
            "radii": {
                "linf": tuple(r / 255 for r in (0, 0.25, 0.5, 1, 2, 4)),
                "l2": (0.0, 0.025, 0.05, 0.1, 0.2, 0.4),
            },
            "n": 500,
        },
    }
    if variant == "autoattack":
        config.attack.cells = {
            f"autoattack-{name}": {
                "threat": {"name": "linf", "radius": float(name.replace("_", ".")) / 255},
                "autoattack": {"name": "standard"},
            }
            for name in ("0_5", "1", "2")
        }
        config.attack.panel, config.attack.flow = (), ()
        del config.attack.curve
    if variant == "smoke":
        from smoke import shrink_attacks

        shrink_attacks(config, {"name": "ResNetCIFAR", "depth": 8})
    return config.lock()
