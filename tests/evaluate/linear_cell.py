"""A cell whose arithmetic is exact in float32: images in multiples of 1/64, integer weights, steps of 1/32.

So rows must agree to the last bit whatever the batch size, the order and the interruptions.
"""

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.evaluate import outcome

N, RADIUS = 23, 1 / 32
TRACES = Counter()  # by batch size
_rng = np.random.default_rng(0)
IMAGES = _rng.integers(0, 65, (N, 4, 4, 1)).astype(np.float32) / 64
WEIGHTS = _rng.integers(-3, 4, (16, 3)).astype(np.float32)
LABELS = np.where(_rng.random(N) < 0.8, (IMAGES.reshape(N, 16) @ WEIGHTS).argmax(1), 0)


def fetch(ids):
    return {"image": IMAGES[ids], "label": LABELS[ids], "id": ids}


def logits(x):
    return x.reshape(16) @ WEIGHTS


def attack_one(x, y, example):
    """One signed step against the margin after a random start of the example's own."""

    def loss(x):
        others = jnp.where(jnp.arange(3) == y, -jnp.inf, logits(x))
        return others.max() - logits(x)[y]

    start = jax.random.randint(jax.random.fold_in(jax.random.key(0), example), x.shape, -1, 2) / 64
    step = RADIUS * jnp.sign(jax.grad(loss)(x))
    x_adv = jnp.clip(x + jnp.clip(start + step, -RADIUS, RADIUS), 0, 1)
    return outcome(x, x_adv, logits(x), logits(x_adv), loss(x_adv), jnp.abs(x_adv - x).max())


def attack_batch(batch):
    TRACES[len(batch["id"])] += 1
    return jax.vmap(attack_one)(batch["image"], batch["label"], batch["id"])


attack = jax.jit(attack_batch)
