"""Diffusion models: processes, predictions, solvers, sampling, losses.

Configs name parts of one module each: `process`, `grids`, `solvers`, `losses`.
"""

from jaxdiff.diffusion import grids, losses, process, solvers
from jaxdiff.diffusion.denoiser import clipped, denoiser, score, time_label
from jaxdiff.diffusion.losses import denoising
from jaxdiff.diffusion.pixels import from_network, to_network
from jaxdiff.diffusion.prediction import KINDS, convert, target
from jaxdiff.diffusion.process import VP, Cosine, Discrete, Process, linear
from jaxdiff.diffusion.sample import prior, regenerate, sample, trajectory
from jaxdiff.diffusion.solvers import Solver, ddim, ddpm, dpmpp_2m, euler_maruyama, heun

__all__ = [
    "KINDS",
    "VP",
    "Cosine",
    "Discrete",
    "Process",
    "Solver",
    "clipped",
    "convert",
    "ddim",
    "ddpm",
    "denoiser",
    "denoising",
    "dpmpp_2m",
    "euler_maruyama",
    "from_network",
    "grids",
    "heun",
    "linear",
    "losses",
    "prior",
    "process",
    "regenerate",
    "sample",
    "score",
    "solvers",
    "target",
    "time_label",
    "to_network",
    "trajectory",
]
