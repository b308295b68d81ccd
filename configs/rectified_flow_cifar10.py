"""Rectified flow on CIFAR-10 (Liu et al. 2023, arXiv 2209.03003, table 1): the first flow, solved by an adaptive method.

    python experiments/run.py --config=configs/rectified_flow_cifar10.py --workdir=runs/rectified_flow_cifar10

Published: FID 2.58 and inception score 9.60 by RK45 with 127 evaluations, 600,000 steps of 128 images with the DDPM++ network;
variant "euler" draws by 100 steps of Euler's method, a number that is not among theirs.
"smoke", "euler_smoke": a minute on a CPU.
"""

from ml_collections import ConfigDict
from published import adam, cases, score, table, unet

from jaxdiff import diffusion
from jaxdiff.diffusion import grids, noise_levels, solvers
from jaxdiff.study import part

CASES = {
    "adaptive": lambda: (
        part(solvers.adaptive, rtol=1e-5, atol=1e-5),
        part(grids.uniform, steps=1, start=0.999, end=1e-3),
    ),
    "euler": lambda: (part(solvers.ddim), part(grids.uniform, steps=100)),
}


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant: "", "euler", "smoke" or "euler_smoke"."""
    case, small = cases("rectified_flow_cifar10", variant, tuple(CASES))
    solver, ts = CASES[case]()
    network = score(
        unet(small, blocks=4, attention=(16,), dropout=0.15),
        "velocity",
        part(diffusion.RectifiedFlow),
        part(noise_levels.uniform, t_min=1e-3),
        part(diffusion.time_label, scale=999.0),
        adam(2e-4),
        600_000,
        128,
        0.999999,
    )
    return table(small, network, "@score", solver, ts)
