"""The stage that draws samples from a score network: a grid, a denoising trajectory, and the images as an array."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import checks
from jaxdiff.data.dataset import Dataset
from jaxdiff.diffusion import Process, sample, trajectory
from jaxdiff.diffusion.conditions import NO_CLASS
from jaxdiff.evaluate import image_grid, trajectory_strip
from jaxdiff.evaluate.atomic import write_text
from jaxdiff.keys import example_keys, purpose
from jaxdiff.study.bound import shapes
from jaxdiff.study.drawing import SAMPLES, Sampler, Samples, each, once, planned_samples, seen
from jaxdiff.study.parts import Aside, Later
from jaxdiff.study.study import Plan, Run
from jaxdiff.study.table.run import rounded, width

STATES, SHOWN = "trajectory", 100


def samples(
    data: Callable[[str], Dataset],
    denoise: Later,
    process: Process,
    solver: Later,
    ts: Any,
    n: int = 64,
    labels: Sequence[int] = (),
    signal: float = 0.05,
    rows: int = 4,
    columns: Aside[int] = 9,
    batch_size: Aside[int] = 64,
    slots: Aside[int | None] = None,
) -> Plan:
    """n samples of the denoiser `denoise`, such as "@score" or part(diffusion.clipped, denoise="@score", clip=1.0), by whose
    process they are drawn.

    With `labels` sample i is of class labels[i mod their number]: every part with a parameter `y` is given it, such as
    part(guidance.of_class, score="@score", scale=2.0). Sample i is the same whatever n is, and with `slots` given whatever the
    batch size. They begin as noise at ts[0], where so much `signal` is allowed (see `prior`). The product are the `Samples`;
    drawn are the first hundred, and how the first `rows` come out of noise, at `columns` times. results.json says how often
    the denoiser was asked; samples that are not finite are said.
    """
    checks.count("samples", n=n, rows=rows)
    checks.count("samples", least=2, columns=columns)
    dataset = data("train")
    shape, size, width_ = dataset.image_shape, rounded(batch_size), width(slots, batch_size)
    sampler = Sampler(denoise, solver, process, ts, shape, signal)
    asked_for = classes_asked(labels, n, dataset.num_classes, sampler)

    def one(solve: Callable, arrays: Any, example: Any, watched: Callable = lambda f: f) -> jax.Array:
        key, y = example
        return seen(sampler(arrays, key, {"y": y} if asked_for else {}, solve, watched))

    first = (jax.random.key(0), jnp.asarray(0))
    jax.eval_shape(lambda arrays: one(sample, arrays, first), shapes(sampler.arrays))

    def make(run: Run) -> Samples:
        arrays = sampler.arrays
        ids = jnp.arange(n)
        keys = example_keys(purpose(run.key, "samples"), ids)
        classes = jnp.asarray(asked_for or (NO_CLASS,) * n)
        draw = lambda: each(
            lambda arrays, e: one(sample, arrays, e), arrays, (keys, classes), size, width_, "sampling"
        )
        images = once(run.folder / SAMPLES, draw)
        all_of = jax.jit(lambda arrays, *e: jax.vmap(lambda *e: one(trajectory, arrays, e))(*e))
        states = once(run.folder / f"{STATES}.npy", lambda: all_of(arrays, keys[:rows], classes[:rows]))
        places = np.unique(np.linspace(0, len(ts) - 1, columns).round().astype(int))
        strip = trajectory_strip(states[:, places], np.asarray(ts)[places], run.folder / f"{STATES}.png")
        names = [dataset.label_names[y] for y in asked_for[:SHOWN]] or None
        grid = image_grid(images[:SHOWN], run.folder / "samples.png", labels=names)
        results = run.folder / "results.json"
        if not results.exists():
            first = lambda arrays, watched: one(sample, arrays, (keys[0], classes[0]), watched)
            asked = {"metric": "evaluations", "value": evaluations(first, arrays), "n": 1}
            write_text(results, json.dumps([asked], indent=2) + "\n")
        (asked,) = json.loads(results.read_text(encoding="utf-8"))
        _say_broken(images)
        return Samples(
            run.name,
            images,
            {
                f"Samples ({run.name})": grid,
                f"Denoising, from noise (t = 1) to image (t = 0) ({run.name})": strip,
            },
            asked_for,
            asked["value"],
        )

    return Plan(planned_samples(n, shape, asked_for), make)


def classes_asked(labels: Sequence[int], n: int, classes: int, sampler: Sampler) -> tuple[int, ...]:
    """The class of each of n samples, or none; ValueError for labels that are no classes, or that no part takes."""
    if not labels:
        return ()
    for label in labels:
        checks.count("labels", 0, classes - 1, label=label)
    if not sampler.takes("y"):
        raise ValueError(
            "There are labels, but no part that takes a class: denoise=part(diffusion.guidance.of_class, score='@score')."
        )
    return tuple(int(labels[i % len(labels)]) for i in range(n))


def evaluations(run: Callable[[Any, Callable], Any], arrays: Any) -> int:
    """How often a function is asked in run(arrays, how to watch it): counted as it runs, in loops as well."""
    calls = []

    def watched(f: Callable) -> Callable:
        def asked(*arguments: Any) -> Any:
            jax.debug.callback(lambda: calls.append(1))
            return f(*arguments)

        return asked

    jax.block_until_ready(jax.jit(lambda arrays: run(arrays, watched))(arrays))
    jax.effects_barrier()
    return len(calls)


def _say_broken(images: np.ndarray) -> None:
    broken = int((~np.isfinite(images).reshape(len(images), -1).all(1)).sum())
    if broken:
        print(
            f"WARNING: {broken} of {len(images)} samples are not finite; their pixels are magenta in the pictures."
        )
