"""Dropout: the mask of an example belongs to the example, whatever batch it comes in."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from rows import slow_but

from jaxdiff.models import UNet, WideResNet, as_classifier, as_net
from jaxdiff.models.layers import Dropout, example_rngs
from models.helpers import randomised


class Twice(nn.Module):
    """Two layers of dropout and one that is called twice, side by side."""

    @nn.compact
    def __call__(self, x, train=False):
        shared = Dropout(0.5, name="shared")
        return jnp.stack(
            [Dropout(0.5)(x, train), Dropout(0.5)(x, train), shared(x, train), shared(x, train)], 1
        )


def masks(keys, shape=(64,), model=None):
    """Where `model` keeps a batch of ones."""
    return (
        np.asarray((model or Twice()).apply({}, jnp.ones((len(keys), *shape)), True, rngs=example_rngs(keys)))
        > 0
    )


@pytest.fixture
def keys(key):
    return jax.random.split(key, 6)


def test_a_feature_is_dropped_or_scaled(key):
    x = jax.random.normal(key, (4, 50, 50))
    for rate in (0.1, 0.5, 0.9):
        y = Dropout(rate).apply({}, x, True, rngs=example_rngs(jax.random.split(key, 4)))
        kept = y != 0
        np.testing.assert_allclose(y, jnp.where(kept, x / (1 - rate), 0), rtol=1e-6)
        deviation = (rate * (1 - rate) / x.size) ** 0.5
        assert abs(kept.mean() - (1 - rate)) < 4 * deviation


def test_the_mask_of_an_example_is_its_own(keys):
    whole, order = masks(keys), jnp.array([4, 0, 3])
    np.testing.assert_array_equal(masks(keys[order]), whole[order])
    np.testing.assert_array_equal(np.concatenate([masks(keys[i : i + 2]) for i in (0, 2, 4)]), whole)


def test_examples_layers_and_calls_differ(keys):
    drawn = masks(keys).reshape(24, 64)  # 6 examples of 4 calls
    agreement = (drawn[:, None] == drawn[None]).mean(-1)[~np.eye(24, dtype=bool)]
    assert agreement.max() < 0.5 + 5.5 * (0.25 / 64) ** 0.5
    np.testing.assert_allclose(agreement.mean(), 0.5, atol=0.03)


def test_one_key_is_split_over_the_places_of_a_batch(key):
    def drawn(key, n=6):
        return np.asarray(Dropout(0.5).apply({}, jnp.ones((n, 64)), True, rngs={"dropout": key})) > 0

    one, other = drawn(key), drawn(jax.random.key(1))
    np.testing.assert_array_equal(drawn(key, 3), one[:3])
    for a, b in ((one[0], one[1]), (one[0], other[0])):
        assert 0.2 < (a == b).mean() < 0.8


def test_rematerialised_layers_draw_the_same(keys):
    np.testing.assert_array_equal(masks(keys, model=nn.remat(Twice, static_argnums=(2,))()), masks(keys))


def test_without_training_it_is_the_identity(key):
    x = jax.random.normal(key, (2, 3))
    for layer, train in ((Dropout(0.5), False), (Dropout(0.0), True)):
        assert jnp.array_equal(layer.apply({}, x, train), x)


def test_what_is_missing_is_told(key, keys):
    x = jnp.ones((4, 3))
    with pytest.raises(ValueError, match=r"rngs=example_rngs\(keys\)"):
        Dropout(0.5).apply({}, x, True)
    with pytest.raises(ValueError, match="6 keys for a batch of 4"):
        Dropout(0.5).apply({}, x, True, rngs=example_rngs(keys))
    for rate in (1.0, -0.1, float("nan")):
        with pytest.raises(ValueError, match=r"rate as a number in \[0, 1\)"):
            Dropout(rate).apply({}, x)


NETS = {
    "UNet": (UNet(4, (1,), 1, (), dropout=0.4), jnp.linspace(0.0, 900.0, 6)),
    "WideResNet": (WideResNet(10, 1, dropout=0.4), None),
}


@pytest.mark.parametrize("name", slow_but(NETS, "UNet"))
def test_a_network_drops_by_example(key, keys, name):
    """In another order the same, with other keys not; batch statistics do not see the order."""
    model, t = NETS[name]
    x = jax.random.uniform(key, (6, 4, 4, 3))
    variables = randomised(model, x[:1], *(() if t is None else (t[:1],)))

    @jax.jit
    def train(order, keys):
        inputs = (x[order],) if t is None else (x[order], t[order])
        rngs = example_rngs(keys[order])
        return model.apply(variables, *inputs, train=True, rngs=rngs, mutable=["batch_stats"])[0]

    order = jnp.array([3, 5, 0, 1, 4, 2])
    straight, mixed = train(jnp.arange(6), keys), train(order, keys)
    np.testing.assert_allclose(mixed, straight[order], rtol=1e-4, atol=1e-5)
    other = train(jnp.arange(6), keys.at[0].set(key))
    assert jnp.abs(other - straight)[0].max() > 1e-3
    if t is not None:  # group norm: no other example is touched
        np.testing.assert_allclose(other[1:], straight[1:], rtol=1e-4, atol=1e-5)


def test_lifted_networks_are_the_same_without_a_word_of_dropout(key):
    x = jax.random.uniform(key, (4, 4, 3))
    unet, wide = (NETS[name][0] for name in ("UNet", "WideResNet"))
    variables = randomised(unet, x[None], jnp.zeros(1)), randomised(wide, x[None])

    def program(dropout):
        net = as_net(unet.clone(dropout=dropout), variables[0])
        classifier = as_classifier(wide.clone(dropout=dropout), variables[1])
        return str(jax.make_jaxpr(lambda x: (net(x, 3.0), classifier(x, key)))(x))

    assert program(0.4) == program(0.0)
