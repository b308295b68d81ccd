"""Flows: whole pixels move exactly, derivatives are those of the bilinear surface, and the roughness has closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.attacks import pgd
from jaxdiff.attacks.threats.flow import bilinear, flow_field, flow_smoothness, warp

SHAPES = [(5, 7, 3), (1, 6, 1)]
WARP = jax.jit(warp, static_argnums=2)
SMOOTHNESS = jax.jit(flow_smoothness)


def _image(shape, seed=0):
    return jax.random.uniform(jax.random.key(seed), shape)


def _constant(shape, across, down):
    """The flow that looks `across` pixels to the right and `down` pixels below, everywhere."""
    height, width = shape[:2]
    return jnp.broadcast_to(jnp.array([2 * across / width, 2 * down / height]), (height, width, 2))


@pytest.mark.parametrize("shape", SHAPES)
def test_no_flow_is_the_identity_bit_for_bit(shape):
    x = _image(shape)
    for beyond in ("constant", "edge"):
        assert jnp.array_equal(WARP(x, jnp.zeros((*shape[:2], 2)), beyond), x)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("across", "down"), [(1, 0), (0, 1), (-1, 0), (0, -1), (2, -3), (-40, 0)])
def test_two_over_the_side_is_one_pixel(shape, across, down):
    """x'(i, j) = x(i + down, j + across); outside the image lie zeros, or its nearest pixel."""
    x = _image(shape)
    margin = 50
    for beyond in ("constant", "edge"):
        wide = np.pad(x, ((margin, margin), (margin, margin), (0, 0)), mode=beyond)
        expected = wide[margin + down :, margin + across :][: shape[0], : shape[1]]
        np.testing.assert_allclose(WARP(x, _constant(shape, across, down), beyond), expected, atol=2e-5)


def test_half_a_pixel_is_the_mean_of_two():
    x = _image((5, 7, 3))
    moved = WARP(x, _constant(x.shape, 0.5, 0), "constant")
    np.testing.assert_allclose(moved[:, :-1], (x[:, :-1] + x[:, 1:]) / 2, atol=1e-6)
    np.testing.assert_allclose(moved[:, -1], x[:, -1] / 2, atol=1e-6)


def test_planes_stay_planes(key):
    """Bilinear interpolation of a i + b j + c is exact: the image reads its positions off."""
    i, j = jnp.meshgrid(jnp.arange(9.0), jnp.arange(6.0), indexing="ij")
    plane = (0.05 * i - 0.02 * j + 0.4)[..., None]
    rows = jax.random.uniform(key, (3, 5), minval=0.0, maxval=8.0)
    columns = jax.random.uniform(jax.random.key(1), (3, 5), minval=0.0, maxval=5.0)
    np.testing.assert_allclose(
        bilinear(plane, rows, columns)[..., 0], 0.05 * rows - 0.02 * columns + 0.4, atol=1e-6
    )


def test_derivatives_are_finite_differences(x64):
    """Away from whole pixels, where the surface has kinks; at them the derivatives are one-sided, and finite."""
    x = jax.random.uniform(jax.random.key(0), (4, 5, 2), jnp.float64)
    flow = jax.random.uniform(jax.random.key(1), (4, 5, 2), jnp.float64, -1.5, 1.5)
    cotangent = jax.random.normal(jax.random.key(2), x.shape, jnp.float64)
    value = jax.jit(lambda x, flow: jnp.vdot(cotangent, warp(x, flow)))
    gradients = jax.jit(jax.grad(value, (0, 1)))(x, flow)
    for argument, gradient in enumerate(gradients):
        direction = jax.random.normal(jax.random.key(3), gradient.shape, jnp.float64)
        shifted = lambda t: value(*(a + t * direction * (k == argument) for k, a in enumerate((x, flow))))
        numeric = (shifted(1e-7) - shifted(-1e-7)) / 2e-7
        np.testing.assert_allclose(jnp.vdot(gradient, direction), numeric, rtol=1e-6)
    at_zero = jax.jit(jax.grad(value, 1))(x, jnp.zeros_like(flow))
    right = jnp.pad(x, ((0, 0), (0, 1), (0, 0)))[:, 1:] - x
    np.testing.assert_allclose(at_zero[..., 0], jnp.sum(cotangent * right, -1) * 5 / 2, rtol=1e-12)


