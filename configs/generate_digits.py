"""Digits drawn by class, and how good they are, in a quarter of an hour on two cores, with nothing to download.

    python experiments/run.py --config=configs/generate_digits.py --workdir=runs/generate_digits

Trains a class-conditional score network and a classifier that judges; draws samples, inpaints and enlarges test images;
measures quality (`quality/quality.md`) and bits/dim. The numbers to expect are in docs/generation.md. Variant "smoke": a
minute or two.
"""

from generation import adam, adamw, classifier, measured, restorations, samples, score, training
from ml_collections import ConfigDict

from jaxdiff import data, models
from jaxdiff.data import augment
from jaxdiff.study import part, study


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant: "", or "smoke"."""
    unet = part(
        models.UNet,
        channels=32,
        multipliers=(1, 2),
        blocks=1,
        attention=(4,),
        dropout=0.1,
        groups=8,
        classes=10,
    )
    cnn = part(models.CNN, channels=(32, 64, 128), mean=(0.3,), std=(0.4,))
    return study(
        variant,
        seed=0,
        data=part(data.dataset.digits),
        stages={
            "score": score(unet, training(adam(3e-3, 200), 3000, 64, 0.995), kind="v"),
            "classifier": classifier(
                cnn, training(adamw(3e-3, 100), 600, 128, 0.99), (part(augment.noise, std=0.17),)
            ),
            "samples": samples(n=1000, scale=1.0),
            **restorations(steps=100),
            **measured(n=360, likelihoods=128),
        },
    )
