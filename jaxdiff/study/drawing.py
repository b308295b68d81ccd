"""What stages that draw images share: arrays made once, batches over all devices, pictures in [0, 1]."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.data.dataset import Dataset
from jaxdiff.diffusion import Process, from_network, prior, sample
from jaxdiff.study.parts import Later, takes
from jaxdiff.train import data_mesh, spread
from jaxdiff.types import Denoiser, PRNGKey

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


class Sampler(NamedTuple):
    """How an image [*shape] is drawn: by a solver down the grid `ts`, from noise with so much `signal` at most; `denoise` and
    `solver` are parts, built with what they are told of the image.
    """

    denoise: Later
    solver: Later
    process: Process | None  # None: of a network that is not there yet
    ts: Any
    shape: tuple[int, ...]
    signal: float = 0.05

    @property
    def arrays(self) -> tuple[Any, Any]:
        """Those of what the parts name."""
        return self.denoise.arrays, self.solver.arrays

    def takes(self, name: str) -> bool:
        """Whether one of the parts wants to be told this."""
        return takes(self.denoise.spec, name) or takes(self.solver.spec, name)

    def __call__(
        self,
        arrays: tuple[Any, Any],
        key: PRNGKey,
        told: Mapping[str, Any],
        solve: Callable = sample,
        watched: Callable[[Denoiser], Denoiser] = lambda denoise: denoise,
    ) -> Any:
        """What `solve`, `sample` or `trajectory`, makes of noise, in [-1, 1]; the solver asks `watched(denoiser)`."""
        noise_key, solve_key = jax.random.split(key)
        x = prior(self.process, self.ts, self.shape, noise_key, signal=self.signal)
        denoise = watched(self.denoise(arrays[0], **told))
        return solve(self.solver(arrays[1], **told), denoise, x, self.ts, solve_key)


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
