"""Robustness on real 8x8 handwritten digits: the spine of jaxdiff, in minutes on two cores, with nothing to download.

    python experiments/run.py --config=configs/digits.py --workdir=runs/digits

Trains a small score network, a classifier and an adversarially trained one, and attacks all defenses within 0.2 in L-infinity.
The table to expect is in the README. Variant "smoke": a minute, for tests.
"""

from ml_collections import ConfigDict
from three_defenses import cells, madry, victims

from jaxdiff import data, defenses, diffusion, models, train
from jaxdiff.data import augment
from jaxdiff.study import part, study, tasks

RADIUS = 0.2
CNN = part(models.CNN, channels=(32, 64, 128), mean=(0.3,), std=(0.4,))


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


def trained():
    """The stages that are trained."""
    adam = part(train.optimizer.adam, lr=1e-2, warmup=200, schedule="cosine", clip=1.0)
    adamw = part(train.optimizer.adamw, lr=3e-3, weight_decay=0.05, warmup=100, schedule="cosine")
    return {
        "score": part(
            tasks.score,
            model=part(models.UNet, channels=16, multipliers=(1, 2), blocks=1, attention=(), dropout=0.0),
            process=part(diffusion.VP, beta_min=0.1, beta_max=20.0),
            kind="eps",
            label=part(diffusion.time_label, scale=999.0),
            loss=part(diffusion.denoising, weight=part(diffusion.weights.simple)),
            time=part(diffusion.noise_levels.uniform, t_min=1e-3),
            train=_training(adam, 2800, 64),
        ),
        "classifier": part(
            tasks.classifier,
            model=CNN,
            loss=part(defenses.training.standard),
            augment=(part(augment.noise, std=0.17),),
            train=_training(adamw, 600, 128),
        ),
        "adversarial_training": part(
            tasks.classifier,
            model=CNN,
            loss=madry(RADIUS, lr=0.4 * RADIUS, steps=5),
            train=_training(adamw, 2200, 64),
        ),
    }


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant: "", or "smoke"."""
    purification = part(diffusion.grids.uniform, start=0.1, end=0.0, steps=4)
    return study(
        variant,
        seed=0,
        data=part(data.dataset.digits),
        stages={
            **trained(),
            "samples": part(
                tasks.samples,
                denoise=part(diffusion.clipped, denoise="@score", clip=1.0),
                solver=part(diffusion.solvers.ddim),
                ts=part(diffusion.grids.uniform, steps=50),
            ),
            "table": part(
                tasks.table,
                n=360,
                victims=victims(part(diffusion.solvers.ddpm), purification),
                cells=cells(RADIUS, RADIUS / 8, draws=8, n=128),
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
