"""Run by test_placement.py on four virtual CPU devices: one training in each placement, told as JSON."""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

jax.config.update("jax_num_cpu_devices", 4)

from jaxdiff.train import (  # noqa: E402
    Checkpoints,
    data_mesh,
    init_state,
    jit_step,
    make_step,
    pmap_step,
    replicate,
    shared,
    split,
    spread,
    training_devices,
    unreplicate,
)
from jaxdiff.train.optimizer import adam  # noqa: E402

KEY, BATCH, STEPS = jax.random.key(7), 8, 4
COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")


def noise(key, ids):
    return jax.vmap(lambda i: jax.random.normal(jax.random.fold_in(key, i), (8, 8, 1)))(ids)


def features(params, x):
    y = jax.lax.conv_general_dilated(
        x, params["conv"], (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return jax.nn.silu(y).mean((1, 2))


def loss(params, model_state, batch, key):
    """A convolution and a dense layer on noisy images; the model state is a running mean."""
    drawn = noise(key, batch["id"])
    y = features(params, batch["x"] + drawn)
    error = (y @ params["dense"])[:, 0] - batch["y"]
    by_slot = jnp.zeros(BATCH).at[batch["id"] % BATCH].set(drawn[:, 0, 0, 0])
    return (error**2).mean(), ({"noise": by_slot}, {"mean": 0.9 * model_state["mean"] + 0.1 * y.mean(0)})


def batch(n):
    rng = np.random.default_rng(n)
    x, y = rng.normal(size=(BATCH, 8, 8, 1)), rng.normal(size=BATCH)
    return {"x": x.astype(np.float32), "y": y.astype(np.float32), "id": BATCH * n + np.arange(BATCH)}


def fresh(tx):
    one, two = jax.random.split(jax.random.key(0))
    params = {"conv": jax.random.normal(one, (3, 3, 1, 4)), "dense": jax.random.normal(two, (4, 1))}
    return init_state(params, tx, (0.9,), {"mean": jnp.zeros(4)})


def placed(loss, tx, state, batches, form, devices, parts):
    """(the state after these batches, the metrics of each) with the batches in `parts` on the devices, by jit or pmap."""
    step = make_step(loss, tx, (0.9,), accumulate=parts, axis_name="data" if form == "pmap" else None)
    if form == "pmap":
        run, state = pmap_step(step, devices), replicate(state, devices)
    else:
        run = jit_step(step, data_mesh(devices))
    told = []
    for examples in batches:
        state, metrics = run(state, examples, KEY)
        told.append(jax.device_get(metrics))
    return unreplicate(state) if form == "pmap" else state, told


def train(devices, form, accumulate=1):
    """(leaves of the final state, noise of each step by example slot).

    Slots are disjoint over devices and parts, so their means over 2^n of them are exact up to a factor.
    """
    tx = adam(1e-2, warmup=2, clip=1.0)
    state, told = placed(loss, tx, fresh(tx), map(batch, range(STEPS)), form, devices, accumulate)
    factor = (len(devices) if form == "pmap" else 1) * accumulate
    return [np.asarray(x) for x in jax.tree.leaves(state)], np.array([m["noise"] * factor for m in told])


def distance(one, other):
    """(greatest difference of states, whether the noise is equal bit by bit)."""
    return max(float(np.abs(a - b).max()) for a, b in zip(one[0], other[0], strict=True)), bool(
        np.array_equal(one[1], other[1])
    )


def perturb(params, examples):
    """Per-example work without sums between examples: noise from each key, a loop, and an attack in small.

    Its gradients through wide products are what XLA computes in another order for another shape of batch.
    """
    x = examples["x"] + jax.vmap(lambda k: jax.random.normal(k, (8, 8, 1)))(examples["key"])
    wide = jnp.sin(jnp.arange(64.0 * 96.0)).reshape(64, 96)
    height = lambda x: jnp.sum(jnp.tanh(x.reshape(len(x), 64) @ wide) ** 2) + jnp.sum(features(params, x))
    x = jax.lax.fori_loop(0, 3, lambda _, x: x + 0.1 * jnp.sin(x) + 0.01 * jax.grad(height)(x), x)
    return {"x": x, "features": features(params, x)}


def spreading():
    """What `spread` gives for batches of several sizes and orders on one and four devices, and the program for four."""
    params = fresh(adam(1e-3)).params
    n = 23
    x = np.random.default_rng(0).normal(size=(n, 8, 8, 1)).astype(np.float32)
    examples = {"x": x, "key": jax.random.split(KEY, n)}
    take = lambda rows: jax.tree.map(lambda a: a[rows], examples)
    meshes = [data_mesh(jax.devices()[:k]) for k in (1, 4)]
    one, four = (spread(perturb, mesh, 2) for mesh in meshes)
    reference = jax.device_get(one(params, examples))

    def equal(run, parts, common=params):
        """Whether the results of the examples in `parts`, one batch after the other, are those of all at once on one device."""
        results = [jax.device_get(run(common, take(part))) for part in parts]
        joined = jax.tree.map(lambda *a: np.concatenate(a), *results)
        rows = np.concatenate(parts)
        wanted = jax.tree.map(lambda a: a[rows], reference)
        return all(np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (joined, wanted)), strict=True))

    order = np.arange(n)
    shuffled = np.random.default_rng(1).permutation(n)
    trained = shared(params, meshes[0])  # committed to one device, as after training on CPU
    eight = take(order[:8])
    placed = shared(params, meshes[1]), split(eight, meshes[1])
    text = jax.jit(four).lower(*placed).compile().as_text()
    return {
        "equal": {
            "four devices": equal(four, [order]),
            "one by one": equal(one, [order[i : i + 1] for i in order]),
            "batches of 5 on four": equal(four, np.array_split(order, 5)),
            "another order": equal(one, [shuffled]),
            "another order on four": equal(four, np.array_split(shuffled, 2)),
            "parameters from one device": equal(four, [order], trained),
        },
        "empty": jax.tree.map(np.shape, one(params, take(order[:0])))["features"],
        "devices": len(four(params, eight)["x"].sharding.device_set),
        "own part": "f32[2,8,8,1]" in text and "f32[8,8,8,1]" not in text,
        "collectives": [c for c in COLLECTIVES if c in text],
    }


