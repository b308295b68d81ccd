"""Diffusion models: processes, predictions, solvers, sampling, losses.

Processes stand here; other parts have a module each: `grids`, `solvers`, `weights`, `noise_levels`.
"""

from jaxdiff.diffusion import grids, losses, noise_levels, process, solvers, weights
from jaxdiff.diffusion.denoiser import clipped, denoiser, preconditioned, score, time_label
from jaxdiff.diffusion.exploding import EDM, VE, Levels, geometric
from jaxdiff.diffusion.flow import RectifiedFlow
from jaxdiff.diffusion.losses import denoising
from jaxdiff.diffusion.pixels import from_network, to_network
from jaxdiff.diffusion.prediction import KINDS, Kind, convert, edm_kind, target
from jaxdiff.diffusion.process import VP, Cosine, Process, SubVP
from jaxdiff.diffusion.sample import prior, regenerate, sample, trajectory
from jaxdiff.diffusion.solvers import Solver, ddim, ddpm, dpmpp_2m, euler_maruyama, heun
from jaxdiff.diffusion.tables import Discrete, cosine_table, linear, quadratic, sigmoid

__all__ = [
    "EDM",
    "KINDS",
    "VE",
    "VP",
    "Cosine",
    "Discrete",
    "Kind",
    "Levels",
    "Process",
    "RectifiedFlow",
    "Solver",
    "SubVP",
    "clipped",
    "convert",
    "cosine_table",
    "ddim",
    "ddpm",
    "denoiser",
    "denoising",
    "dpmpp_2m",
    "edm_kind",
    "euler_maruyama",
    "from_network",
    "geometric",
    "grids",
    "heun",
    "linear",
    "losses",
    "noise_levels",
    "preconditioned",
    "prior",
    "process",
    "quadratic",
    "regenerate",
    "sample",
    "score",
    "sigmoid",
    "solvers",
    "target",
    "time_label",
    "to_network",
    "trajectory",
    "weights",
]
