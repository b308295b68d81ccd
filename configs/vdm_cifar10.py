"""Variational diffusion models on CIFAR-10 (Kingma et al. 2021, arXiv 2107.00630, table 1): a learned signal-to-noise ratio.

    python experiments/run.py --config=configs/vdm_cifar10.py --workdir=runs/vdm_cifar10

Published: bits/dim 2.65 on the test set (2.637 in the README of their code), 10,000,000 steps of 128 images; trained on the
bound in continuous time. Their network has 32 blocks at full resolution, and sees Fourier features of the image beside it.
Variant "monotone": the whole rise is learned, not its ends alone. "smoke", "monotone_smoke": a minute or two on a CPU.
"""

from ml_collections import ConfigDict
from published import cases, score, table, unet

from jaxdiff import diffusion, train
from jaxdiff.diffusion import grids, learned, noise_levels
from jaxdiff.study import part

CASES = {"scalar": learned.scalar, "monotone": learned.monotone}


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant: "", "monotone", "smoke" or "monotone_smoke"."""
    case, small = cases("vdm_cifar10", variant, tuple(CASES))
    network = score(
        unet(small, multipliers=(1,), blocks=32, attention=(), dropout=0.1),
        "eps",
        part(CASES[case]),
        part(noise_levels.stratified),
        part(diffusion.time_label, scale=1000.0),
        part(train.optimizer.adamw, lr=2e-4, b2=0.99, weight_decay=0.01, warmup=100),
        10_000_000,
        128,
        0.9999,
        loss=part(learned.vdm),
    )
    return table(
        small,
        network,
        part(diffusion.clipped, denoise="@score", clip=1.0),
        part(diffusion.ddpm),
        part(grids.uniform, steps=1000),
        {"bound": part(diffusion.variational_bound, steps=1000, variance="posterior")},
        signal=0.1,  # their noise ends at a signal-to-noise ratio of exp(-5)
    )
