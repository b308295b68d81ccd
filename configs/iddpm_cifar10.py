"""Improved DDPM on CIFAR-10 (Nichol and Dhariwal 2021, arXiv 2102.09672, table 2): learned variances, the cosine schedule.

    python experiments/run.py --config=configs/iddpm_cifar10.py --workdir=runs/iddpm_cifar10

Published, 4,000 steps, cosine schedule, after 500,000 steps of 128 images: L_hybrid (the default) bits/dim 3.17, FID 3.19;
L_vlb by importance sampling (variant "vlb") bits/dim 2.94, FID 11.47. Their network scales and shifts by the time where that of
DDPM adds. Variants "smoke", "vlb_smoke": a minute on a CPU.
"""

from ml_collections import ConfigDict
from published import adam, cases, score, table, unet

from jaxdiff import diffusion
from jaxdiff.diffusion import bound_losses, guidance, noise_levels
from jaxdiff.study import part

STEPS = 4000
CASES = {
    "hybrid": (lambda: part(bound_losses.hybrid, steps=STEPS), noise_levels.discrete),
    "vlb": (lambda: part(bound_losses.vlb, steps=STEPS), noise_levels.importance),
}


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant: "", "vlb", "smoke" or "vlb_smoke"."""
    case, small = cases("iddpm_cifar10", variant, tuple(CASES))
    loss, time = CASES[case]
    network = score(
        unet(small, blocks=3, attention=(16, 8), heads=4, dropout=0.3, out_channels=6),
        "eps",
        part(diffusion.cosine_table, steps=STEPS),
        part(time, steps=STEPS),
        part(diffusion.time_label, scale=1000.0),
        adam(1e-4, warmup=0, clip=None),
        500_000,
        128,
        0.9999,
        loss=loss(),
    )
    share = lambda: part(guidance.learned_variance, score="@score")
    return table(
        small,
        network,
        part(diffusion.clipped, denoise="@score", clip=1.0),
        part(diffusion.ddpm, variance=share()),
        part(diffusion.grids.respaced, steps=STEPS, total=STEPS),
        {"bound": part(diffusion.variational_bound, steps=STEPS, variance=share())},
    )
