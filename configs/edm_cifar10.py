"""EDM on CIFAR-10 (Karras et al. 2022, arXiv 2206.00364, table 2): preconditioned networks and Heun's method in 18 steps.

    python experiments/run.py --config=configs/edm_cifar10.py:conditional --workdir=runs/edm_cifar10

Published FID, 35 evaluations: unconditional 1.97 (their network DDPM++, "VP") and 1.98 (NCSN++, "VE"), class-conditional 1.79
and 1.79, the least of three draws of 50,000. 200 million images in batches of 512, two days on eight V100. Their augmentation
turns, scales and stretches images, and tells the network so; here they are only mirrored. "smoke", "conditional_smoke": a
minute on a CPU.
"""

from ml_collections import ConfigDict
from published import adam, cases, score, table, unet

from jaxdiff import diffusion
from jaxdiff.diffusion import conditions, grids, guidance, noise_levels, solvers
from jaxdiff.study import part

CASES = ("unconditional", "conditional")
BATCH, IMAGES, RAMP, HALF_LIFE = 512, 200_000_000, 10_000_000, 500_000


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant: "", "conditional", "smoke" or "conditional_smoke"."""
    case, small = cases("edm_cifar10", variant, CASES)
    told = case == "conditional"
    network = score(
        unet(
            small,
            multipliers=(2, 2, 2),
            blocks=4,
            attention=(16,),
            dropout=0.13,
            classes=10 if told else None,
        ),
        "edm",
        part(diffusion.EDM),
        part(noise_levels.log_normal, mean=-1.2, std=1.2),
        part(diffusion.preconditioned),
        adam(1e-3, warmup=RAMP // BATCH, clip=None),
        IMAGES // BATCH,
        BATCH,
        0.5 ** (BATCH / HALF_LIFE),
        loss=part(diffusion.denoising, weight=part(diffusion.weights.edm)),
        warmup="ramp",
        condition=part(conditions.label, drop=0.0) if told else None,
    )
    denoise = part(guidance.of_class, score="@score") if told else "@score"
    classes = tuple(range(10)) if told else ()
    return table(small, network, denoise, part(solvers.heun), part(grids.karras, steps=18), classes=classes)
