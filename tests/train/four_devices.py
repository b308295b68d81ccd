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


def train(devices, form, accumulate=1):
    """(leaves of the final state, noise of each step by example slot).

    Slots are disjoint over devices and parts, so their means over 2^n of them are exact up to a factor.
    """
    tx = adam(1e-2, warmup=2, clip=1.0)
    axis = "data" if form == "pmap" else None
    step, state, drawn = make_step(loss, tx, (0.9,), accumulate=accumulate, axis_name=axis), fresh(tx), []
    if form == "pmap":
        run, state = pmap_step(step, devices), replicate(state, devices)
    else:
        run = jit_step(step, data_mesh(devices))
    for n in range(STEPS):
        state, metrics = run(state, batch(n), KEY)
        drawn.append(np.asarray(metrics["noise"]) * (len(devices) if form == "pmap" else 1) * accumulate)
    state = unreplicate(state) if form == "pmap" else state
    return [np.asarray(x) for x in jax.tree.leaves(state)], np.array(drawn)


def distance(one, other):
    """(greatest difference of states, whether the noise is equal bit by bit)."""
    return max(float(np.abs(a - b).max()) for a, b in zip(one[0], other[0], strict=True)), bool(
        np.array_equal(one[1], other[1])
    )


def perturb(params, examples):
    """Per-example work without sums between examples: noise from each key, a network, and a loop."""
    x = examples["x"] + jax.vmap(lambda k: jax.random.normal(k, (8, 8, 1)))(examples["key"])
    x = jax.lax.fori_loop(0, 3, lambda _, x: x + 0.1 * jnp.sin(x), x)
    return {"x": x, "features": features(params, x)}


def spreading():
    """What `spread` gives on one and four devices, and the collectives in the program for four."""
    params = fresh(adam(1e-3)).params
    examples = {"x": batch(0)["x"], "key": jax.random.split(KEY, BATCH)}
    meshes = [data_mesh(jax.devices()[:n]) for n in (1, 4)]
    one, four = (spread(perturb, mesh)(params, examples) for mesh in meshes)
    trained = shared(params, meshes[0])  # committed to one device, as after training on CPU
    again = spread(perturb, meshes[1])(trained, examples)
    placed = shared(params, meshes[1]), split(examples, meshes[1])
    text = jax.jit(spread(perturb, meshes[1])).lower(*placed).compile().as_text()
    try:
        spread(perturb, meshes[1])(params, jax.tree.map(lambda x: x[:6], examples))
        error = ""
    except ValueError as raised:
        error = str(raised)
    return {
        "equal": all(np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (one, four)), strict=True)),
        "again": all(np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (four, again)), strict=True)),
        "devices": len(four["x"].sharding.device_set),
        "own part": f"f32[{BATCH // 4},8,8,1]" in text and f"f32[{BATCH},8,8,1]" not in text,
        "collectives": [c for c in COLLECTIVES if c in text],
        "error": error,
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
