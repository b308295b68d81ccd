"""NumPy's arrays, float32 and float64, give what JAX's arrays give, without a warning."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import models
from jaxdiff.models.preact import PreActResNet
from jaxdiff.models.resnet import BasicBlock, ResNet

warnings.simplefilter("error")
KEY = jax.random.key(0)
X = np.random.default_rng(0).uniform(size=(2, 4, 4, 3)).astype(np.float32)
NETS = {
    "cnn": models.CNN((4,), groups=0, mean=(0.5,) * 3, std=(0.5,) * 3),
    "resnet": ResNet(BasicBlock, (4,), (1,)),
    "preact": PreActResNet(4, (4,), 1),
}


def same(function):
    """Whether it gives the same for JAX's array and NumPy's two."""

    def call():
        expected = np.asarray(function(jnp.asarray(X)))
        return all(np.array_equal(function(x), expected) for x in (X, X.astype(np.float64)))

    return call


def network(model):
    return lambda x: model.apply(jax.jit(model.init)(KEY, X), x)


def lifted(model):
    return lambda x: models.as_classifier(model, jax.jit(model.init)(KEY, X))(x[0], KEY)


ROWS = {
    **{name: (same(network(model)),) for name, model in NETS.items()},
    **{f"{name}, lifted": (same(lifted(model)),) for name, model in NETS.items()},
    "initialise": (same(lambda x: models.initialise(NETS["cnn"], KEY, x)[0]["linear"]["kernel"]),),
}
