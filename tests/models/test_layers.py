"""Laws of the shared layers: the convolution is the native one with all its derivatives."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax
from jax.test_util import check_grads
from rows import slow_but

from jaxdiff.models import layers

NUMBERS = ("NHWC", "HWIO", "NHWC")
CASES = [
    # kernel, stride, padding, size
    ((3, 3), (1, 1), "SAME", (8, 8)),
    ((3, 3), (2, 2), "SAME", (8, 8)),
    ((3, 3), (2, 2), "SAME", (7, 9)),
    ((3, 3), (2, 2), [(1, 1), (1, 1)], (8, 7)),
    ((3, 3), (2, 2), [(0, 1), (0, 1)], (8, 8)),
    ((3, 3), (2, 3), "VALID", (9, 8)),
    ((1, 1), (1, 1), "SAME", (5, 6)),
    ((1, 1), (2, 2), "SAME", (6, 5)),
    ((1, 1), (2, 2), [(1, 0), (0, 1)], (6, 5)),
    ((4, 2), (1, 2), "SAME", (7, 6)),
    ((2, 2), (2, 2), "VALID", (6, 7)),
    ((5, 5), (3, 3), [(2, 2), (4, 1)], (8, 6)),
]
conv = partial(layers.conv_general_dilated, dimension_numbers=NUMBERS)
native = partial(lax.conv_general_dilated, dimension_numbers=NUMBERS)


def operands(kernel, size, key, channels=(3, 4), dtype=jnp.float64):
    kx, kw = jax.random.split(key)
    return jax.random.normal(kx, (2, *size, channels[0]), dtype), jax.random.normal(
        kw, (*kernel, *channels), dtype
    )


def close(a, b, tol=1e-11):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tol, atol=tol), a, b)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("kernel", "strides", "padding", "size"), slow_but(CASES, *CASES[::2]))
def test_value_and_derivatives_are_native(kernel, strides, padding, size, key):
    """Value, gradients and directional derivative, of a function that is not linear in the convolution."""
    x, w = operands(kernel, size, key)

    @partial(jax.jit, static_argnums=0)
    def everything(f, x, w):
        def loss(x, w):
            return jnp.sum(jnp.sin(f(x, w, strides, padding)))

        return (
            f(x, w, strides, padding),
            jax.grad(loss, (0, 1))(x, w),
            jax.jvp(loss, (x, w), (jnp.cos(x), jnp.cos(w))),
        )

    close(everything(conv, x, w), everything(native, x, w))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("kernel", "strides", "padding", "size"), slow_but([CASES[2], CASES[8]], CASES[2]))
def test_derivatives_in_both_modes_to_second_order(kernel, strides, padding, size, key):
    x, w = operands(kernel, size, key, channels=(2, 2))
    f = jax.jit(lambda x, w: jnp.tanh(conv(x, w, strides, padding)))
    check_grads(f, (x, w), order=2, modes=("fwd", "rev"))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("strides", [(1, 1), (2, 2)])
def test_gradient_inside_transformations(strides, key):
    """The same gradient steps by scan, remat and vmap over images and kernels as by a native loop."""
    x, w = operands((3, 3), (6, 6), key, channels=(3, 3))
    w = jnp.stack([w, 2 * w])

    def step(f, x, w):
        return x - 0.1 * jax.grad(lambda x: jnp.sum(jnp.sin(f(x[None], w, strides, "SAME"))))(x)

    @jax.jit
    def scanned(x, w):
        body = jax.checkpoint(lambda x, _: (step(conv, x, w), None))
        return lax.scan(body, x, length=3)[0]

    @jax.jit
    def looped(x, w):
        for _ in range(3):
            x = step(native, x, w)
        return x

    by_vmap = jax.jit(jax.vmap(jax.vmap(scanned, (0, None)), (None, 0)))(x, w)
    close(by_vmap, jnp.stack([jnp.stack([looped(xi, wi) for xi in x]) for wi in w]))

    def outer(f):
        return jax.jit(jax.grad(lambda x, w: jnp.sum(f(x, w) ** 2), (0, 1)))(x[0], w[0])

    close(outer(scanned), outer(looped))


def test_gradient_in_bfloat16(key):
    x, w = operands((3, 3), (8, 8), key, dtype=jnp.bfloat16)
    grad = jax.grad(lambda x: jnp.sum(conv(x, w, (1, 1), "SAME").astype(jnp.float32) ** 2))
    exact = jax.grad(lambda x: jnp.sum(native(x, w.astype(jnp.float32), (1, 1), "SAME") ** 2))(
        x.astype(jnp.float32)
    )
    assert grad(x).dtype == jnp.bfloat16
    assert jnp.linalg.norm(grad(x).astype(jnp.float32) - exact) < 0.02 * jnp.linalg.norm(exact)


def test_conv_under_shard_map(key):
    x, w = operands((3, 3), (8, 8), key, dtype=jnp.float32)
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    grad = jax.grad(lambda x, w: jnp.sum(jnp.sin(conv(x, w, (2, 2), "SAME"))))
    sharded = jax.shard_map(grad, mesh=mesh, in_specs=(jax.P("data"), jax.P()), out_specs=jax.P("data"))
    close(jax.jit(sharded)(x, w), grad(x, w), tol=1e-5)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    "options",
    [{"feature_group_count": 2}, {"kernel_dilation": 2}, {"input_dilation": 2, "padding": ((1, 1), (0, 2))}],
)
def test_conv_module_with_groups_and_dilation_is_native(options, key):
    x = jax.random.normal(key, (2, 7, 7, 4))
    ours, theirs = layers.Conv(6, (3, 3), **options), nn.Conv(6, (3, 3), **options)
    variables = theirs.init(key, x)

    @partial(jax.jit, static_argnums=0)
    def grad(model, variables):
        return jax.grad(lambda v: jnp.sum(jnp.sin(model.apply(v, x))))(variables)

    close(grad(ours, variables), grad(theirs, variables))


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="about XLA on CPU")
def test_input_gradient_avoids_the_slow_path(key):
    """XLA's slow path on CPU, swapped kernels ("01oi") and dilated inputs, is gone from a scanned step."""
    x, w = operands((3, 3), (8, 8), key, dtype=jnp.float32)

    def compiled(f):
        step = jax.grad(lambda x, w: jnp.sum(jnp.sin(f(x, w, (2, 2), "SAME"))))
        scanned = jax.jit(lambda x, w: lax.scan(lambda x, _: (step(x, w), None), x, length=3)[0])
        return scanned.lower(x, w).compile().as_text()

    assert all(sign in compiled(native) for sign in ("01oi", "lhs_dilate"))
    assert all(sign not in compiled(conv) for sign in ("01oi", "lhs_dilate"))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("groups", "channels"), slow_but([(32, 128), (8, 32), (32, 16), (32, 96), (4, 36)], (8, 32), (32, 16))
)
def test_group_norm_is_flax_group_norm(groups, channels, key):
    x = 3 + 2 * jax.random.normal(key, (2, 5, 7, channels))
    params = {"scale": jnp.linspace(0.5, 2, channels), "bias": jnp.linspace(-1, 1, channels)}
    flax = nn.GroupNorm(layers.group_count(groups, channels), epsilon=1e-6, use_fast_variance=False)
    close(layers.GroupNorm(groups).apply({"params": params}, x), flax.apply({"params": params}, x), tol=1e-9)


