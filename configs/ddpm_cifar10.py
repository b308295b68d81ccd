"""DDPM on CIFAR-10 (Ho et al. 2020, arXiv 2006.11239, tables 1 and 2), with its network and at its settings.

    python experiments/run.py --config=configs/ddpm_cifar10.py --workdir=runs/ddpm_cifar10

Published: FID 3.17 and inception score 9.46 +- 0.11 with L_simple, bits/dim <= 3.75; trained on the bound itself (variant
"bound") FID 13.51, inception score 7.67, bits/dim <= 3.70. 800,000 steps of 128 images, 10.6 hours on a TPU v3-8; 50,000
samples of 1,000 steps cost it an hour more. Variants "smoke", "bound_smoke": a minute on a CPU.
"""

from ml_collections import ConfigDict
from published import adam, cases, score, table, unet

from jaxdiff import diffusion
from jaxdiff.diffusion import noise_levels, weights
from jaxdiff.study import part

CASES = ("simple", "bound")


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant: "", "bound", "smoke" or "bound_smoke"."""
    case, small = cases("ddpm_cifar10", variant, CASES)
    weight = part(weights.simple) if case == "simple" else part(weights.elbo, steps=1000, variance="upper")
    network = score(
        unet(small, attention=(16,), dropout=0.1),
        "eps",
        part(diffusion.linear),
        part(noise_levels.discrete, steps=1000),
        part(diffusion.time_label, scale=1000.0, offset=-1.0),
        adam(2e-4),
        800_000,
        128,
        0.9999,
        loss=part(diffusion.denoising, weight=weight),
    )
    return table(
        small,
        network,
        part(diffusion.clipped, denoise="@score", clip=1.0),
        part(diffusion.ddpm, variance="upper"),
        part(diffusion.grids.respaced, steps=1000),
        {"bound": part(diffusion.variational_bound, steps=1000, variance="upper")},
    )
