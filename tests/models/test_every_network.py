"""What holds for every network: it keeps examples apart, takes any float type, any size, or nothing, and can be pickled."""

import pickle
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import refusals
from flax import linen as nn
from rows import slow_but

from jaxdiff import models
from jaxdiff.models.preact import PreActResNet
from jaxdiff.models.resnet import BasicBlock, Bottleneck, ResNet

from . import taken_models
from .helpers import apply, randomised

CLASSIFIERS = {
    "cnn": models.CNN((8, 8), groups=2, mean=(0.5,) * 3, std=(0.5,) * 3),
    "resnet": ResNet(BasicBlock, (4, 8), (1, 1)),
    "bottleneck": ResNet(Bottleneck, (2, 4), (1, 1), stem="imagenet"),
    "preact": PreActResNet(4, (4, 8), 1),
}
NETWORKS = CLASSIFIERS | {"unet": models.UNet(8, (1,), 1, attention=())}


def inputs(name, batch=3, side=4, dtype=jnp.float32):
    """Images in [0, 1], and times for the UNet."""
    x = np.random.default_rng(0).uniform(size=(batch, side, side, 3))
    return (jnp.asarray(x, dtype), *([jnp.arange(batch) * 99.0] if name == "unet" else []))


@pytest.fixture(scope="module", params=NETWORKS)
def network(request):
    """(name, model, random variables)."""
    model = NETWORKS[request.param]
    return request.param, model, randomised(model, *inputs(request.param))


def test_examples_are_kept_apart(network):
    """No output depends on another example: the derivative is exactly 0."""
    name, model, variables = network
    x, *rest = inputs(name)
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(model.apply(variables, x, *rest)[1] ** 2)))(x)
    assert jnp.abs(gradient[1]).max() > 1e-3
    assert (gradient[np.array([0, 2])] == 0).all()


@pytest.mark.parametrize(
    ("dtype", "error"),
    slow_but([("bfloat16", 0.05), ("float16", 0.01), ("float64", 1e-5)], ("bfloat16", 0.05)),
)
def test_images_of_any_float_type(network, dtype, error):
    """Logits are in float32 at least, a UNet answers in the type of its images; rounding is all that differs."""
    name, model, variables = network
    with jax.enable_x64(True):
        ours = apply(model, variables, *inputs(name, dtype=dtype))
    assert ours.dtype == (dtype if name == "unet" or dtype == "float64" else "float32")
    exact = np.asarray(apply(model, variables, *inputs(name)))
    assert np.linalg.norm(np.asarray(ours, np.float64) - exact) < error * np.linalg.norm(exact)


def test_no_image_gives_no_output(network):
    name, model, variables = network
    out = apply(model, variables, *inputs(name, batch=0))
    assert out.shape == ((0, 4, 4, 3) if name == "unet" else (0, 10)) and out.dtype == jnp.float32


def test_an_image_of_one_pixel_sees_the_middle_of_every_kernel(network):
    name, model, variables = network
    at = inputs(name, side=1)

    def middle(w):
        if w.ndim != 4:
            return w
        i, j = w.shape[0] // 2, w.shape[1] // 2
        return jnp.zeros_like(w).at[i, j].set(w[i, j])

    run = jax.jit(model.apply)
    out = run(variables, *at)
    np.testing.assert_allclose(run(jax.tree.map(middle, variables), *at), out, rtol=1e-4, atol=1e-5)
    assert (out[0] != out[1]).any()


def test_modules_can_be_pickled_hashed_and_compared(network):
    _, model, _ = network
    fields = {k: list(v) for k, v in vars(model).items() if isinstance(v, tuple)}
    assert fields and (
        isinstance(model, PreActResNet | models.UNet) or hash(model.clone(**fields)) == hash(model)
    )
    again = pickle.loads(pickle.dumps(model))
    assert again == model and hash(again) == hash(model)


told = refusals.fixture("models/taken_models.py")


@pytest.mark.parametrize("case", taken_models.ROWS)
def test_numpy_arrays_are_taken(told, case):
    assert told[case] == ["", "True"]


