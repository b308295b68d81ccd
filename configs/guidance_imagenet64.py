"""Classifier-free guidance on ImageNet 64 x 64 (Ho and Salimans 2022, arXiv 2207.12598, table 1).

    python experiments/run.py --config=configs/guidance_imagenet64.py --workdir=runs/guidance_imagenet64

Published: with labels dropped 10 % of the time, FID 1.55 at w = 0.1, here scale = 1 + w, and inception score 66.11; at w = 4
FID 21.53, inception score 260.2: --config.stages.samples.denoise.denoise.scale=5.0. Their network is that of ADM. The data
set is TFDS's `imagenet_resized/64x64`, prepared as array_record. Variant "smoke" is on CIFAR-10: a minute on a CPU.
"""

from ml_collections import ConfigDict
from published import CIFAR10, adam, cases, score, table, unet

from jaxdiff import diffusion
from jaxdiff.diffusion import conditions, grids, guidance, noise_levels
from jaxdiff.study import part


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant: "", or "smoke"."""
    _, small = cases("guidance_imagenet64", variant, ("drop10",))
    classes = 10 if small else 1000
    network = score(
        unet(small, 192, (1, 2, 3, 4), 3, attention=(32, 16, 8), heads=4, dropout=0.1, classes=classes),
        "eps",
        part(diffusion.Cosine, offset=0.0, alpha_min=4.54e-5),  # log SNR of -20 at t = 1
        part(noise_levels.uniform, t_min=3e-5),  # and of 20 here
        part(diffusion.time_label, scale=1000.0),
        adam(1e-4, warmup=0, clip=None),
        400_000,
        2048,
        0.9999,
        condition=part(conditions.label, drop=0.1),
    )
    denoise = part(diffusion.clipped, denoise=part(guidance.of_class, score="@score", scale=1.1), clip=1.0)
    return table(
        small,
        network,
        denoise,
        part(diffusion.ddpm),
        part(grids.uniform, steps=256),
        of=CIFAR10 if small else {"dataset": "imagenet_resized/64x64"},
        classes=tuple(range(classes)),
    )
