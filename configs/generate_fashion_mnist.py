"""Fashion-MNIST drawn by class, and how good it is: configs/generate_digits.py on a larger set.

    python experiments/run.py --config=configs/generate_fashion_mnist.py --workdir=runs/generate_fashion_mnist

The network trains within an hour on two cores, the rest takes about half an hour more. The data set is TFDS's
`fashion_mnist`, prepared as array_record. The numbers to expect are in docs/generation.md. Variant "smoke": a minute or two.
"""

from generation import adam, adamw, classifier, measured, restorations, samples, score, training
from ml_collections import ConfigDict

from jaxdiff import data, models
from jaxdiff.data import augment
from jaxdiff.study import part, study

MEAN, STD = (0.286,), (0.353,)


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant: "", or "smoke"."""
    unet = part(
        models.UNet,
        channels=8 if variant == "smoke" else 32,
        multipliers=(1, 2),
        blocks=1,
        attention=(7,),
        dropout=0.0,
        groups=8,
        classes=10,
        patch=2,
    )
    cnn = part(models.CNN, channels=(32, 64, 128, 128), mean=MEAN, std=STD)
    flip = lambda: (part(augment.flip),)
    return study(
        variant,
        seed=0,
        data=part(data.dataset.tfds, dataset="fashion_mnist"),
        stages={
            "score": score(unet, training(adam(2e-3, 500), 9000, 64, 0.999), kind="v", augment=flip()),
            "classifier": classifier(cnn, training(adamw(2e-3, 500), 3000, 128, 0.99), flip()),
            "samples": samples(n=2000, scale=1.5, steps=30),
            **restorations(steps=100),
            **measured(n=2000, likelihoods=64),
        },
    )
