"""Laws of the classifiers."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from rows import slow_but

from jaxdiff import models
from jaxdiff.build import build
from jaxdiff.models.resnet import BasicBlock

from .helpers import apply, randomised

SPECS = {
    "cnn": {"name": "CNN", "channels": [8, 16], "groups": 2, "mean": [0.2, 0.4, 0.6], "std": [0.5, 1.0, 2.0]},
    "resnet": {"name": "ResNetCIFAR", "depth": 8},
    "wide": {"name": "WideResNet", "depth": 10, "width": 1},
}


def made(name, **changes):
    """A model of the table, for 8 x 8 x 3, and random variables."""
    model = build(models, SPECS[name] | changes)
    return model, randomised(model, jnp.zeros((1, 8, 8, 3)))


@pytest.fixture
def images(key):
    return jax.random.uniform(key, (4, 8, 8, 3))


@pytest.mark.parametrize(
    ("spec", "count"),
    [
        # He et al. 2016, section 4.2: 0.27 M and 0.85 M
        ({"name": "ResNetCIFAR", "depth": 20}, 269_722),
        ({"name": "ResNetCIFAR", "depth": 56}, 853_018),
        # Zagoruyko and Komodakis 2016: 36.5 M
        ({"name": "WideResNet", "depth": 28, "width": 10}, 36_479_194),
        ({"name": "PreActResNet18"}, 11_172_170),
        # torchvision's resnet50 and its CIFAR variant with a 3 x 3 stem and 10 classes
        ({"name": "ResNet50", "stem": "imagenet", "classes": 1000}, 25_557_032),
        ({"name": "ResNet50"}, 23_520_842),
    ],
)
def test_parameter_counts(spec, count):
    shapes = jax.eval_shape(build(models, spec).init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    assert models.count(shapes["params"]) == count


@pytest.mark.parametrize("name", SPECS)
def test_lifted_is_batched(name, images):
    model, variables = made(name)
    lifted = jax.jit(jax.vmap(models.as_classifier(model, variables)))(
        images, jax.random.split(jax.random.key(0), 4)
    )
    np.testing.assert_allclose(lifted, apply(model, variables, images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SPECS)
def test_normalisation_is_inside(name, images):
    """f(x) with mean m and std s is f(s x + m) of the network that does not normalise."""
    model, variables = made(name)
    mean, std = (0.1, 0.5, 0.9), (0.3, 1.0, 2.0)
    plain = model.clone(mean=(0.0,) * 3, std=(1.0,) * 3)
    inside = apply(
        model.clone(mean=mean, std=std),
        variables,
        images * jnp.array(std)[None, None, None] + jnp.array(mean)[None, None, None],
    )
    np.testing.assert_allclose(inside, apply(plain, variables, images), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", SPECS)
def test_refuses_images_of_other_channels(name):
    model, variables = made(name)
    with pytest.raises(ValueError, match="1 channels, but mean"):
        model.apply(variables, jnp.zeros((1, 8, 8, 1)))


@pytest.mark.parametrize("name", slow_but(SPECS, next(iter(SPECS))))
def test_bfloat16_is_close_and_keeps_float32(name, images):
    model, variables = made(name)
    half, fresh = made(name, dtype="bfloat16")
    assert {leaf.dtype for leaf in jax.tree.leaves(fresh)} == {jnp.dtype("float32")}
    exact, rough = apply(model, variables, images), apply(half, variables, images)
    assert rough.dtype == jnp.float32
    assert 0 < jnp.linalg.norm(rough - exact) < 0.03 * jnp.linalg.norm(exact)


def test_cnn_is_the_same_in_training(images):
    model, variables = made("cnn")
    assert set(variables) == {"params"}
    assert jnp.array_equal(apply(model, variables, images, train=True), apply(model, variables, images))


@pytest.mark.parametrize(("side", "groups"), slow_but([(8, 0), (28, 4)], (8, 0)))
def test_cnn_fits_a_batch(side, groups, key):
    """A few steps of gradient descent tell eight images apart."""
    import optax

    model = models.CNN((8, 16), groups=groups, activation="gelu")
    x, y = jax.random.uniform(key, (8, side, side, 1)), jnp.arange(8)
    params, _ = models.initialise(model, key, x)

    def loss(p):
        return optax.softmax_cross_entropy_with_integer_labels(model.apply({"params": p}, x), y).mean()

    tx = optax.adam(3e-2)

    @jax.jit
    def step(params, state):
        updates, state = tx.update(jax.grad(loss)(params), state)
        return optax.apply_updates(params, updates), state

    state = tx.init(params)
    for _ in range(60):
        params, state = step(params, state)
    assert loss(params) < 0.3 < np.log(8)


@pytest.mark.parametrize("name", ["resnet", "wide"])
def test_batch_norm_over_a_named_axis_is_over_the_whole_batch(name, images):
    """Two halves under an axis name give the logits and statistics of the whole batch."""
    model, variables = made(name, axis_name="batch")
    train = partial(model.apply, variables, train=True, mutable="batch_stats")
    halves, stats = jax.jit(jax.vmap(train, axis_name="batch"))(images.reshape(2, 2, 8, 8, 3))
    whole = apply(made(name)[0], variables, images, train=True, mutable="batch_stats")
    tree = jax.tree.map(lambda a: a[0], stats)
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4), (halves.reshape(4, 10), tree), whole
    )


def test_batch_norm_momentum(images):
    """One training batch moves the running mean a tenth of the way to the batch's."""
    model, variables = made("resnet")
    zero = jax.tree.map(jnp.zeros_like, variables["batch_stats"])
    one = jax.tree.map(jnp.ones_like, zero)

    def step(stats):
        return apply(model, {**variables, "batch_stats": stats}, images, train=True, mutable="batch_stats")[1]

    kept = jax.tree.map(lambda a, b: a - b, step(one), step(zero))["batch_stats"]
    jax.tree.map(lambda a: np.testing.assert_allclose(a, 0.9, atol=1e-5), kept)


