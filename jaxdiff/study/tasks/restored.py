"""The stage that restores images of which only a part, or a blur, is known: inpainting, super-resolution, deblurring."""

import json
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import checks
from jaxdiff.data.dataset import Dataset
from jaxdiff.diffusion import Process, to_network
from jaxdiff.evaluate import image_grid
from jaxdiff.evaluate.atomic import write_text
from jaxdiff.keys import example_keys, purpose
from jaxdiff.study.bound import shapes
from jaxdiff.study.drawing import Sampler, Samples, each, once, planned_samples, seen
from jaxdiff.study.parts import Aside, Later
from jaxdiff.study.study import Plan, Run
from jaxdiff.study.table.run import rounded, width

METRICS = ("psnr", "consistency")


def restored(
    data: Callable[[str], Dataset],
    denoise: Later,
    process: Process,
    solver: Later,
    ts: Any,
    corruption: Callable,
    n: int = 8,
    draws: int = 3,
    split: str = "test",
    batch_size: Aside[int] = 64,
    slots: Aside[int | None] = None,
) -> Plan:
    """The first n images of a split, corrupted by a part of `diffusion.corruptions`, and restored `draws` times.

    Parts of `denoise` and `solver` with the parameters `known` and `mask`, or `operator` and `measured`, are given what is left
    of each image, and those with `y` its class: part(guidance.inpainted, denoise="@score"), part(guidance.repaint, solver=...),
    part(guidance.measurement, denoise="@score", variance=part(guidance.posterior_noise, noise=1e-3)). Drawn are image, what is
    left, and the restorations; results.json has the mean PSNR in dB, and the root mean square of operator(restored) -
    operator(image), in [0, 1]. The product are the `Samples`.
    """
    checks.count("restored", n=n, draws=draws)
    dataset = data(split)
    checks.count("restored", 1, len(dataset), n=n)
    shape, size, width_ = dataset.image_shape, rounded(batch_size), width(slots, batch_size)
    sampler = Sampler(denoise, solver, process, ts, shape)
    told_class = sampler.takes("y")

    def one(arrays: Any, example: Any) -> tuple[jax.Array, jax.Array, dict[str, jax.Array]]:
        image, label, key, draw_key = example
        x0 = to_network(image)
        left = corruption(x0, purpose(key, "corruption"))
        x = sampler(arrays, draw_key, {**left.told, **({"y": label} if told_class else {})})
        found = seen(x)
        consistent = jnp.sqrt(jnp.mean((left.operator(x) - left.operator(x0)) ** 2)) / 2.0
        psnr = -10.0 * jnp.log10(jnp.mean((found - image) ** 2))
        return seen(left.shown), found, dict(zip(METRICS, (psnr, consistent), strict=True))

    image, label = jax.ShapeDtypeStruct(shape, jnp.float32), jax.ShapeDtypeStruct((), jnp.int32)
    keys = jax.random.key(0), jax.random.key(0)
    jax.eval_shape(one, shapes(sampler.arrays), (image, label, *keys))

    def make(run: Run) -> Samples:
        batch = dataset.fetch(np.arange(n))

        def restore() -> dict[str, np.ndarray]:
            ids = jnp.repeat(jnp.arange(n), draws)
            keys = example_keys(purpose(run.key, "restored"), ids)
            draw_keys = jax.vmap(jax.random.fold_in)(keys, jnp.tile(jnp.arange(draws), n))
            examples = batch["image"][ids], batch["label"][ids], keys, draw_keys
            shown, images, found = each(one, sampler.arrays, examples, size, width_, "restoring")
            return {"shown": shown[::draws], "images": images, **found}

        arrays = once(run.folder / "restored.npz", restore)
        images = arrays["images"]
        rows = np.concatenate(
            [batch["image"][:, None], arrays["shown"][:, None], images.reshape(n, draws, *shape)], axis=1
        )
        titles = ["image", "what is left", *["restored"] * draws] * n
        panel = image_grid(rows.reshape(-1, *shape), run.folder / "restored.png", draws + 2, titles)
        records = [
            {"metric": name, "split": split, "value": float(np.mean(arrays[name])), "n": len(images)}
            for name in METRICS
        ]
        write_text(run.folder / "results.json", json.dumps(records, indent=2) + "\n")
        labels = tuple(int(y) for y in np.repeat(batch["label"], draws))
        return Samples(run.name, images, {f"Restored ({run.name})": panel}, labels)

    return Plan(planned_samples(n * draws, shape), make)