def test_images_stay_in_the_box(key):
    """Wherever it looks, near, far or nowhere near, a pixel is a mean of pixels and zeros."""
    x = jnp.round(_image((5, 7, 3)))
    for k, scale in zip(jax.random.split(key, 20), jnp.geomspace(0.01, 1e12, 20), strict=True):
        moved = WARP(x, scale * jax.random.normal(k, (5, 7, 2)), "constant")
        assert jnp.min(moved) >= 0.0 and jnp.max(moved) <= 1.0
    assert jnp.all(WARP(x, jnp.full((5, 7, 2), 1e12), "constant") == 0.0)


@pytest.mark.parametrize("shape", SHAPES)
def test_smoothness_of_constant_and_sheared_flows(shape):
    """A constant flow costs 1e-5 a neighbour; u = s j costs s on both sides of every horizontal pair, 1e-5 elsewhere."""
    height, width = shape[:2]
    constant = 4 * height * width * 1e-5
    assert SMOOTHNESS(_constant(shape, 0.0, 0.0)) == pytest.approx(constant, rel=1e-4)
    assert SMOOTHNESS(_constant(shape, 0.7, -0.3)) == pytest.approx(constant, rel=1e-4)
    sheared = jnp.zeros((height, width, 2)).at[..., 0].set(0.1 * jnp.arange(width)[None])
    pairs = 2 * height * (width - 1)
    expected = 0.1 * pairs + (4 * height * width - pairs) * 1e-5
    assert SMOOTHNESS(sheared) == pytest.approx(expected, rel=1e-4)


def test_smoothness_joins_both_components_and_is_symmetric(key):
    """One pixel moved by (3, 4) lies 5 from its four neighbours, seen from either side; transposing changes nothing."""
    lone = jnp.zeros((5, 5, 2)).at[2, 2].set(jnp.array([3.0, 4.0]))
    assert SMOOTHNESS(lone) == pytest.approx(8 * 5.0 + 92e-5, rel=1e-5)
    flow = jax.random.normal(key, (4, 6, 2))
    assert SMOOTHNESS(flow) == pytest.approx(float(SMOOTHNESS(flow.swapaxes(0, 1))), rel=1e-5)
    assert jnp.all(jax.jit(jax.grad(flow_smoothness))(jnp.zeros((3, 4, 2))) == 0.0)


def test_projection_bounds_the_flow_and_keeps_looks_within_the_image(key):
    x = _image((4, 6, 1))
    threat = flow_field(0.4)
    wild = 10 * jax.random.normal(key, (4, 6, 2))
    project = jax.jit(threat.project)
    flow = project(wild, x)
    assert threat.norm(flow) <= 0.4
    centre = jnp.stack(jnp.meshgrid((2 * jnp.arange(6) + 1) / 6 - 1, (2 * jnp.arange(4) + 1) / 4 - 1), -1)
    assert jnp.max(jnp.abs(centre + flow)) <= 1.0 + 1e-6
    # The nearest point of a box is unique: inside nothing moves, twice is once.
    assert jnp.array_equal(project(flow, x), flow)
    assert jnp.array_equal(flow_field(0.01).project(0.009 * jnp.sign(wild), x), 0.009 * jnp.sign(wild))


def test_any_ascent_moves_in_a_flow_field(key):
    """On a ramp, pgd inside the threat looks half a pixel to the right for the loss's sake, and no further."""
    x = jnp.broadcast_to(jnp.arange(6.0)[None, :, None] / 6, (6, 6, 1))
    wanted = lambda x, key: jnp.sum(x[:, 3])
    ascend = jax.jit(lambda bound: pgd(flow_field(bound), lr=0.05, steps=20)(wanted, x, key))
    np.testing.assert_allclose(ascend(1 / 6)[:, 3], 3.5 / 6, atol=1e-5)
    assert jnp.array_equal(ascend(0.0), x)


def test_starts_are_uniform_within_the_bound(key):
    starts = flow_field(0.2).init(key, jnp.zeros((50, 60, 1)))
    assert starts.shape == (50, 60, 2) and jnp.max(jnp.abs(starts)) <= 0.2
    np.testing.assert_allclose(jnp.std(starts), 0.2 / np.sqrt(3), rtol=0.03)


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"number in \[0, inf\)"):
        flow_field(-0.1)
    with pytest.raises(ValueError, match="two numbers for every pixel"):
        warp(jnp.zeros((4, 4, 1)), jnp.zeros((4, 5, 2)))
