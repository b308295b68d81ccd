"""Run by test_placement.py as each of one or two processes: training, checkpoints, records."""

import json
import sys
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from jaxdiff.train import (
    Checkpoints,
    checkpointing,
    data_mesh,
    fit,
    init_state,
    jit_step,
    jsonl,
    make_step,
    pmap_step,
    replicate,
    resume,
    shared,
    training_devices,
    unreplicate,
)
from jaxdiff.train.optimizer import adam

TX, BATCH, DECAYS = adam(1e-2, clip=1.0), 8, (0.5,)


def loss(params, model_state, batch, key):
    noise = jax.vmap(lambda i: jax.random.normal(jax.random.fold_in(key, i), (3,)))(batch["id"])
    return ((jnp.tanh((batch["x"] + noise) @ params["w"]) - 1) ** 2).mean(), ({}, model_state)


class Stream:
    """The part of each batch that belongs to this process."""

    def __init__(self, process, count):
        self.position, self.part = 0, slice(process * BATCH // count, (process + 1) * BATCH // count)

    def __iter__(self):
        return self

    def __next__(self):
        x = np.random.default_rng(self.position).normal(size=(BATCH, 3)).astype(np.float32)
        ids = BATCH * self.position + np.arange(BATCH)
        self.position += 1
        return {"x": x[self.part], "id": ids[self.part]}

    def get_state(self):
        return self.position

    def set_state(self, position):
        self.position = position


def fresh():
    return init_state({"w": jnp.linspace(-1.0, 1.0, 6).reshape(3, 2)}, TX, DECAYS)


def damage(path, process):
    """The first process empties the facts of a checkpoint; the others wait for it."""
    if process == 0:
        (path / "facts" / "metadata").write_text("")
    multihost_utils.sync_global_devices("damaged")


def with_jit(directory, process, count):
    """Four steps, then a second run that resumes and takes two more; of two hosts, from a damaged checkpoint."""
    mesh, key = data_mesh(training_devices()), jax.random.key(1)
    step = jit_step(make_step(loss, TX, DECAYS), mesh)
    for total in (4, 6):
        batches = Stream(process, count)
        with Checkpoints(directory / f"of_{count}") as checkpoints:
            state = resume(checkpoints, shared(fresh(), mesh), batches)
            hooks = [
                checkpointing(checkpoints, batches, 2, total),
                jsonl(directory / f"of_{count}.jsonl", BATCH, 1),
            ]
            state = fit(step, state, batches, total, hooks, key)
        if count > 1 and total == 4:
            damage(directory / f"of_{count}" / "4", process)
            warnings.filterwarnings("ignore", "The checkpoint of step 4")
    assert (directory / f"of_{count}" / "damaged-4").is_dir() == (count > 1)
    return jax.tree.map(lambda x: x.addressable_data(0), state)


def with_pmap(process, count):
    step = pmap_step(make_step(loss, TX, DECAYS, axis_name="data"))
    return unreplicate(fit(step, replicate(fresh()), Stream(process, count), 6, [], jax.random.key(1)))


def main(process, count, port, directory):
    if count > 1:
        jax.distributed.initialize(f"localhost:{port}", count, process)
    states = {"jit": with_jit(Path(directory), process, count), "pmap": with_pmap(process, count)}
    leaves = {
        name: [np.asarray(x).tolist() for x in jax.tree.leaves(state)] for name, state in states.items()
    }
    print(json.dumps(leaves))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4])
