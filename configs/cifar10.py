"""CIFAR-10 at the published settings: DDPM's score network, a WRN-28-10, Madry's adversarial training, DiffPure.

    python experiments/run.py --config=configs/cifar10.py --workdir=runs/cifar10 --only=score
    python experiments/run.py --config=configs/cifar10.py --workdir=runs/cifar10

Score network: Ho et al. 2020, section 4 and appendix B (35.7 M parameters, 800,000 steps of 128 images; published: FID 3.17,
10.6 hours on a TPU v3-8). Classifiers: Zagoruyko and Komodakis 2016; Madry et al. 2018 with radius 8/255. Purification:
Nie et al. 2022, t* = 0.1 (published: 89.02 % standard, 70.64 % under AutoAttack with the adjoint gradient; later exact-gradient
attacks leave 46 to 48 %). The data set is TFDS's `cifar10`, prepared as array_record. Variant "smoke": tiny networks.
"""

from ml_collections import ConfigDict
from three_defenses import cells, madry, victims

from jaxdiff import data, defenses, diffusion, models, train
from jaxdiff.data import augment
from jaxdiff.study import part, study, tasks

RADIUS = 8 / 255
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
LINEAR = {"steps": 1000, "beta_min": 1e-4, "beta_max": 0.02}


def _training(optimizer, steps, ema=()):
    return part(
        tasks.training,
        optimizer=optimizer,
        steps=steps,
        batch_size=128,
        ema_decays=ema,
        log_every=100,
        checkpoint_every=5000,
        keep=3,
    )


def _score(small):
    size = (
        {"channels": 8, "multipliers": (1, 2), "blocks": 1}
        if small
        else {"channels": 128, "multipliers": (1, 2, 2, 2), "blocks": 2}
    )
    return part(
        tasks.score,
        model=part(models.UNet, attention=(16,), dropout=0.1, dtype="float32", **size),
        process=part(diffusion.linear, **LINEAR),
        kind="eps",
        label=part(diffusion.time_label, scale=1000.0, offset=-1.0),
        loss=part(diffusion.denoising, weight=part(diffusion.weights.simple)),
        time=part(diffusion.noise_levels.discrete, steps=1000),
        augment=(part(augment.flip),),
        train=_training(part(train.optimizer.adam, lr=2e-4, warmup=5000, clip=1.0), 800_000, (0.9999,)),
    )


def _classifier(model, loss):
    sgd = part(
        train.optimizer.sgd,
        lr=0.1,
        momentum=0.9,
        nesterov=True,
        weight_decay=5e-4,
        warmup=400,
        schedule="cosine",
    )
    return part(
        tasks.classifier,
        model=model,
        loss=loss,
        augment=(part(augment.shift, pixels=4), part(augment.flip)),
        train=_training(sgd, 78_000),
    )


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant: "", or "smoke"."""
    small = variant == "smoke"
    tiny = part(models.ResNetCIFAR, depth=8, mean=MEAN, std=STD)
    wide = tiny if small else part(models.WideResNet, depth=28, width=10, mean=MEAN, std=STD)
    robust = tiny if small else part(models.PreActResNet18, mean=MEAN, std=STD)
    purification = part(diffusion.grids.uniform, start=0.1, end=1e-5, steps=100)
    return study(
        variant,
        seed=0,
        data=part(data.dataset.tfds, dataset="cifar10"),
        stages={
            "score": _score(small),
            "classifier": _classifier(wide, part(defenses.training.standard)),
            "adversarial_training": _classifier(robust, madry(RADIUS, steps=10)),
            "samples": part(
                tasks.samples,
                denoise=part(diffusion.clipped, denoise="@score", clip=1.0),
                solver=part(diffusion.solvers.ddpm, variance="upper"),
                ts=part(diffusion.grids.uniform, steps=1000),
            ),
            "table": part(
                tasks.table,
                n=512,
                batch_size=64,
                victims=victims(part(diffusion.solvers.euler_maruyama), purification, remat="step"),
                cells=cells(RADIUS, RADIUS / 4, draws=20),
                curves={
                    "linf": part(
                        tasks.curve,
                        cells=("none/pgd", "adversarial_training/pgd"),
                        radii=tuple(r / 255 for r in (0, 1, 2, 4, 8, 12)),
                    )
                },
                reference={"diffpure": {"standard": 0.8902}},
                pictures=("@samples",),
            ),
        },
    )
