"""Stages of images that no network drew: what the quality of samples is compared with."""

from collections.abc import Callable

import jax
import numpy as np

from jaxdiff import checks
from jaxdiff.data.dataset import Dataset
from jaxdiff.evaluate import image_grid
from jaxdiff.keys import purpose
from jaxdiff.study.drawing import SAMPLES, Samples, all_images, once, planned_samples
from jaxdiff.study.study import Plan, Run


def real(data: Callable[[str], Dataset], n: int | None = None, split: str = "test") -> Plan:
    """The first n images of a split, by default all: how good samples can be."""
    dataset = data(split)
    n = len(dataset) if n is None else n
    checks.count("real", 1, len(dataset), n=n)
    return _drawn(dataset, n, lambda run: all_images(dataset)[:n])


def noise(data: Callable[[str], Dataset], n: int = 1000) -> Plan:
    """n images of uniform noise."""
    checks.count("noise", n=n)
    dataset = data("train")
    draw = lambda run: jax.random.uniform(purpose(run.key, "noise"), (n, *dataset.image_shape))
    return _drawn(dataset, n, draw)


def pca_gaussian(data: Callable[[str], Dataset], n: int = 1000, components: int | None = None) -> Plan:
    """n images of the Gaussian fitted to "train", in its first principal components (by default all), clipped to [0, 1]."""
    checks.count("pca_gaussian", n=n)
    dataset = data("train")
    most = min(len(dataset), int(np.prod(dataset.image_shape)))
    components = most if components is None else components
    checks.count("pca_gaussian", 1, most, components=components)

    def draw(run: Run) -> np.ndarray:
        from sklearn.decomposition import PCA

        fitted = PCA(components, svd_solver="full").fit(all_images(dataset).reshape(len(dataset), -1))
        z = jax.random.normal(purpose(run.key, "components"), (n, components))
        images = fitted.inverse_transform(np.asarray(z, np.float64) * np.sqrt(fitted.explained_variance_))
        return np.clip(images, 0.0, 1.0).reshape(n, *dataset.image_shape)

    return _drawn(dataset, n, draw)


def _drawn(dataset: Dataset, n: int, draw: Callable[[Run], np.ndarray]) -> Plan:
    def make(run: Run) -> Samples:
        images = once(run.folder / SAMPLES, lambda: np.asarray(draw(run), np.float32))
        grid = image_grid(images[:100], run.folder / "samples.png")
        return Samples(run.name, images, {f"Images ({run.name})": grid})

    return Plan(planned_samples(n, dataset.image_shape), make)
