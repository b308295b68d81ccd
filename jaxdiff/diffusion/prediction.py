"""What a network predicts: rows of one 2 x 2 linear system.

A kind of prediction is a row (p, q): the network predicts p x0 + q noise. Together with x_t,

    | alpha  sigma | | x0    |   | x_t    |
    |   p      q   | | noise | = | output |                                         (1)

so any output gives x0 and noise, and these give any other kind. An error in the output is an error (p - q alpha/sigma)
times as large in x0, because x_t is known:

    |output - target|^2 = (p - q alpha/sigma)^2 |x0_hat - x0|^2.                     (2)

Kinds: x0; eps (Ho et al. 2020); v = alpha noise - sigma x0 (Salimans and Ho 2022); score = -noise/sigma, the gradient of
log p(x_t | x0) (Song et al. 2021).
"""

import jax.numpy as jnp

from jaxdiff import checks
from jaxdiff.diffusion.process import Process
from jaxdiff.types import Image, Scalar, Time

KINDS = {
    "x0": lambda alpha, sigma: (1.0, 0.0),
    "eps": lambda alpha, sigma: (0.0, 1.0),
    "v": lambda alpha, sigma: (-sigma, alpha),
    "score": lambda alpha, sigma: (0.0, -1.0 / sigma),
}


def check_kind(kind: str) -> str:
    """`kind` itself; ValueError with the known kinds if it is none of them."""
    checks.known("prediction", KINDS, kind=kind)
    return kind


def says_x0(kind: str) -> bool:
    """Whether an output of this kind still tells x0 where alpha = 0 and sigma = 1: p, and so the determinant, is not 0."""
    return KINDS[check_kind(kind)](0.0, 1.0)[0] != 0.0


def target(process: Process, kind: str, x0: Image, noise: Image, t: Time) -> Image:
    """p x0 + q noise: what a network of this kind should output."""
    p, q = KINDS[check_kind(kind)](process.alpha(t), process.sigma(t))
    return p * x0 + q * noise


def convert(process: Process, source: str, destination: str, output: Image, x_t: Image, t: Time) -> Image:
    """The output of kind `destination` that says the same as `output` of kind `source`, by equation (1).

    Needs alpha(t) > 0 from "eps" and "score", and sigma(t) > 0 from "x0" and for "score": elsewhere the determinant is 0.
    """
    check_kind(source), check_kind(destination)
    if source == destination:
        return output
    alpha, sigma = process.alpha(t), process.sigma(t)
    p, q = KINDS[source](alpha, sigma)
    determinant = alpha * q - sigma * p
    x0 = (q * x_t - sigma * output) / determinant
    noise = (alpha * output - p * x_t) / determinant
    return target(process, destination, x0, noise, t)


def error_scale(process: Process, kind: str, t: Time) -> Scalar:
    """(p - q alpha/sigma)^2: squared error of this kind for a unit squared error of x0, equation (2)."""
    alpha, sigma = process.alpha(t), process.sigma(t)
    p, q = KINDS[check_kind(kind)](alpha, sigma)
    return jnp.square(p - q * alpha / sigma)
