"""Diffusion models: processes, predictions, solvers, sampling, losses.

Processes stand here; other parts have a module each: `grids`, `solvers`, `weights`, `noise_levels`, `guidance`.
"""

from jaxdiff.diffusion import (
    bound_losses,
    conditions,
    corruptions,
    grids,
    guidance,
    losses,
    noise_levels,
    process,
    score_matching,
    solvers,
    weights,
)
from jaxdiff.diffusion.bound import Bound, variational_bound
from jaxdiff.diffusion.denoiser import clipped, denoiser, preconditioned, score, time_label
from jaxdiff.diffusion.exploding import EDM, VE, Levels, geometric
from jaxdiff.diffusion.flow import RectifiedFlow
from jaxdiff.diffusion.likelihood import bits_per_dim, dequantised, flow_likelihood
from jaxdiff.diffusion.losses import denoising
from jaxdiff.diffusion.pixels import from_network, to_network
from jaxdiff.diffusion.prediction import KINDS, Kind, convert, edm_kind, target
from jaxdiff.diffusion.process import VP, Cosine, Process, SubVP
from jaxdiff.diffusion.sample import prior, regenerate, sample, trajectory
from jaxdiff.diffusion.solvers import (
    Solver,
    adaptive,
    annealed_langevin,
    churned,
    ddim,
    ddpm,
    dpmpp_2m,
    dpmpp_2m_sde,
    dpmpp_3m,
    euler_maruyama,
    heun,
    langevin,
    reverse_diffusion,
    then,
    unipc,
)
from jaxdiff.diffusion.tables import Discrete, cosine_table, linear, quadratic, sigmoid

__all__ = [
    "EDM",
    "KINDS",
    "VE",
    "VP",
    "Bound",
    "Cosine",
    "Discrete",
    "Kind",
    "Levels",
    "Process",
    "RectifiedFlow",
    "Solver",
    "SubVP",
    "adaptive",
    "annealed_langevin",
    "bits_per_dim",
    "bound_losses",
    "churned",
    "clipped",
    "conditions",
    "convert",
    "corruptions",
    "cosine_table",
    "ddim",
    "ddpm",
    "denoiser",
    "denoising",
    "dequantised",
    "dpmpp_2m",
    "dpmpp_2m_sde",
    "dpmpp_3m",
    "edm_kind",
    "euler_maruyama",
    "flow_likelihood",
    "from_network",
    "geometric",
    "grids",
    "guidance",
    "heun",
    "langevin",
    "linear",
    "losses",
    "noise_levels",
    "preconditioned",
    "prior",
    "process",
    "quadratic",
    "regenerate",
    "reverse_diffusion",
    "sample",
    "score",
    "score_matching",
    "sigmoid",
    "solvers",
    "target",
    "then",
    "time_label",
    "to_network",
    "trajectory",
    "unipc",
    "variational_bound",
    "weights",
]
