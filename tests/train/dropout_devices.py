"""Run by test_randomness.py on the four devices of four_devices.py: steps with dropout in each placement, told as JSON."""

import json

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from four_devices import BATCH, KEY, placed

from jaxdiff.models.layers import Dropout, example_rngs
from jaxdiff.train import data_mesh, digest, init_state, shared, split
from jaxdiff.train.optimizer import sgd

STEPS = 2


class Network(nn.Module):
    """Two dense layers with dropout, so that a mask moves the loss."""

    @nn.compact
    def __call__(self, x, train=False):
        h = Dropout(0.5)(nn.tanh(nn.Dense(16)(x)), train)
        return nn.Dense(1)(Dropout(0.5)(h, train))[:, 0]


MODEL, TX = Network(), sgd(0.1)


def loss(params, model_state, batch, key):
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(batch["id"])
    out = MODEL.apply({"params": params}, batch["x"], train=True, rngs=example_rngs(keys))
    return ((out - batch["y"]) ** 2).mean(), ({}, model_state)


def batch(n):
    rng = np.random.default_rng(n)
    x, y = rng.normal(size=(BATCH, 5)), rng.normal(size=BATCH)
    return {"x": x.astype(np.float32), "y": y.astype(np.float32), "id": BATCH * n + np.arange(BATCH)}


def train(form, devices, parts):
    """Losses of the steps and the last parameters."""
    state = init_state(MODEL.init(jax.random.key(0), jnp.ones((1, 5)))["params"], TX, (0.9,))
    state, told = placed(loss, TX, state, map(batch, range(STEPS)), form, devices, parts)
    leaves = [np.asarray(x).ravel() for x in jax.tree.leaves((state.params, state.ema))]
    return [float(metrics["loss"]) for metrics in told], np.concatenate(leaves).tolist()


def digests():
    """Of one tree whole on a device, whole on four, and split over four."""
    digest.SMALL = 0
    tree, mesh = {"x": jax.random.normal(KEY, (8, 3)), "n": jnp.arange(8)}, data_mesh()
    return [
        {name: leaf.digest for name, leaf in digest.digested(t).items()}
        for t in (tree, shared(tree, mesh), split(tree, mesh))
    ]


def main():
    one, four = jax.devices()[:1], jax.devices()
    cases = {
        "jit 1": ("jit", one, 1),
        "jit 1, 4 parts": ("jit", one, 4),
        "jit 4": ("jit", four, 1),
        "jit 4, 2 parts": ("jit", four, 2),
        "pmap 4": ("pmap", four, 1),
    }
    print(json.dumps({"runs": {name: train(*case) for name, case in cases.items()}, "digests": digests()}))


if __name__ == "__main__":
    main()
