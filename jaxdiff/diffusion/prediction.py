"""What a network predicts: rows of one 2 x 2 linear system.

A kind of prediction is a row (p, q): the network predicts p x0 + q noise. Together with x_t,

    | alpha  sigma | | x0    |   | x_t    |
    |   p      q   | | noise | = | output |                                         (1)

so any output gives x0 and noise, and these give any other kind. An error in the output is an error (p - q alpha/sigma)
times as large in x0, because x_t is known:

    |output - target|^2 = (p - q alpha/sigma)^2 |x0_hat - x0|^2.                     (2)

Kinds: x0; eps (Ho et al. 2020); v = alpha noise - sigma x0 (Salimans and Ho 2022); score = -noise/sigma, the gradient of
log p(x_t | x0) (Song et al. 2021); velocity = alpha' x0 + sigma' noise, the slope of x_t in t (Lipman et al. 2023; of a
`RectifiedFlow` noise - x0); edm, the F of Karras et al. 2022, in their preconditioned denoiser (their equation 7)

    x0_hat = c_skip x_t/alpha + c_out F,    c_skip = (sigma_data alpha / S)^2,    c_out = sigma sigma_data / S,
    S^2 = sigma^2 + (sigma_data alpha)^2,                                            (3)

for data of standard deviation sigma_data: a mean square error of F in proportion to their loss.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import ScalarLike

from jaxdiff import checks
from jaxdiff.diffusion.process import Process, as_float, concrete
from jaxdiff.types import Image, Scalar, Time

SIGMA_DATA = 0.5
Row = Callable[[Process, Time], tuple[ScalarLike, ScalarLike]]
Kind = str | Row


def edm_kind(sigma_data: float = SIGMA_DATA) -> Row:
    """The kind "edm" for data of another standard deviation, equation (3)."""
    checks.number("edm_kind", "(0, inf)", sigma_data=sigma_data)
    return partial(_edm, sigma_data)


def _edm(sigma_data: float, process: Process, t: Time) -> tuple[Scalar, Scalar]:
    whole = edm_scale(process, sigma_data, t)
    return process.sigma(t) / (sigma_data * whole), -sigma_data * process.alpha(t) / whole


def edm_scale(process: Process, sigma_data: float, t: Time) -> Scalar:
    """S of equation (3), the standard deviation of x_t."""
    return jnp.sqrt(process.sigma(t) ** 2 + (sigma_data * process.alpha(t)) ** 2)


def _velocity(process: Process, t: Time) -> tuple[Scalar, Scalar]:
    return jax.grad(process.alpha)(as_float(t)), jax.grad(process.sigma)(as_float(t))


KINDS: dict[str, Row] = {
    "x0": lambda process, t: (1.0, 0.0),
    "eps": lambda process, t: (0.0, 1.0),
    "v": lambda process, t: (-process.sigma(t), process.alpha(t)),
    "score": lambda process, t: (0.0, -1.0 / process.sigma(t)),
    "velocity": _velocity,
    "edm": partial(_edm, SIGMA_DATA),
}


def row_of(kind: Kind) -> Row:
    """(process, t) -> (p, q) of a kind; ValueError with the known kinds if it is none of them, nor a row itself."""
    if callable(kind):
        return kind
    checks.known("prediction", KINDS, kind=kind)
    return KINDS[kind]


def says_x0(process: Process, kind: Kind, t: Time) -> bool:
    """Whether an output of this kind still tells x0 at t where alpha = 0: there p, and so the determinant, is not 0."""
    return concrete(lambda t: jnp.asarray(row_of(kind)(process, t)[0]), t) != 0.0


def target(process: Process, kind: Kind, x0: Image, noise: Image, t: Time) -> Image:
    """p x0 + q noise: what a network of this kind should output."""
    p, q = row_of(kind)(process, t)
    return p * x0 + q * noise


def convert(process: Process, source: Kind, destination: Kind, output: Image, x_t: Image, t: Time) -> Image:
    """The output of kind `destination` that says the same as `output` of kind `source`, by equation (1).

    Needs alpha(t) > 0 from "eps" and "score", and sigma(t) > 0 from "x0" and "edm" and for "score": elsewhere the determinant
    is 0.
    """
    row_of(destination)
    (p, q), alpha, sigma = row_of(source)(process, t), process.alpha(t), process.sigma(t)
    if source == destination:
        return output
    determinant = alpha * q - sigma * p
    x0 = (q * x_t - sigma * output) / determinant
    noise = (alpha * output - p * x_t) / determinant
    return target(process, destination, x0, noise, t)


def error_scale(process: Process, kind: Kind, t: Time) -> Scalar:
    """(p - q alpha/sigma)^2: squared error of this kind for a unit squared error of x0, equation (2)."""
    alpha, sigma = process.alpha(t), process.sigma(t)
    p, q = row_of(kind)(process, t)
    return jnp.square(p - q * alpha / sigma)
