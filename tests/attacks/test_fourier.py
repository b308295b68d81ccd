"""Threats in frequency: nothing above the cutoff, exact feasibility, and the optimum of linear losses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rows import slow_but
from scipy.fft import dctn, idctn
from scipy.optimize import linprog

from jaxdiff.attacks import l2, linf, pgd
from jaxdiff.attacks.threats.fourier import fourier_l2, low_frequency
from jaxdiff.attacks.threats.l1 import l1

SHAPE = (6, 8, 2)
W = jax.random.normal(jax.random.key(7), SHAPE)
INSIDE = jnp.full(SHAPE, 0.5)
BALLS = {"linf": linf, "l2": l2, "l1": l1}
THREATS = {
    "low_linf": lambda radius: low_frequency(linf(radius), 0.5),
    "low_l2": lambda radius: low_frequency(l2(radius), 0.5),
    "fourier": fourier_l2,
}
ORDER = {"low_linf": np.inf, "low_l2": 2, "fourier": 2}


def _linear(x, key):
    return jnp.vdot(W, x)


def _spectrum(delta):
    return dctn(np.array(delta, np.float64), axes=(0, 1), norm="ortho")


def _low(v, rows=3, columns=4):
    """The part with the first DCT frequencies (half of 6 and of 8), by scipy."""
    spectrum = _spectrum(v)
    spectrum[rows:], spectrum[:, columns:] = 0.0, 0.0
    return idctn(spectrum, axes=(0, 1), norm="ortho")


def _size(name, delta):
    return np.linalg.norm(np.array(delta, np.float64).ravel(), ORDER[name])


@pytest.mark.parametrize("ball", BALLS)
def test_nothing_above_the_cutoff(ball, key):
    """Random starts, steps of a white gradient and projections have low frequencies only, and fill the ball."""
    threat = low_frequency(BALLS[ball](0.3), 0.5)
    found = {
        "init": threat.init(key, INSIDE),
        "steepest": threat.steepest.update(W, threat.steepest.init(W))[0],
        "project": threat.project(W, INSIDE),
    }
    for name, delta in found.items():
        np.testing.assert_allclose(delta, _low(delta), atol=1e-6, err_msg=name)
    assert float(threat.norm(found["steepest"])) == pytest.approx(1.0, rel=1e-5)
    assert float(threat.norm(found["project"])) == pytest.approx(0.3, rel=1e-4)
    assert 0.2 < float(threat.norm(found["init"])) <= 0.3 + 1e-6


@pytest.mark.parametrize(
    ("cutoff", "rows", "columns"), [(1 / 6, 1, 2), (0.01, 1, 1), (0.5, 3, 4), (0.7, 5, 6)]
)
def test_cutoff_is_a_share_of_each_axis(cutoff, rows, columns):
    projected = low_frequency(l2(1e3), cutoff).project(0.01 * W, INSIDE)
    np.testing.assert_allclose(projected, 0.01 * _low(W, rows, columns), atol=1e-7)


@pytest.mark.parametrize("ball", BALLS)
def test_the_whole_spectrum_is_the_ball(ball):
    x = jnp.round(jax.random.uniform(jax.random.key(1), SHAPE), 1)
    whole, plain = low_frequency(BALLS[ball](0.3), 1.0), BALLS[ball](0.3)
    tolerance = (
        1e-5 if ball != "l2" else 0.05
    )  # ball then box is not quite the nearest point, nor is its iteration
    np.testing.assert_allclose(whole.project(W, x), plain.project(W, x), atol=tolerance)


def test_l2_linear_optimum_is_the_low_passed_gradient(key):
    """The best low-frequency perturbation is radius P(w) / |P(w)|; its projection is the nearest point, too."""
    low = _low(W)
    x_adv = pgd(low_frequency(l2(0.4), 0.5), 0.4, 20)(_linear, INSIDE, key)
    np.testing.assert_allclose(x_adv - INSIDE, 0.4 * low / np.linalg.norm(low), atol=1e-4)
    projected = low_frequency(l2(0.4), 0.5).project(W, INSIDE)
    np.testing.assert_allclose(projected, 0.4 * low / np.linalg.norm(low), atol=1e-6)


def test_linf_linear_optimum_nearly(key):
    """Under L-infinity the optimum is a linear program in the DCT coefficients; pgd gets nine tenths of it, and no more."""
    units = np.eye(12).reshape(12, 3, 4, 1)
    basis = (
        idctn(np.pad(units, ((0, 0), (0, 3), (0, 4), (0, 0))), axes=(1, 2), norm="ortho").reshape(12, 48).T
    )
    rows = np.vstack([basis, -basis])
    gradients = np.array(W).reshape(48, 2).T
    best = -sum(
        linprog(-basis.T @ g, A_ub=rows, b_ub=np.full(96, 0.1), bounds=(None, None)).fun for g in gradients
    )
    x_adv = pgd(low_frequency(linf(0.1), 0.5), 0.02, 40)(_linear, INSIDE, key)
    assert 0.9 * best < _linear(x_adv - INSIDE, key) <= best * (1 + 1e-5)


@pytest.mark.parametrize("name", slow_but(THREATS, "low_linf"))
def test_feasible_for_wild_losses(name, key):
    """Exactly in the box and the ball; at the box high frequencies are the lesser part. Radius 0 is the identity."""
    wild = lambda x, key: 1e3 * jnp.sum(jnp.sin(50 * x)) + jax.random.normal(key) * jnp.sum(x)
    pgd_of = lambda r, x, k: pgd(THREATS[name](r), r / 2, 3)(wild, x, k)
    attack = jax.jit(jax.vmap(pgd_of, (None, 0, 0)))
    x = jnp.round(jax.random.uniform(key, (6, *SHAPE)), 1)
    keys = jax.random.split(key, 6)
    radius = 0.1 if name == "low_linf" else 0.5
    x_adv = attack(radius, x, keys)
    assert jnp.min(x_adv) >= 0.0 and jnp.max(x_adv) <= 1.0
    sizes = [_size(name, d) for d in x_adv - x]
    assert max(sizes) <= radius * (1 + 1e-5) and min(sizes) > 0.3 * radius
    if name != "fourier":
        assert all(np.linalg.norm(d - _low(d)) < 0.5 * np.linalg.norm(d) for d in np.array(x_adv - x))
    assert jnp.array_equal(attack(0.0, x, keys), x)


@pytest.mark.parametrize("name", ["low_l2", "fourier"])
def test_alone_as_in_company(name, key):
    x = jnp.round(jax.random.uniform(key, (4, *SHAPE)), 1)
    v = jax.random.normal(key, x.shape)
    project = THREATS[name](0.3).project
    np.testing.assert_allclose(jax.jit(jax.vmap(project))(v, x)[2], jax.jit(project)(v[2], x[2]), atol=1e-6)


@pytest.mark.parametrize("shape", [(6, 8, 2), (5, 7, 1), (1, 4, 3)])
def test_fourier_images_have_the_stated_spectrum(shape, key, x64):
    """|FFT of delta| is |FFT of the white image| times max(f, f_1)^-decay, up to a factor; lengths are in pixels."""
    z, x = jax.random.normal(key, shape), jnp.full(shape, 0.5)
    threats = [fourier_l2(0.1, decay) for decay in (0.0, 1.5)]
    z = z * (0.1 / threats[0].norm(z))
    white, coloured = (np.array(t.apply(x, z) - x) for t in threats)
    for delta, threat in zip((white, coloured), threats, strict=True):
        assert float(threat.norm(z)) == pytest.approx(np.linalg.norm(delta), rel=1e-6)
    power = [np.sum(np.abs(np.fft.fft2(d, axes=(0, 1))) ** 2, -1) for d in (white, coloured)]
    # A real basis function holds a frequency and its opposite.
    both = [p + np.roll(p[::-1, ::-1], (1, 1), (0, 1)) for p in power]
    frequency = np.hypot(*np.meshgrid(*(np.fft.fftfreq(n) for n in shape[:2]), indexing="ij"))
    expected = np.maximum(frequency * max(shape), 1.0) ** -3.0
    np.testing.assert_allclose(both[1] / both[0], expected, rtol=1e-6)


@pytest.mark.parametrize("decay", [0.0, 1.0, 2.0])
def test_fourier_steps_are_preconditioned(decay):
    """One step from 0 moves along F^-1 s^2 F w, as long as the step."""
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(6), np.fft.fftfreq(8), indexing="ij"))
    scale = np.maximum(frequency * 8, 1.0)[..., None] ** (-2 * decay)
    way = np.fft.ifft2(np.fft.fft2(np.array(W), axes=(0, 1)) * scale, axes=(0, 1)).real
    threat, z = fourier_l2(1.0, decay), jnp.zeros(SHAPE)
    gradient = jax.grad(lambda z: _linear(threat.apply(INSIDE, z), None))(z)
    step = 0.05 * threat.steepest.update(gradient, threat.steepest.init(z))[0]
    np.testing.assert_allclose(
        threat.apply(INSIDE, step) - INSIDE, 0.05 * way / np.linalg.norm(way), atol=1e-6
    )


@pytest.mark.parametrize("decay", [0.5, 2.0])
def test_fourier_projection_is_the_nearest_point(decay, key):
    """In z, p = P(v) iff <v - p, p> is the most that <v - p, q> is in the ball |s q| <= radius: radius |(v - p) / s|."""
    threat = fourier_l2(0.4, decay)
    project = jax.jit(threat.project)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(6), np.fft.fftfreq(8), indexing="ij"))
    s = np.maximum(frequency * 8, 1.0)[..., None] ** -decay
    for scale in (0.01, 1.0, 1e3):
        v = scale * jax.random.normal(key, SHAPE)
        p = project(v, INSIDE)
        assert float(threat.norm(p)) == pytest.approx(min(0.4, float(threat.norm(v))), rel=1e-5)
        most = 0.4 * np.linalg.norm(np.array(v - p) / s)
        assert float(jnp.vdot(v - p, p)) == pytest.approx(most, rel=1e-4, abs=1e-6)
        np.testing.assert_allclose(project(p, INSIDE), p, rtol=1e-4, atol=1e-6)


def test_fourier_changes_the_way_and_not_the_optimum(key):
    """On a linear loss it is L2's, radius |w|, though the path to it begins at low frequencies."""
    best = 0.4 * jnp.linalg.norm(W)
    x_adv = pgd(fourier_l2(0.4, 1.0), 0.4, 150)(_linear, INSIDE, key)
    assert 0.99 * best < _linear(x_adv - INSIDE, key) <= best * (1 + 1e-5)


