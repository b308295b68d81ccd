"""Processes and solvers whose laws are tested: a new one is a row."""

from jaxdiff.diffusion import (
    EDM,
    VE,
    VP,
    Cosine,
    RectifiedFlow,
    SubVP,
    ddim,
    ddpm,
    dpmpp_2m,
    dpmpp_2m_sde,
    dpmpp_3m,
    euler_maruyama,
    heun,
    reverse_diffusion,
    unipc,
)

PROCESSES = {
    "vp": VP(),
    "cosine": Cosine(),
    "sub_vp": SubVP(),
    "ve": VE(),
    "edm": EDM(),
    "flow": RectifiedFlow(),
}
ODE_SOLVERS = {
    "ddim": (ddim, 1),
    "heun": (heun, 2),
    "dpmpp_2m": (dpmpp_2m, 2),
    "unipc": (unipc, 3),
}
SDE_SOLVERS = {
    "ddpm": ddpm,
    "ddpm_upper": lambda process: ddpm(process, "upper"),
    "ddim_eta1": lambda process: ddim(process, 1.0),
    "ddim_eta0.5": lambda process: ddim(process, 0.5),
    "euler_maruyama": euler_maruyama,
    "reverse_diffusion": reverse_diffusion,
    "dpmpp_2m_sde": dpmpp_2m_sde,
}
ALL_SOLVERS = SDE_SOLVERS | {name: make for name, (make, _) in ODE_SOLVERS.items()} | {"dpmpp_3m": dpmpp_3m}
NOISE = Cosine(alpha_min=0.0)  # zero terminal SNR