def test_option_a_shortcut_pads_channels_on_both_sides(key):
    """With the branch silenced a strided block passes every second pixel into the middle channels."""
    x = jax.random.uniform(key, (1, 6, 6, 4))
    block = BasicBlock(8, strides=2)
    variables = block.init(key, x)
    variables["params"]["bn2"]["scale"] *= 0
    expected = jnp.zeros((1, 3, 3, 8)).at[..., 2:6].set(x[:, ::2, ::2])
    assert jnp.array_equal(block.apply(variables, x), expected)


def test_dropout_of_wide_resnets(images):
    model, variables = made("wide", dropout=0.5)

    @jax.jit
    def training(key):
        return model.apply(variables, images, True, rngs={"dropout": key}, mutable="batch_stats")[0]

    first, again, other = (training(jax.random.key(seed)) for seed in (0, 0, 1))
    assert jnp.array_equal(first, again) and not jnp.allclose(first, other, atol=1e-2)


def test_training_on_nothing_leaves_the_statistics_alone(images):
    """An empty batch would make them NaN."""
    model, variables = made("resnet")
    with pytest.raises(ValueError, match="empty batch"):
        model.apply(variables, images[:0], train=True, mutable="batch_stats")


@pytest.mark.parametrize("name", slow_but(SPECS, "cnn"))
def test_features_are_what_the_last_layer_sees(name, images):
    """Times its kernel, plus its bias, they are the logits."""
    model, variables = made(name)
    classifier = models.as_classifier(model, variables)
    features, logits = jax.jit(jax.vmap(models.features(classifier)))(images)
    dense = variables["params"]["linear"]
    np.testing.assert_allclose(logits, features @ dense["kernel"] + dense["bias"][None], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(logits, jax.vmap(classifier)(images), rtol=1e-4, atol=1e-5)


def test_features_of_a_plain_function_are_refused():
    with pytest.raises(ValueError, match=r"x -> \(features, logits\) does in its place"):
        models.features(lambda x, key: x)


class Twice(nn.Module):
    """Two dense layers, one after the other."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(4, name="linear")(nn.tanh(nn.Dense(3, name="first")(x.reshape(len(x), -1))))


def test_features_are_those_of_the_last_of_several_dense_layers(images):
    variables = Twice().init(jax.random.key(0), images)
    features, logits = models.features(models.as_classifier(Twice(), variables))(images[0])
    dense = variables["params"]["linear"]
    assert features.shape == (3,)
    np.testing.assert_allclose(logits, features @ dense["kernel"] + dense["bias"], rtol=1e-5, atol=1e-6)
