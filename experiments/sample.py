"""Draws samples from a trained score network: a grid, a denoising trajectory, and the images as an array.

python experiments/sample.py --config=configs/digits.py --workdir=runs/digits --n=100
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from common import Score, build_sampler, build_score, from_network, load_data, need, run, width
from ml_collections import ConfigDict
from tqdm import tqdm
from training import example_inputs, final_params, start_state

from jaxdiff.build import build
from jaxdiff.diffusion import grids, prior, solvers, trajectory
from jaxdiff.evaluate import image_grid, trajectory_strip
from jaxdiff.keys import example_keys, purpose
from jaxdiff.train import Checkpoints, abstract, data_mesh, spread

N = flags.DEFINE_integer("n", None, "How many samples; default: config.score.sample.n.")


def load_score(config: ConfigDict, workdir: Path) -> tuple[Score, Any, tuple[int, ...]]:
    """The score network, the averaged parameters of its latest checkpoint, and the shape of its images."""
    score, data = build_score(config), load_data(config, "train")
    inputs = example_inputs(data, times=True)
    wanted = jax.eval_shape(lambda: start_state(config.score, score.model, inputs, config.seed)[0])
    folder = workdir / "score" / "checkpoints"
    with Checkpoints(folder) as checkpoints:
        restored = checkpoints.restore(abstract(wanted))
    if restored is None:
        raise FileNotFoundError(
            f"{folder} has no checkpoint; run experiments/train_score.py with this config first."
        )
    return score, final_params(config.score, restored[0]), data.image_shape


def draw(config: ConfigDict, score: Score, params: Any, image_shape: tuple[int, ...], n: int) -> np.ndarray:
    """n samples [n, H, W, C] in [0, 1]; sample i is the same whatever n is and, with `slots` given, the batch size."""
    spec, mesh = config.score.sample, data_mesh()
    size = -(-spec.batch_size // mesh.size) * mesh.size
    sampler = spread(build_sampler(score, spec, image_shape), mesh, width(spec))
    key = purpose(jax.random.key(config.seed), "samples")
    starts = tqdm(range(0, n, size), desc="sampling", unit="batch")
    images = [jax.device_get(sampler(params, example_keys(key, jnp.arange(i, i + size)))) for i in starts]
    return np.concatenate(images)[:n]


def draw_trajectory(
    config: ConfigDict,
    score: Score,
    params: Any,
    image_shape: tuple[int, ...],
    path: Path,
    rows: int = 4,
    columns: int = 9,
) -> Path:
    """A picture of how the first samples come out of noise."""
    spec = config.score.sample
    solver, ts = (
        build(solvers, spec.solver, process=score.process),
        build(grids, spec.grid, process=score.process),
    )
    shown = np.unique(np.linspace(0, len(ts) - 1, columns).round().astype(int))

    @jax.jit
    def states(params, keys):
        def one(key):
            noise_key, solve_key = jax.random.split(key)
            x = prior(score.process, ts, image_shape, noise_key)
            return trajectory(solver, score.denoiser(params, spec.clip), x, ts, solve_key)[shown]

        return from_network(jax.vmap(one)(keys))

    keys = example_keys(purpose(jax.random.key(config.seed), "samples"), jnp.arange(rows))
    return trajectory_strip(jax.device_get(states(params, keys)), np.asarray(ts)[shown], path)


def main(config: ConfigDict, workdir: Path) -> None:
    """Samples."""
    need(config, "score")
    n = N.value or config.score.sample.n
    if n < 1:
        raise ValueError(f"--n is a number of samples, at least 1; got {n}.")
    score, params, image_shape = load_score(config, workdir)
    images = draw(config, score, params, image_shape, n)
    broken = int((~np.isfinite(images).reshape(n, -1).all(1)).sum())
    folder = workdir / "samples"
    folder.mkdir(exist_ok=True)
    np.save(folder / "samples.npy", images)
    grid = image_grid(images[:100], folder / "samples.png")
    strip = draw_trajectory(config, score, params, image_shape, folder / "trajectory.png")
    print(f"{n} samples in {folder / 'samples.npy'}; pictures: {grid}, {strip}")
    if broken:
        print(f"WARNING: {broken} of {n} samples are not finite; their pixels are magenta in the pictures.")


if __name__ == "__main__":
    run(main)
