"""Run by test_resume.py: trains a small network to step 24, resuming from what its directory holds."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.train import (
    Checkpoints,
    checkpointing,
    data_mesh,
    every,
    fit,
    init_state,
    jit_step,
    jsonl,
    make_step,
    resume,
    training_devices,
)
from jaxdiff.train.optimizer import adam

TOTAL, BATCH = 24, 8


class Stream:
    """A permutation of 40 examples in each epoch, known from its position alone."""

    def __init__(self):
        self.position = 0

    def __iter__(self):
        return self

    def __next__(self):
        epoch, start = divmod(self.position, 40)
        ids = np.random.default_rng(epoch).permutation(40)[start : start + BATCH]
        self.position += BATCH
        images = np.stack([np.random.default_rng(1000 + i).normal(size=(8, 8, 1)) for i in ids])
        return {"x": images.astype(np.float32), "id": epoch * 40 + ids}

    def get_state(self):
        return {"position": self.position}

    def set_state(self, state):
        self.position = state["position"]


def loss(params, model_state, batch, key):
    """Predicts the noise, drawn by example id, from a noisy image."""
    noise = jax.vmap(lambda i: jax.random.normal(jax.random.fold_in(key, i), (8, 8, 1)))(batch["id"])
    x = batch["x"] + noise
    for w in params["convs"]:
        x = jax.lax.conv_general_dilated(
            jnp.tanh(x), w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
    return ((x - noise) ** 2).mean(), ({}, {"mean": 0.9 * model_state["mean"] + 0.1 * x.mean()})


def fresh(tx):
    keys = jax.random.split(jax.random.key(0), 2)
    convs = [0.3 * jax.random.normal(keys[0], (3, 3, 1, 8)), 0.3 * jax.random.normal(keys[1], (3, 3, 8, 1))]
    return init_state({"convs": convs}, tx, (0.9, 0.5), {"mean": jnp.zeros(())})


def tell(n, state, metrics):
    """A line the test waits for; the test may kill this process at any moment after it."""
    print(n, flush=True)


def main(directory):
    tx, batches, mesh = adam(1e-2, warmup=4, clip=1.0), Stream(), data_mesh(training_devices())
    step = jit_step(make_step(loss, tx, (0.9, 0.5)), mesh)
    with Checkpoints(directory / "checkpoints") as checkpoints:
        state = resume(checkpoints, fresh(tx), batches)
        print("from", int(state.step), flush=True)
        records = jsonl(directory / "metrics.jsonl", BATCH, every=1)
        hooks = [every(1, tell), records, checkpointing(checkpoints, batches, 4, TOTAL)]
        state = fit(step, state, batches, TOTAL, hooks, jax.random.key(1))
    np.savez(directory / "final.npz", *jax.tree.leaves(state))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
