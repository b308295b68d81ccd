"""Threats in frequency: perturbations of low frequency alone, and perturbations that rather have low ones.

With D_n the orthonormal DCT-II of n points, (D_n)_{kj} = sqrt((2 - [k = 0]) / n) cos(pi k (j + 1/2) / n), and L_n = D_n' M D_n,
M the mask of the frequencies k / n < cutoff, the low-passed image is

    P(v) = L_h v L_w        (channel by channel; an orthogonal projection; Guo et al. 2018).                    (1)

With H the orthonormal Hartley transform (the real Fourier basis, H H = 1) and f the length of the frequency in cycles a pixel,

    delta = H(s z),         s = (max(f, f_1) / f_1)^-decay,    f_1 = 1 / max(h, w),                              (2)

gradient steps in z are steps in delta preconditioned by s^2 (Olah et al. 2017, "Feature visualization"). The nearest z whose
delta has length `radius` is

    z' = z / (1 + mu s^2),    mu the root of |s z'| = radius.                                                   (3)

That low and high frequencies are worth looking at apart is Yin et al. 2019.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, ScalarLike

from jaxdiff import checks
from jaxdiff.attacks.threats.threat import (
    Perturbation,
    Threat,
    add_inside,
    check_threat,
    into_box,
    length,
    on_images,
)
from jaxdiff.floats import wide, wide_dtype
from jaxdiff.types import Image, PRNGKey

__all__ = ["fourier_l2", "low_frequency"]


def low_frequency(threat: Threat, cutoff: float | int, rounds: int = 8) -> Threat:
    """The part of an additive `threat` with DCT frequencies below `cutoff`, a share of the spectrum per axis in (0, 1].

    The norm and the box hold exactly. Away from the box nothing is left above the cutoff; pixels at the box are clipped there,
    last of all. The projection is the nearest point only nearly (exactly, for L2 away from the box): `rounds` of Dykstra's
    alternating projections, then the whole is shortened into the ball. Steps go along the threat's steepest direction for the
    low-passed gradient, low-passed once more and scaled to norm 1. Raises ValueError for a cutoff or rounds out of range, and
    for images that are not "h w c".
    """
    check_threat("low_frequency", threat)
    cutoff = checks.number("low_frequency", "(0, 1]", cutoff=cutoff)
    checks.count("low_frequency", rounds=rounds)
    low_pass = lambda v: _low_pass(v, cutoff)

    def init(key, x):
        draw = threat.init(key, x)
        return _to_norm(low_pass(draw), threat, threat.norm(draw))

    def project(delta, x):
        def once(_, state):
            delta, excess = state
            wanted = low_pass(delta) + excess
            delta = threat.project(wanted, x)
            return delta, wanted - delta

        delta, _ = jax.lax.fori_loop(0, rounds, once, (delta, jnp.zeros_like(delta)))
        delta = low_pass(delta)
        return into_box(_to_norm(delta, threat, jnp.minimum(threat.norm(delta), threat.radius)), x)

    def update(g, state, delta=None):
        direction, state = threat.steepest.update(low_pass(g / _peak(g)), state, delta)
        return _to_norm(low_pass(direction), threat, 1.0), state

    steepest = optax.GradientTransformation(threat.steepest.init, update)
    low = threat._replace(
        init=init, project=project, steepest=steepest, to_plane=None, name=f"low-frequency {threat.name}"
    )
    return on_images(low)


def fourier_l2(radius: ScalarLike, decay: float | int = 1.0) -> Threat:
    """The L2 ball (in pixels) in the coordinates z of equation (2): `decay` 0 is plain L2, 1 a natural image's spectrum.

    |x' - x| <= radius and the box hold exactly: `apply` clips, which only shortens. The gradient of a clipped pixel is 0 only
    if the loss wants it further out. Steps have unit length in pixels, along the preconditioned gradient, and the projection
    is the nearest point in z: the optimum is that of L2, the way there another.
    Random starts are coloured noise as long as a uniform draw from the ball. Raises ValueError for a negative radius or decay,
    and for images that are not "h w c".
    """
    radius, decay = checks.number("fourier_l2", "[0, inf)", radius=radius, decay=decay)
    # The Hartley transform keeps lengths.
    pixels = lambda z: wide(z) * _colour(z, decay)
    norm = lambda z: length(pixels(z))

    def init(key: PRNGKey, x: Image) -> Perturbation:
        direction_key, length_key = jax.random.split(key)
        z = jax.random.normal(direction_key, x.shape, x.dtype)
        return z * (radius / norm(z) * jax.random.uniform(length_key, (), x.dtype) ** (1.0 / x.size)).astype(
            x.dtype
        )

    def project(z: Perturbation, x: Image) -> Perturbation:
        return _shorten(wide(z), _colour(z, decay), radius).astype(z.dtype)

    def steepest(g: Perturbation, _) -> Perturbation:
        g = g / _peak(g)
        length = norm(g)
        return (g / jnp.where(length > 0.0, length, 1.0)).astype(g.dtype)

    ball = Threat(
        init=init,
        apply=lambda x, z: add_inside(x, _hartley(pixels(z)).astype(x.dtype)),
        project=project,
        steepest=optax.stateless(steepest),
        norm=norm,
        radius=radius,
        measure=length,
        name="fourier_l2",
        symbol=r"$\ell_2$",
    )
    return on_images(ball)


def _shorten(z: Perturbation, s: Float[Array, "h w 1"], radius: ScalarLike) -> Perturbation:
    """Equation (3), by Newton's method for 1 / |s z'|, which rises to the root from mu = 0."""
    radius_or_tiny = jnp.maximum(radius, 1e-12)

    def newton(_, mu):
        shrunk = s * z / (1.0 + mu * s**2)
        square, slope = jnp.sum(shrunk**2), jnp.sum(shrunk**2 * s**2 / (1.0 + mu * s**2))
        outside = square > radius_or_tiny**2
        gain = (jnp.sqrt(jnp.where(outside, square, 1.0)) / radius_or_tiny - 1.0) * square
        return mu + jnp.where(outside, gain / jnp.where(outside, slope, 1.0), 0.0)

    z = z / (1.0 + jax.lax.fori_loop(0, 8, newton, jnp.zeros((), z.dtype)) * s**2)
    # What is left of the root, and of rounding; a radius of 0 gives 0, not 0/0.
    return z * (radius / jnp.maximum(length(s * z), radius_or_tiny))


def _low_pass(v: Perturbation, cutoff: float | int) -> Perturbation:
    """Equation (1)."""
    checks.pixels("A threat in frequency", v.shape)
    rows, columns = (jnp.asarray(_low_pass_matrix(n, cutoff), v.dtype) for n in v.shape[:2])
    # In full precision: accelerators would leave a thousandth of the high frequencies.
    return jnp.einsum("ij,jkc,kl->ilc", rows, v, columns, precision="highest")


def _low_pass_matrix(n: int, cutoff: float | int) -> np.ndarray:
    frequency, place = np.arange(n)[:, None], np.arange(n)[None]
    dct = np.sqrt(np.where(frequency == 0, 1, 2) / n) * np.cos(np.pi * frequency * (place + 0.5) / n)
    kept = dct[np.arange(n) / n < cutoff]
    return kept.T @ kept


def _colour(z: Perturbation, decay: float | int) -> Float[Array, "h w 1"]:
    """s of equation (2), 1 at the lowest frequencies."""
    checks.pixels("A threat in frequency", z.shape)
    h, w, _ = z.shape
    frequency = np.hypot(np.fft.fftfreq(h)[:, None], np.fft.fftfreq(w)[None]) * max(h, w)
    return jnp.asarray(np.maximum(frequency, 1.0) ** -decay, wide_dtype(z.dtype))[..., None]


def _hartley(v: Perturbation) -> Perturbation:
    spectrum = jnp.fft.fft2(v, axes=(0, 1), norm="ortho")
    return jnp.real(spectrum) - jnp.imag(spectrum)


def _to_norm(v: Perturbation, threat: Threat, length: ScalarLike) -> Perturbation:
    """v with the threat's norm `length`, and 0 for 0."""
    norm = threat.norm(v)
    return v * (length / jnp.where(norm > 0.0, norm, 1.0))


def _peak(g: Perturbation) -> Float[Array, ""]:
    """The largest |g_i|, or 1 for 0: gradients of 1e-30 keep their direction."""
    peak = jnp.max(jnp.abs(g))
    return jnp.where(peak > 0.0, peak, 1.0)
