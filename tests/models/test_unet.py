"""Laws of the UNet."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rows import slow_but

from jaxdiff import models
from jaxdiff.build import build
from jaxdiff.models.unet import Attention, UNet, patches, upsample, whole

from .helpers import apply, randomised

SMALL = UNet(16, (1, 2), blocks=1, attention=(4,), groups=8)


@pytest.fixture(scope="module")
def batch():
    x = jax.random.normal(jax.random.key(1), (3, 8, 8, 2))
    return x, jnp.array([0.0, 10.0, 999.0])


@pytest.fixture(scope="module")
def variables(batch):
    return randomised(SMALL, *batch)


def test_cifar10_parameter_count():
    """Ho et al. 2020, table of hyperparameters: 35.7 million; exactly that of google/ddpm-cifar10-32."""
    shapes = jax.eval_shape(UNet().init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)), jnp.zeros(1))
    assert models.count(shapes) == 35_746_307


def test_starts_as_zero(batch):
    params, state = models.initialise(SMALL, jax.random.key(0), *batch)
    assert state == {}
    assert jnp.abs(apply(SMALL, {"params": params}, *batch)).max() < 1e-3


def test_lifted_is_batched(batch, variables):
    lifted = jax.jit(jax.vmap(models.as_net(SMALL, variables)))(*batch)
    np.testing.assert_allclose(lifted, apply(SMALL, variables, *batch), rtol=1e-4, atol=1e-5)


def test_lifted_takes_python_time(batch, variables):
    x, _ = batch
    expected = apply(SMALL, variables, x[:1], jnp.array([10.0]))[0]
    np.testing.assert_allclose(
        jax.jit(models.as_net(SMALL, variables), static_argnums=1)(x[0], 10), expected, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("groups", slow_but([8, 32], 8))
def test_time_reaches_the_output_through_every_block(batch, groups):
    """Even with fewer channels than groups, where one channel per group would subtract the time embedding."""
    x, t = batch
    model = SMALL.clone(groups=groups)
    variables = randomised(model, x, t)
    params = variables["params"]
    blocks = [name for name in params if "block" in name]
    grads = jax.jit(jax.grad(lambda p: jnp.sum(model.apply({"params": p}, x, t) ** 2)))(params)
    assert len(blocks) == 8
    for name in blocks:
        assert jnp.abs(grads[name]["time"]["kernel"]).max() > 1e-3, name


def test_dropout_only_in_training(batch, variables):
    @jax.jit
    def training(key):
        return SMALL.apply(variables, *batch, train=True, rngs={"dropout": key})

    first, again, other = (training(jax.random.key(seed)) for seed in (0, 0, 1))
    assert jnp.array_equal(first, again)
    assert not jnp.allclose(first, other, atol=1e-2)
    none = apply(SMALL.clone(dropout=0.0), variables, *batch, train=True, rngs={"dropout": jax.random.key(0)})
    np.testing.assert_allclose(none, apply(SMALL, variables, *batch), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_bfloat16_is_close_and_keeps_float32_parameters(batch, variables):
    spec = {
        "channels": 16,
        "multipliers": [1, 2],
        "blocks": 1,
        "attention": [4],
        "groups": 8,
        "dtype": "bfloat16",
    }
    half = build(models, {"name": "UNet"} | spec)
    params, _ = models.initialise(half, jax.random.key(0), *batch)
    assert {p.dtype for p in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    exact, rough = apply(SMALL, variables, *batch), apply(half, variables, *batch)
    assert rough.dtype == jnp.float32
    error = jnp.linalg.norm(rough - exact) / jnp.linalg.norm(exact)
    assert 1e-4 < error < 0.05


def test_attention_is_equivariant_to_permutations(key):
    """Permuting the pixels permutes the output, and the branch is no constant: it depends on the query."""
    x = jax.random.normal(key, (1, 4, 6, 8))
    attention = Attention(heads=2, groups=2)
    variables = randomised(attention, x)
    permutation = jax.random.permutation(key, 24)

    def shuffle(x):
        return x.reshape(1, 24, 8)[:, permutation].reshape(x.shape)

    np.testing.assert_allclose(
        apply(attention, variables, shuffle(x)), shuffle(apply(attention, variables, x)), rtol=1e-4, atol=1e-5
    )
    values = apply(attention, variables, x) - x
    assert jnp.abs(values - values.mean((1, 2), keepdims=True)).max() > 1e-3


def test_equal_keys_make_attention_average(key):
    """With keys all zero the softmax is uniform: the branch is the same at every pixel."""
    x = jax.random.normal(key, (1, 4, 4, 8))
    attention = Attention(heads=2, groups=2)
    params = randomised(attention, x)["params"]
    params["key"] = jax.tree.map(jnp.zeros_like, params["key"])
    branch = apply(attention, {"params": params}, x) - x
    np.testing.assert_allclose(branch, jnp.broadcast_to(branch[:, :1, :1], branch.shape), atol=1e-5)


def test_upsample_repeats_pixels():
    x = jnp.arange(4.0).reshape(1, 2, 2, 1)
    expected = [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]
    assert jnp.array_equal(upsample(x)[0, ..., 0], jnp.array(expected, jnp.float32))


def test_not_square_and_other_channels_out(key):
    """With kernels symmetric in the width, the mirrored wide image gives the mirrored output."""
    model = SMALL.clone(out_channels=3, multipliers=(1,))
    x = jax.random.normal(key, (1, 4, 12, 2))
    variables = randomised(model, x, jnp.zeros(1))
    symmetric = jax.tree.map(lambda w: (w + jnp.flip(w, 1)) / 2 if w.ndim == 4 else w, variables)

    def run(x):
        return apply(model, symmetric, x, jnp.ones(1))

    assert run(x).shape == (1, 4, 12, 3)
    np.testing.assert_allclose(run(jnp.flip(x, 2)), jnp.flip(run(x), 2), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("shape", "message"), [((1, 9, 8, 2), "divisible by 2"), ((1, 8, 8, 3), "for 2 channels")]
)
def test_refuses(shape, message, variables):
    with pytest.raises(ValueError, match=message):
        SMALL.apply(variables, jnp.zeros(shape), jnp.zeros(1))


def test_refuses_heads_that_do_not_divide(batch):
    with pytest.raises(ValueError, match="3 attention heads"):
        SMALL.clone(heads=3).init(jax.random.key(0), *batch)


TOLD = UNet(8, (1,), blocks=1, attention=(), groups=4, classes=3, dropout=0.0)


def test_a_class_is_told_and_no_class_has_an_embedding_of_its_own(batch):
    x, t = batch
    variables = randomised(TOLD, x, t)
    see = lambda y: np.asarray(apply(TOLD, variables, x, t, None if y is None else jnp.array(y)))
    none = see(None)
    np.testing.assert_array_equal(see([-1, -1, -1]), none)
    found = see([0, 2, -1])
    np.testing.assert_array_equal(found[2], none[2])
    outputs = [none[0], *(see([y] * 3)[0] for y in range(3))]
    assert min(np.abs(a - b).max() for i, a in enumerate(outputs) for b in outputs[:i]) > 1e-3
    np.testing.assert_array_equal(see([0] * 3)[0], found[0])
    assert np.isnan(see([3, -2, 0])[:2]).all() and np.isfinite(see([3, -2, 0])[2]).all()


def test_a_network_without_classes_is_not_told_any(batch, variables):
    with pytest.raises(ValueError, match=r"knows no classes, and is told y: give it classes=10"):
        apply(SMALL, variables, *batch, jnp.zeros(3, int))


def test_patches_are_squares_and_put_together_again(key):
    x = jax.random.normal(key, (2, 6, 4, 3))
    squares = patches(x, 2)
    assert squares.shape == (2, 3, 2, 12)
    np.testing.assert_array_equal(squares[1, 2, 1].reshape(2, 2, 3), x[1, 4:6, 2:4])
    np.testing.assert_array_equal(whole(squares, 2), x)


def test_a_network_of_patches_is_that_of_squares(batch):
    """With the same weights on the squares as channels."""
    x, t = batch
    coarse = UNet(8, (1,), blocks=1, attention=(), groups=4, out_channels=8)
    fine = UNet(8, (1,), blocks=1, attention=(), groups=4, patch=2)
    variables = randomised(coarse, patches(x, 2), t)
    np.testing.assert_allclose(
        apply(fine, variables, x, t),
        whole(apply(coarse, variables, patches(x, 2), t), 2),
        rtol=1e-5,
        atol=1e-5,
    )
    with pytest.raises(ValueError, match="2 levels and patch 2 needs sides divisible by 4; got"):
        UNet(8, (1, 2), patch=2).init(jax.random.key(0), jnp.zeros((1, 6, 6, 1)), jnp.zeros(1))
