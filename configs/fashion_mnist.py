"""Fashion-MNIST, 28x28 grey: the table of configs/digits.py on a larger set.

    python experiments/run.py --config=configs/fashion_mnist.py --workdir=runs/fashion_mnist

The data set is TFDS's `fashion_mnist`, prepared as array_record; radius 0.1 in L-infinity, as in the literature on this set.
Variant "smoke": a minute or two, for tests.
"""

from ml_collections import ConfigDict
from three_defenses import cells, madry, victims

from jaxdiff import data, defenses, diffusion, models, train
from jaxdiff.data import augment
from jaxdiff.study import part, study, tasks

RADIUS = 0.1
MEAN, STD = (0.286,), (0.353,)


def _training(optimizer, steps):
    return part(
        tasks.training,
        optimizer=optimizer,
        steps=steps,
        batch_size=128,
        ema_decays=(0.999,),
        log_every=50,
        checkpoint_every=1000,
    )


def _score(small):
    adam = part(train.optimizer.adam, lr=1e-3, warmup=500, schedule="cosine", clip=1.0)
    size = (
        {"channels": 8, "multipliers": (1, 2), "blocks": 1}
        if small
        else {"channels": 32, "multipliers": (1, 2, 2), "blocks": 2}
    )
    return part(
        tasks.score,
        model=part(models.UNet, attention=(7,), dropout=0.1, **size),
        process=part(diffusion.VP, beta_min=0.1, beta_max=20.0),
        kind="eps",
        label=part(diffusion.time_label, scale=999.0),
        loss=part(diffusion.denoising, weight=part(diffusion.weights.simple)),
        time=part(diffusion.noise_levels.uniform, t_min=1e-4),
        augment=(part(augment.flip),),
        train=_training(adam, 20_000),
    )


def _classifier(loss):
    adamw = part(train.optimizer.adamw, lr=2e-3, weight_decay=0.05, warmup=500, schedule="cosine")
    return part(
        tasks.classifier,
        model=part(models.CNN, channels=(32, 64, 128, 128), mean=MEAN, std=STD),
        loss=loss,
        augment=(part(augment.flip),),
        train=_training(adamw, 8000),
    )


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant: "", or "smoke"."""
    purification = part(diffusion.grids.uniform, start=0.1, end=0.0, steps=10)
    return study(
        variant,
        seed=0,
        data=part(data.dataset.tfds, dataset="fashion_mnist"),
        stages={
            "score": _score(variant == "smoke"),
            "classifier": _classifier(part(defenses.training.standard)),
            "adversarial_training": _classifier(madry(RADIUS, steps=7)),
            "samples": part(
                tasks.samples,
                denoise=part(diffusion.clipped, denoise="@score", clip=1.0),
                solver=part(diffusion.solvers.dpmpp_2m),
                ts=part(diffusion.grids.logsnr, steps=30),
            ),
            "table": part(
                tasks.table,
                n=512,
                batch_size=64,
                victims=victims(part(diffusion.solvers.ddpm), purification, remat="step"),
                cells=cells(RADIUS, RADIUS / 8, draws=8, n=128),
                curves={
                    "linf": part(
                        tasks.curve,
                        cells=("none/pgd", "adversarial_training/pgd"),
                        radii=(0.0, 0.025, 0.05, 0.1, 0.15),
                        n=512,
                    )
                },
                pictures=("@samples",),
            ),
        },
    )
