"""Noise-conditional score networks on CIFAR-10: NCSN (Song and Ermon 2019, arXiv 1907.05600), NCSNv2 (2020, arXiv 2006.09011).

    python experiments/run.py --config=configs/ncsn_cifar10.py --workdir=runs/ncsn_cifar10

Published: NCSN (10 levels, 100 Langevin steps each, no average) FID 25.32 and inception score 8.87; NCSNv2 (variant "v2": 232
levels, 5 steps each, an average) FID 10.87 and inception score 8.40. Their networks are RefineNets, told the level; levels are
theirs, for images in [0, 1], on [-1, 1]. "smoke", "v2_smoke": a minute on a CPU.
"""

from ml_collections import ConfigDict
from published import adam, cases, score, table, unet

from jaxdiff import diffusion
from jaxdiff.diffusion import grids, noise_levels, solvers
from jaxdiff.study import part

# levels, their ends, steps and rate of Langevin, learning rate, steps of training, decay of the average
CASES = {
    "v1": (10, 0.02, 2.0, 100, 2e-5 / 0.01**2, 1e-3, 200_000, None),
    "v2": (232, 0.02, 100.0, 5, 6.2e-6 / 0.01**2, 1e-4, 300_000, 0.999),
}


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant: "", "v2", "smoke" or "v2_smoke"."""
    case, small = cases("ncsn_cifar10", variant, tuple(CASES))
    levels, low, high, repeats, rate, lr, steps, decay = CASES[case]
    network = score(
        unet(small, attention=(), dropout=0.0),
        "eps",
        part(diffusion.geometric, levels=levels, sigma_min=low, sigma_max=high),
        part(noise_levels.discrete, steps=levels),
        part(diffusion.time_label, scale=float(levels)),
        adam(lr, warmup=0, clip=None),
        steps,
        128,
        decay,
    )
    langevin = part(solvers.annealed_langevin, rate=rate, steps=repeats)
    # Whose samples begin as in theirs, where noise does not yet drown the image.
    return table(small, network, "@score", langevin, part(grids.uniform, steps=levels), signal=1.0)
