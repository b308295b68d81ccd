"""Solvers: one step over an interval of time, for `sample`, with exact gradients through all of them."""

from jaxdiff.diffusion.solvers.ancestral import ddim, ddpm, euler_maruyama, renoised, reverse_diffusion
from jaxdiff.diffusion.solvers.langevin import annealed_langevin, churned, langevin, then
from jaxdiff.diffusion.solvers.multistep import dpmpp_2m, dpmpp_2m_sde, dpmpp_3m, unipc
from jaxdiff.diffusion.solvers.ode import adaptive, heun
from jaxdiff.diffusion.solvers.solver import Solver

__all__ = [
    "Solver",
    "adaptive",
    "annealed_langevin",
    "churned",
    "ddim",
    "ddpm",
    "dpmpp_2m",
    "dpmpp_2m_sde",
    "dpmpp_3m",
    "euler_maruyama",
    "heun",
    "langevin",
    "renoised",
    "reverse_diffusion",
    "then",
    "unipc",
]
