"""Score-based SDEs on CIFAR-10 (Song et al. 2021, arXiv 2011.13456, tables 2 and 3), continuous, also deep.

    python experiments/run.py --config=configs/score_sde_cifar10.py:ve --workdir=runs/score_sde_ve

Published FID and bits/dim (NCSN++ for VE, DDPM++ for the others, 1,300,000 steps of 128 images; deep 950,000 steps for VP):

    variant       FID    bits/dim        variant          FID    bits/dim
    ve            2.38                   ve_deep          2.20
    vp            2.55   3.16            vp_deep          2.41   3.13
    sub_vp        2.61   3.02            sub_vp_deep      2.41   2.99

FID is that of the best checkpoint of each 50,000 steps, bits/dim that of the last, on the test set with uniform noise. Any of
these followed by "_smoke": a minute or two on a CPU.
"""

from ml_collections import ConfigDict
from published import adam, cases, score, table, unet

from jaxdiff import diffusion
from jaxdiff.diffusion import grids, noise_levels, solvers
from jaxdiff.study import part

# process, decay of the average, solver, end of the grid; the VE process is theirs, for images in [0, 1], on [-1, 1]
SDES = {
    "vp": (
        lambda: part(diffusion.VP),
        0.9999,
        lambda: part(solvers.euler_maruyama, noise_removal=True),
        1e-3,
    ),
    "ve": (
        lambda: part(diffusion.VE, sigma_min=0.02, sigma_max=100.0),
        0.999,
        lambda: part(
            solvers.then,
            first=part(solvers.reverse_diffusion, noise_removal=True),
            second=part(solvers.langevin, snr=0.16),
        ),
        1e-5,
    ),
    "sub_vp": (
        lambda: part(diffusion.SubVP),
        0.9999,
        lambda: part(solvers.euler_maruyama, noise_removal=True),
        1e-3,
    ),
}
CASES = tuple(name + deep for deep in ("", "_deep") for name in SDES)


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant: "vp" (also ""), "ve", "sub_vp", each also with "_deep", "_smoke", "_deep_smoke"."""
    case, small = cases("score_sde_cifar10", variant, CASES)
    deep = case.endswith("_deep")
    process, decay, solver, end = SDES[case.removesuffix("_deep")]
    network = score(
        unet(small, blocks=8 if deep else 4, attention=(16,), dropout=0.1),
        "eps",
        process(),
        part(noise_levels.uniform, t_min=1e-5),
        part(diffusion.time_label, scale=999.0),
        adam(2e-4),
        950_000 if case == "vp_deep" else 1_300_000,
        128,
        decay,
    )
    flow = None if case.startswith("ve") else {"flow": part(diffusion.flow_likelihood), "repeats": 5}
    return table(small, network, "@score", solver(), part(grids.uniform, steps=1000, end=end), flow)