@pytest.mark.parametrize("channels", [1, 3, 4, 8, 30, 32, 48, 64, 96, 100, 128, 144, 384])
def test_groups_divide_and_keep_four_channels(channels):
    count = layers.group_count(32, channels)
    assert 1 <= count <= 32 and channels % count == 0
    assert count == 1 or channels // count >= 4


def test_group_norm_statistics_are_float32():
    """A bfloat16 sum of 64 x 64 numbers near 3 would be off by far more than their spread."""
    x = 3 + 0.1 * jax.random.normal(jax.random.key(0), (1, 64, 64, 4))
    y, variables = layers.GroupNorm(1).init_with_output(jax.random.key(0), x.astype(jnp.bfloat16))
    assert y.dtype == jnp.bfloat16 and variables["params"]["scale"].dtype == jnp.float32
    assert abs(y.astype(jnp.float32).mean()) < 0.01 and abs(y.astype(jnp.float32).std() - 1) < 0.02


@pytest.mark.usefixtures("x64")
def test_time_embedding_is_a_sum_of_rotations():
    """<e(s), e(t)> depends on s - t alone: it is sum_i cos(f_i (s - t)), with f from 1 down to 1e-4."""
    t = jnp.array([0.0, 1.0, 10.0, 500.0, 999.0])
    e = layers.time_embedding(t, 8)
    gram = sum(jnp.cos(f * (t[:, None] - t[None])) for f in (1.0, 10 ** (-4 / 3), 10 ** (-8 / 3), 1e-4))
    close(e @ e.T, gram)
    close(e[0], jnp.array([0.0] * 4 + [1.0] * 4))
    close(e[1, jnp.array([0, 4])], jnp.array([np.sin(1), np.cos(1)]))


@pytest.mark.parametrize("features", [2, 7])
def test_time_embedding_refuses(features):
    with pytest.raises(ValueError, match="even number"):
        layers.time_embedding(jnp.zeros(1), features)


@pytest.mark.parametrize("scale", [1.0, 0.0])
def test_ddpm_init_bound(scale):
    """Uniform, of variance scale / mean(fan_in, fan_out): the bound sqrt(3 variance) is nearly reached."""
    w = layers.ddpm_init(scale)(jax.random.key(0), (3, 3, 20, 60))
    bound = np.sqrt(3 * (scale or 1e-10) / (9 * 40))
    assert 0.99 * bound < jnp.abs(w).max() <= bound * (1 + 1e-6)


def test_check_images_names_the_shape():
    with pytest.raises(ValueError, match=r"UNet takes \[batch.*got shape \(8, 8, 3\)"):
        layers.check_images(jnp.zeros((8, 8, 3)), "UNet")


def test_activation_names():
    assert layers.activation("silu") is nn.silu
    with pytest.raises(ValueError, match=r"'swoosh'.*relu"):
        layers.activation("swoosh")
