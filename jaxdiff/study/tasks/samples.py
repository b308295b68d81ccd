"""The stage that draws samples from a score network: a grid, a denoising trajectory, and the images as an array."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import checks
from jaxdiff.data.dataset import Dataset
from jaxdiff.diffusion import Process, Solver, from_network, prior, sample, trajectory
from jaxdiff.evaluate import image_grid, trajectory_strip
from jaxdiff.keys import example_keys, purpose
from jaxdiff.study.parts import Aside, Later
from jaxdiff.study.study import Plan, Run
from jaxdiff.study.table.run import rounded, width
from jaxdiff.train import data_mesh, spread

SAMPLES, STATES = "samples", "trajectory"


def samples(
    data: Callable[[str], Dataset],
    denoise: Later,
    process: Process,
    solver: Solver,
    ts: Any,
    n: int = 64,
    rows: int = 4,
    columns: Aside[int] = 9,
    batch_size: Aside[int] = 64,
    slots: Aside[int | None] = None,
) -> Plan:
    """n samples of the denoiser `denoise`, such as "@score" or part(diffusion.clipped, denoise="@score", clip=1.0), by whose
    process they are drawn.

    Sample i is the same whatever n is, and with `slots` given whatever the batch size. The product is {caption: picture}: the
    first hundred, and how the first `rows` come out of noise, at `columns` times. Samples that are not finite are said.
    """
    checks.count("samples", n=n, rows=rows)
    checks.count("samples", least=2, columns=columns)
    shape, size, width_ = data("train").image_shape, rounded(batch_size), width(slots, batch_size)

    def one(solve: Callable, arrays: Any, key: jax.Array) -> jax.Array:
        noise_key, solve_key = jax.random.split(key)
        x = prior(process, ts, shape, noise_key)
        return _seen(solve(solver, denoise(arrays), x, ts, solve_key))

    jax.eval_shape(lambda arrays: one(sample, arrays, jax.random.key(0)), denoise.arrays)

    def make(run: Run) -> dict[str, Path]:
        arrays = denoise.arrays
        keys = lambda ids: example_keys(purpose(run.key, "samples"), ids)
        images = _once(run.folder / f"{SAMPLES}.npy", lambda: _drawn(one, arrays, keys, n, size, width_))
        all_of = jax.jit(lambda arrays, keys: jax.vmap(lambda key: one(trajectory, arrays, key))(keys))
        states = _once(run.folder / f"{STATES}.npy", lambda: all_of(arrays, keys(jnp.arange(rows))))
        places = np.unique(np.linspace(0, len(ts) - 1, columns).round().astype(int))
        strip = trajectory_strip(states[:, places], np.asarray(ts)[places], run.folder / f"{STATES}.png")
        grid = image_grid(images[:100], run.folder / f"{SAMPLES}.png")
        broken = int((~np.isfinite(images).reshape(n, -1).all(1)).sum())
        if broken:
            print(
                f"WARNING: {broken} of {n} samples are not finite; their pixels are magenta in the pictures."
            )
        return {
            f"Samples ({run.name})": grid,
            f"Denoising, from noise (t = 1) to image (t = 0) ({run.name})": strip,
        }

    return Plan({}, make)


def _drawn(one: Callable, arrays: Any, keys: Callable, n: int, size: int, width: int) -> np.ndarray:
    from tqdm import tqdm

    drawn = spread(
        lambda arrays, keys: jax.vmap(lambda key: one(sample, arrays, key))(keys), data_mesh(), width
    )
    starts = tqdm(range(0, n, size), desc="sampling", unit="batch")
    return np.concatenate([jax.device_get(drawn(arrays, keys(jnp.arange(i, i + size)))) for i in starts])[:n]


def _once(path: Path, make: Callable[[], Any]) -> np.ndarray:
    """The array in a file, made if it is not there."""
    if not path.exists():
        fresh = path.with_name(f".{path.name}")
        np.save(fresh, jax.device_get(make()))
        fresh.replace(path)
    return np.load(path)


def _seen(x: jax.Array) -> jax.Array:
    """[-1, 1] -> [0, 1], clipped: for pictures. What is not finite is NaN, so that it is seen and counted."""
    return jnp.where(jnp.isfinite(x), jnp.clip(from_network(x), 0.0, 1.0), jnp.nan)
