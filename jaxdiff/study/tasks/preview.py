"""Samples while a score network trains: a picture every so many steps, and numbers of few samples where features are given."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import checks
from jaxdiff.data.dataset import Dataset
from jaxdiff.evaluate import image_grid
from jaxdiff.evaluate.quality import Moments, agreement, frechet_distance
from jaxdiff.keys import example_keys, purpose
from jaxdiff.study.bound import shapes
from jaxdiff.study.drawing import Sampler, all_images, each, seen
from jaxdiff.study.networks import final_variables
from jaxdiff.study.parts import Later
from jaxdiff.study.study import Run
from jaxdiff.study.table.run import rounded, width
from jaxdiff.study.tasks.samples import classes_asked
from jaxdiff.train import TrainState, every
from jaxdiff.train.jsonl import append_jsonl, cut_jsonl

FOLDER, LOG = "preview", "preview.jsonl"


class Preview(NamedTuple):
    """See `preview`."""

    every: int
    one: Callable  # (score model, arrays, (key, y)) -> image in [0, 1]
    arrays: Any
    n: int
    labels: tuple[int, ...]
    features: Later | None
    data: Dataset
    sizes: tuple[int, int]


def preview(
    data: Callable[[str], Dataset],
    solver: Later,
    ts: Any,
    every: int,
    denoise: Later | None = None,
    n: int = 64,
    labels: Sequence[int] = (),
    features: Later | None = None,
    signal: float = 0.05,
    batch_size: int = 64,
    slots: int | None = None,
) -> Preview:
    """Every so many steps n samples of the average so far, from the same noise each time: preview/<step>.png.

    `denoise` is a part that is given the network as `score`, such as part(guidance.of_class, scale=2.0); left out it is the
    network itself. With `features` (see `quality`) preview.jsonl holds {"step", "fid", "accuracy"}: the Fréchet distance of
    these n samples to the training images, which is larger than that of more samples, and, of `labels`, how often the
    classifier sees them.
    """
    checks.count("preview", every=every)
    checks.count("preview", 2, n=n)
    dataset = data("train")
    itself = lambda model: Later("@score", {"score": model}, {})
    sampler = Sampler(denoise or itself(None), solver, None, ts, dataset.image_shape, signal)
    asked_for = classes_asked(labels, n, dataset.num_classes, sampler)

    def one(model: Any, arrays: Any, example: Any) -> jax.Array:
        key, y = example
        told = {"score": model, "process": model.process, **({"y": y} if asked_for else {})}
        of_model = sampler._replace(denoise=denoise or itself(model), process=model.process)
        return seen(of_model(arrays, key, told))

    return Preview(
        every,
        one,
        sampler.arrays,
        n,
        asked_for,
        features,
        dataset,
        (rounded(batch_size), width(slots, batch_size)),
    )


def hooks(told: Preview, bound: Callable[[Any], Any], run: Run) -> list[Callable]:
    """The hooks of the loop; `bound(variables)` is the score network as a product."""
    folder = run.folder / FOLDER
    folder.mkdir(exist_ok=True)
    keys = example_keys(purpose(run.key, "preview"), jnp.arange(told.n))
    classes = jnp.asarray(told.labels or (-1,) * told.n)
    make, size, known = bound(None).make, told.sizes, []

    def look(common: Any, image: jax.Array) -> Any:
        return told.features(common)(image)

    def moments_of_data() -> Moments:
        if not known:
            real = all_images(told.data)
            known.append(Moments.of(each(look, told.features.arrays, real, *size, "features")[0]))
        return known[0]

    def draw(step: int, state: TrainState, metrics: dict[str, Any]) -> None:
        variables = jax.device_get(final_variables(state))
        one = lambda common, example: told.one(make(common[0]), common[1], example)
        images = each(one, (variables, told.arrays), (keys, classes), *size, "preview")
        names = [told.data.label_names[y] for y in told.labels] or None
        image_grid(images, folder / f"{step:07d}.png", labels=names)
        if told.features is None:
            return
        finite = np.isfinite(images).reshape(told.n, -1).all(1)
        record: dict[str, Any] = {"step": step, "n": int(finite.sum())}
        if finite.sum() > 1:
            features, logits = each(look, told.features.arrays, images[finite], *size, "features")
            record["fid"] = frechet_distance(Moments.of(features), moments_of_data())
            if told.labels:
                record["accuracy"] = agreement(logits, np.asarray(told.labels)[finite]).accuracy
        cut_jsonl(run.folder / LOG, step - 1)
        append_jsonl(run.folder / LOG, record)

    return [every(told.every, draw)]


def check_preview(told: Any, product: Any) -> None:
    """Traces a sample of the network, of which the shapes are known; ValueError for what is no preview."""
    checks.instance("score", Preview, "part(tasks.preview, ...)", watch=told)
    first = (jax.random.key(0), jnp.asarray(0))
    jax.eval_shape(
        lambda variables, arrays: told.one(product.make(variables), arrays, first),
        shapes(product.arrays),
        shapes(told.arrays),
    )
