"""Every attack on a trained CIFAR-10 ResNet-20 (91.7 % accuracy), in one table.

    JAXDIFF_WEIGHTS_DIR=... python experiments/run.py --config=configs/attack_cifar10.py --workdir=runs/attack_cifar10

The weights are the public `resnet20-12fca82f` (akamaster) as npz, and `resnet56-4bfd9763` for the transfer attack; the
images are the first 500 of a seeded permutation of TFDS's `cifar10` test set. An ordinarily trained network falls to tiny
perturbations: the L-infinity radius is 1/255. Variants "autoattack": AutoAttack alone, at half, 1 and 2 /255; "smoke": few
images, few steps.
"""

from attack_cells import cells, movement
from ml_collections import ConfigDict

from jaxdiff import attacks, data, defenses, models
from jaxdiff.study import part, study, tasks

RADIUS = 1 / 255


def _resnet(depth, digest):
    return part(
        tasks.converted,
        model=part(models.ResNetCIFAR, depth=depth),
        weights=f"$JAXDIFF_WEIGHTS_DIR/resnet{depth}-{digest}.npz",
        converter="models.resnet_cifar_from_torch",
    )


def _autoattack(radius):
    return part(
        tasks.cell,
        attack=part(attacks.autoattack.standard),
        threat=part(attacks.linf, radius=radius),
    )


def _attacks():
    linf = part(attacks.linf, radius=RADIUS)
    every = cells(
        linf, part(attacks.l2, radius=0.1), part(attacks.l1, radius=2.0), "@resnet56", bound=0.05, n=128
    )
    return {
        "cells": every,
        "curves": {
            "linf": part(
                tasks.curve,
                cells=("*/fgsm", "*/pgd", "*/apgd-ce"),
                radii=tuple(r / 255 for r in (0, 0.25, 0.5, 1, 2, 4)),
            ),
            "l2": part(tasks.curve, cells="*/ddn", radii=(0.0, 0.025, 0.05, 0.1, 0.2, 0.4)),
        },
        "checks": {
            "masking": part(tasks.check, examine=part(defenses.masking_battery, radius=RADIUS)),
            "movement": part(tasks.check, examine=movement(bound=0.05), n=6),
        },
        "minima": True,
        "panel": [f"*/{name}" for name in ("apgd-ce", "square", "one-pixel", "stadv")],
    }


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant: "", "autoattack" or "smoke"."""
    alone = variant == "autoattack"
    told = (
        {
            "cells": {
                f"autoattack-{name}": _autoattack(radius / 255)
                for name, radius in (("half", 0.5), ("1", 1), ("2", 2))
            }
        }
        if alone
        else _attacks()
    )
    return study(
        "" if alone else variant,
        seed=0,
        data=part(data.dataset.tfds, dataset="cifar10"),
        stages={
            "resnet20": _resnet(20, "12fca82f"),
            **({} if alone else {"resnet56": _resnet(56, "4bfd9763")}),
            "attacks": part(
                tasks.table,
                n=500,
                slots=4,  # for CPUs; a GPU wants many
                victims={"resnet20": part(tasks.victim, classifier="@resnet20")},
                **told,
            ),
        },
    )