def test_fourier_reaches_the_optimum_at_the_box():
    """Pixels that a random start has pushed out of the box come back if the loss wants them: L2's optimum with the box.

    That is clip(c w, -x, 1 - x) with the c that makes it as long as the radius.
    """
    # Half of the black pixels, and of the white ones, should move, by more than there are others.
    x = jnp.round(jax.random.uniform(jax.random.key(2), SHAPE)).at[:2, 0].set(0.5)
    w, room = np.array(W, np.float64), (-np.array(x), 1 - np.array(x))
    low, high = 0.0, 100.0
    for _ in range(60):
        c = (low + high) / 2
        low, high = (c, high) if np.linalg.norm(np.clip(c * w, *room)) < 1.0 else (low, c)
    best = np.vdot(w, np.clip(c * w, *room))
    attack = jax.jit(jax.vmap(lambda key: pgd(fourier_l2(1.0, 0.5), 0.2, 100)(_linear, x, key)))
    moved = np.array(attack(jax.random.split(jax.random.key(0), 3))) - np.array(x)
    gains = np.einsum("nhwc,hwc->n", moved, w)
    assert np.min(gains) > 0.97 * best and np.max(gains) <= best * (1 + 1e-5)


def test_fourier_gradients_at_the_box():
    """Beyond a border the derivative is 0 only where the loss would go further; `decay` 0 keeps lengths."""
    threat, x = fourier_l2(9.0, 0.0), jnp.zeros((4, 4, 1)).at[:2].set(1.0)
    z = jax.random.normal(jax.random.key(0), x.shape)
    w = jax.random.normal(jax.random.key(1), x.shape)
    image, back = jax.vjp(lambda z: threat.apply(x, z), z)
    assert jnp.min(image) == 0.0 and jnp.max(image) == 1.0
    wanted = jnp.where(((image == 0) & (w < 0)) | ((image == 1) & (w > 0)), 0.0, w)
    assert 0 < jnp.sum(wanted == 0) < jnp.sum((image == 0) | (image == 1))
    np.testing.assert_allclose(jnp.sum(back(w)[0] ** 2), jnp.sum(wanted**2), rtol=1e-5)


@pytest.mark.parametrize("name", THREATS)
def test_vanishing_gradients(name):
    steepest = THREATS[name](0.1).steepest
    direction = lambda g: steepest.update(g, steepest.init(g))[0]
    np.testing.assert_allclose(direction(1e-30 * W), direction(W), atol=1e-5)
    assert jnp.array_equal(direction(0.0 * W), 0.0 * W)


@pytest.mark.parametrize(
    "make",
    [
        lambda: low_frequency(linf(0.1), 0.0),
        lambda: low_frequency(linf(0.1), 1.5),
        lambda: low_frequency(linf(0.1), 0.5, rounds=0),
        lambda: fourier_l2(-1.0),
        lambda: fourier_l2(1.0, decay=-1.0),
        lambda: fourier_l2(1.0).init(jax.random.key(0), jnp.zeros((4, 4))),
        lambda: low_frequency(linf(0.1), 0.5).project(jnp.zeros(4), jnp.zeros(4)),
    ],
)
def test_bad_arguments(make):
    with pytest.raises(ValueError, match="got"):
        make()