def resharding(directory):
    """A checkpoint of one device, restored onto four."""
    tx, mesh = adam(1e-2), data_mesh()
    state = fresh(tx)
    with Checkpoints(directory) as checkpoints:
        checkpoints.save(1, state)
        restored, _ = checkpoints.restore(shared(state, mesh))
    pairs = list(zip(jax.tree.leaves(state), jax.tree.leaves(restored), strict=True))
    whole = NamedSharding(mesh, PartitionSpec())
    return {
        "equal": all(np.array_equal(a, b) for a, b in pairs),
        "everywhere": all(b.sharding.is_equivalent_to(whole, b.ndim) for _, b in pairs),
    }


def main(directory):
    devices = jax.devices()
    reference = {parts: train(devices[:1], "jit", parts) for parts in (1, 2)}
    cases = {
        "jit 4": ("jit", 4, 1),
        "pmap 1": ("pmap", 1, 1),
        "pmap 4": ("pmap", 4, 1),
        "jit 4, 2 parts": ("jit", 4, 2),
    }
    told = {
        "training_devices": len(training_devices()),
        "moved": float(np.abs(reference[1][0][1] - fresh(adam(1e-2)).params["conv"]).max()),
        "noise": float(np.abs(reference[1][1]).min()),
        "distances": {
            name: distance(train(devices[:count], form, parts), reference[parts])
            for name, (form, count, parts) in cases.items()
        },
        "spread": spreading(),
        "checkpoint": resharding(directory),
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1])
