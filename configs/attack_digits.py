"""Every kind of attack on the two classifiers of configs/digits.py: nothing to download.

    python experiments/run.py --config=configs/attack_digits.py --workdir=runs/digits

In the workdir of configs/digits.py the classifiers are there already; elsewhere they are trained first (two minutes on two
cores). Images are 8 x 8 with one channel. Variant "smoke": few images, few steps.
"""

from attack_cells import cells, movement
from digits import trained
from ml_collections import ConfigDict

from jaxdiff import attacks, data, defenses, models, train
from jaxdiff.study import part, study, tasks

RADIUS = 0.2


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant: "", or "smoke"."""
    stages = trained()
    adam = part(train.optimizer.adam, lr=1e-2)
    surrogate = part(
        tasks.classifier,
        model=part(models.CNN, channels=(16, 16)),
        loss=part(defenses.training.standard),
        train=part(tasks.training, optimizer=adam, steps=500, batch_size=64),
    )
    linf = part(attacks.linf, radius=RADIUS)
    every = cells(linf, part(attacks.l2, radius=0.8), part(attacks.l1, radius=1.5), "@surrogate", bound=0.1)
    return study(
        variant,
        seed=0,
        data=part(data.dataset.digits),
        stages={
            "classifier": stages["classifier"],
            "adversarial_training": stages["adversarial_training"],
            "surrogate": surrogate,
            "attacks": part(
                tasks.table,
                slots=16,
                show=6,
                victims={
                    "plain": part(tasks.victim, classifier="@classifier"),
                    "adversarially-trained": part(tasks.victim, classifier="@adversarial_training"),
                },
                cells=every,
                curves={
                    "linf": part(
                        tasks.curve,
                        cells=[f"*/{name}" for name in ("fgsm", "pgd", "apgd-ce", "square")],
                        radii=(0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5),
                        n=128,
                    ),
                    "l2": part(
                        tasks.curve,
                        cells=("*/ddn", "*/hop-skip-jump"),
                        radii=(0.0, 0.2, 0.4, 0.8, 1.2, 2.0),
                        n=128,
                    ),
                },
                checks={
                    "masking": part(tasks.check, examine=part(defenses.masking_battery, radius=0.1), n=100),
                    "movement": part(tasks.check, examine=movement(bound=0.1), n=6),
                },
                minima=True,
                panel=[f"*/{name}" for name in ("apgd-ce", "cw", "one-pixel", "stadv")],
            ),
        },
    )
