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
WIDE = X.astype(np.float64)
NETS = {
    "cnn": models.CNN((4,), groups=0, mean=(0.5,) * 3, std=(0.5,) * 3),
    "resnet": ResNet(BasicBlock, (4,), (1,)),
    "preact": PreActResNet(4, (4,), 1),
}


def same(function):
    """Whether it gives the same for JAX's array and NumPy's two; inside jit as constants, which stay what they are."""

    def call():
        expected, *others = (np.asarray(jax.jit(lambda: function(x))()) for x in (jnp.asarray(X), X, WIDE))
        return all(np.allclose(other, expected, rtol=1e-5, atol=1e-6) for other in others)

    return call


def network(model):
    return lambda x: model.apply(model.init(KEY, jnp.asarray(X)), x)


def lifted(model):
    return lambda x: models.as_classifier(model, model.init(KEY, jnp.asarray(X)))(x[0], KEY)


ROWS = {
    **{name: (same(network(model)),) for name, model in NETS.items()},
    "lifted": (same(lifted(NETS["cnn"])),),
    "initialise": (same(lambda x: models.initialise(NETS["cnn"], KEY, x)[0]["linear"]["kernel"]),),
}
