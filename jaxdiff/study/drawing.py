"""What stages that draw images share: arrays made once, batches over all devices, pictures in [0, 1]."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.data.dataset import Dataset
from jaxdiff.diffusion import from_network
from jaxdiff.train import data_mesh, spread

SAMPLES = "samples.npy"


class Samples(NamedTuple):
    """Images [n, h, w, c] in [0, 1] as the product of a stage: what drew them, {caption: picture}, and the labels asked for.

    Before they are drawn, images are their shape.
    """

    source: str
    images: Any
    pictures: Mapping[str, Path] = {}
    labels: tuple[int, ...] = ()
    evaluations: int | None = None  # of the denoiser, for each


def planned_samples(n: int, shape: tuple[int, ...], labels: tuple[int, ...] = ()) -> Samples:
    """The shape of samples that are to be drawn."""
    return Samples("", jax.ShapeDtypeStruct((n, *shape), jnp.float32), {}, labels)


def once(path: Path, make: Callable[[], Any]) -> Any:
    """The array in a .npy file, or the arrays by their names in a .npz, made if it is not there: whole, or not at all."""
    if not path.exists():
        fresh, made = path.with_name(f".{path.name}"), jax.device_get(make())
        if path.suffix == ".npz":
            np.savez(fresh, **made)
        else:
            np.save(fresh, made)
        fresh.replace(path)
    if path.suffix != ".npz":
        return np.load(path)
    with np.load(path) as stored:
        return dict(stored)


def each(one: Callable, common: Any, examples: Any, size: int, width: int, what: str) -> Any:
    """one(common, example) of all examples, leaves [n, ...], over all devices: `size` at a time, `width` at once on each."""
    from tqdm import tqdm

    f = spread(lambda common, batch: jax.vmap(lambda e: one(common, e))(batch), data_mesh(), width)
    n = len(jax.tree.leaves(examples)[0])
    found = []
    for i in tqdm(range(0, n, size), desc=what, unit="batch"):
        # The last batch is filled up, so that there is one program.
        places = np.minimum(np.arange(i, i + size), n - 1)
        part = f(common, jax.tree.map(lambda x, places=places: x[places], examples))
        found.append(jax.tree.map(lambda x, i=i: x[: n - i], jax.device_get(part)))
    return jax.tree.map(lambda *parts: np.concatenate(parts), *found)


def seen(x: jax.Array) -> jax.Array:
    """[-1, 1] -> [0, 1], clipped: for pictures. What is not finite is NaN, so that it is seen and counted."""
    return jnp.where(jnp.isfinite(x), jnp.clip(from_network(x), 0.0, 1.0), jnp.nan)


def all_images(dataset: Dataset) -> np.ndarray:
    """The images of a split, [n, h, w, c] in [0, 1]."""
    return dataset.fetch(np.arange(len(dataset)))["image"]