@pytest.mark.parametrize("classes", [2, 1000])
def test_as_many_classes_as_one_likes(classes):
    """The logits of some classes do not depend on how many others there are."""
    few, many = (CLASSIFIERS["cnn"].clone(classes=n) for n in (2, classes + 3))
    (x,) = inputs("cnn")
    variables = randomised(many, x)
    linear = jax.tree.map(lambda w: w[..., :2], variables["params"]["linear"])
    cut = {"params": variables["params"] | {"linear": linear}}
    np.testing.assert_allclose(apply(few, cut, x), apply(many, variables, x)[:, :2], rtol=1e-5, atol=1e-6)


class Times(nn.Module):
    def __call__(self, x, t, factor=1):
        return x * t[:, None, None, None] * factor

    def less(self, x, t):
        return x - t[:, None, None, None]

    def mean(self, x, factor=1):
        return x.mean((1, 2)) * factor


class TestLifted:
    model = CLASSIFIERS["cnn"]

    @pytest.fixture(scope="class")
    @classmethod
    def lifted(cls):
        return models.as_classifier(cls.model, randomised(cls.model, *inputs("cnn")))

    def test_jit_hash_and_pickle(self, lifted):
        x, key = inputs("cnn")[0][0], jax.random.key(0)
        again = pickle.loads(pickle.dumps(lifted))
        expected = jax.jit(lifted)(x, key)
        assert {lifted: 1}[lifted] == 1
        np.testing.assert_array_equal(jax.jit(again)(x, key), expected)
        np.testing.assert_array_equal(jax.jit(jax.checkpoint(lifted))(x, key), expected)
        static = jax.jit(lambda f, x: f(x, key), static_argnums=0)
        np.testing.assert_array_equal(static(lifted, x), expected)

    def test_numpy_one_example_and_none(self, lifted):
        x = inputs("cnn")[0]
        batched = jax.jit(jax.vmap(lifted, (0, None)))
        np.testing.assert_allclose(
            jax.jit(lifted)(np.asarray(x[1]), None), batched(x, None)[1], rtol=1e-5, atol=1e-6
        )
        assert batched(x[:0], None).shape == (0, 10)

    def test_options_reach_the_module(self):
        """Those of the call and those of `apply`."""
        x, times = jnp.ones((4, 4, 3)), Times()
        assert jnp.array_equal(models.as_net(times, {"params": {}}, factor=3)(x, 2.0), 6 * x)
        assert jnp.array_equal(models.as_net(times, {"params": {}}, method="less")(x, 2.0), x - 2)
        classify = models.as_classifier(times, {"params": {}}, method="mean", factor=7)
        assert jnp.array_equal(classify(x, jax.random.key(0)), jnp.full(3, 7.0))

    def test_a_net_too(self):
        model = NETWORKS["unet"]
        (x, t), variables = inputs("unet"), randomised(model, *inputs("unet"))
        net = pickle.loads(pickle.dumps(models.as_net(model, variables)))
        expected = apply(model, variables, x[:1], t[1:2])[0]
        np.testing.assert_allclose(jax.jit(net)(np.asarray(x[0]), 99.0), expected, rtol=1e-5, atol=1e-6)


def test_initialise_parts_what_init_gives():
    model, key = CLASSIFIERS["resnet"], jax.random.key(3)
    params, state = models.initialise(model, key, *inputs("resnet"))
    assert set(state) == {"batch_stats"}
    expected = jax.jit(model.init)(key, *inputs("resnet"))
    jax.tree.map(np.testing.assert_array_equal, {"params": params, **state}, dict(expected))


@pytest.mark.parametrize("name", NETWORKS)
def test_all_products_are_in_the_type_of_the_computation(name):
    """With `dtype="bfloat16"` no convolution and no matrix product is left in float32."""
    model = NETWORKS[name].clone(dtype="bfloat16")
    shapes = jax.eval_shape(model.init, jax.random.key(0), *inputs(name))
    text = str(jax.make_jaxpr(model.apply)(shapes, *inputs(name)))
    types = re.findall(r":(\w+)\[[\d,]*\] = (?:conv_general_dilated|dot_general)\[", text)
    assert len(types) >= 3 and set(types) == {"bf16"}
