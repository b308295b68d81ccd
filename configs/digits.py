"""Robustness on real 8x8 handwritten digits: the spine of jaxdiff, in minutes on two cores, with nothing to download.

    python experiments/run.py --config=configs/digits.py --workdir=runs/digits

Trains a small score network, a classifier and an adversarially trained one, and attacks all defenses within 0.2 in L-infinity.
The table to expect is in the README. Variant "smoke": seconds, for tests.
"""

from ml_collections import ConfigDict

from jaxdiff import attacks, data, defenses, diffusion, models, train
from jaxdiff.data import augment
from jaxdiff.study import part, study, tasks

RADIUS = 0.2


def _training(optimizer, steps, batch_size):
    return part(
        tasks.training,
        optimizer=optimizer,
        steps=steps,
        batch_size=batch_size,
        ema_decays=(0.99,),
        log_every=20,
        checkpoint_every=300,
    )


def _score():
    return part(
        tasks.score,
        model=part(models.UNet, channels=16, multipliers=(1, 2), blocks=1, attention=(), dropout=0.0),
        process=part(diffusion.VP, beta_min=0.1, beta_max=20.0),
        kind="eps",
        label={"scale": 999.0, "offset": 0.0},
        weight=part(diffusion.losses.simple),
        time=part(diffusion.losses.uniform_time, t_min=1e-3),
        train=_training(
            part(train.optimizer.adam, lr=1e-2, warmup=200, schedule="cosine", clip=1.0), 3500, 64
        ),
    )


def _classifier(loss, steps, batch_size, augments=()):
    adamw = part(train.optimizer.adamw, lr=3e-3, weight_decay=0.05, warmup=100, schedule="cosine")
    return part(
        tasks.classifier,
        model=part(models.CNN, channels=(32, 64, 128), mean=(0.3,), std=(0.4,)),
        loss=loss,
        augment=augments,
        train=_training(adamw, steps, batch_size),
    )


def _attack(ascent):
    return part(attacks.untargeted, ascent=ascent, objective=part(attacks.cross_entropy))


def _pgd(**settings):
    return _attack(part(attacks.pgd, lr=RADIUS / 8, **settings))


def _cells():
    linf = part(attacks.linf, radius=RADIUS)
    cell = lambda attack, **more: part(tasks.cell, attack=attack, threat=linf, **more)
    pgd, exact = _pgd(steps=40, keep_best=True), _pgd(steps=20)
    on = {"on": "diffpure"}
    return {
        "fgsm": cell(_attack(part(attacks.fgsm))),
        "pgd": cell(pgd, on=("none", "adversarial_training")),
        "pgd-diffpure": cell(pgd, n=128, column="pgd", **on),
        "blind_pgd": cell(pgd, view="blind", **on),
        "bpda": cell(part(attacks.against_mean, attack=_pgd(steps=40), n=8), view="bpda", n=128, **on),
        "adaptive_pgd": cell(part(attacks.against_mean, attack=exact, n=8), n=128, **on),
    }


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant: "", or "smoke"."""
    linf = part(attacks.linf, radius=RADIUS)
    attack = part(
        attacks.untargeted,
        ascent=part(attacks.pgd, threat=linf, lr=0.4 * RADIUS, steps=5),
        objective=part(attacks.cross_entropy),
    )
    diffpure = part(
        defenses.diffpure,
        denoise="@score",
        solver=part(diffusion.solvers.ddpm),
        ts=part(diffusion.grids.uniform, start=0.1, end=0.0, steps=4),
    )
    return study(
        variant,
        seed=0,
        data=part(data.dataset.digits),
        stages={
            "score": _score(),
            "classifier": _classifier(
                part(defenses.training.standard), 600, 128, (part(augment.noise, std=0.17),)
            ),
            "adversarial_training": _classifier(part(defenses.training.madry, attack=attack), 2700, 64),
            "samples": part(
                tasks.samples,
                denoise=part(diffusion.clipped, denoise="@score", clip=1.0),
                solver=part(diffusion.solvers.ddim),
                ts=part(diffusion.grids.uniform, steps=50),
            ),
            "table": part(
                tasks.table,
                n=360,
                victims={
                    "none": part(tasks.victim, classifier="@classifier"),
                    "adversarial_training": part(tasks.victim, classifier="@adversarial_training"),
                    "diffpure": part(tasks.victim, classifier="@classifier", defense=diffpure),
                },
                cells=_cells(),
                curves={
                    "linf": part(
                        tasks.curve,
                        cells=("none/pgd", "adversarial_training/pgd", "diffpure/blind_pgd"),
                        radii=(0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3),
                        n=128,
                    )
                },
                pictures=("@samples",),
            ),
        },
    )
