"""The stage that measures likelihood: bits/dim by the bound and by the flow, and the denoising loss against time."""

import json
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import checks
from jaxdiff.data.dataset import Dataset
from jaxdiff.diffusion import Process, bits_per_dim, dequantised, to_network
from jaxdiff.evaluate.atomic import write_text
from jaxdiff.evaluate.axes import axis_plot
from jaxdiff.evaluate.quality.bootstrap import NORMAL
from jaxdiff.keys import example_keys, purpose
from jaxdiff.study.bound import shapes
from jaxdiff.study.drawing import each
from jaxdiff.study.parts import Aside, Later
from jaxdiff.study.study import Plan, Run
from jaxdiff.study.table.run import rounded, width


def likelihood(
    data: Callable[[str], Dataset],
    denoise: Later,
    process: Process,
    bound: Later | None = None,
    flow: Later | None = None,
    n: int | None = None,
    split: str = "test",
    repeats: int = 1,
    times: int = 20,
    batch_size: Aside[int] = 64,
    slots: Aside[int | None] = None,
) -> Plan:
    """Bits per dimension of the first n images of a split under the denoiser `denoise`, and its loss at so many times.

    `bound` is part(diffusion.variational_bound, steps=1000), whose prior, steps and decoder are given one by one; `flow` is
    part(diffusion.flow_likelihood), of images with uniform noise, `repeats` draws of each. Both know the process and the levels
    of the data's pixels. Intervals are 1.96 standard errors over images. results.json holds the numbers, loss.png the loss of
    the noise, with a CSV beside it. ValueError for neither bound nor flow.
    """
    checks.count("likelihood", repeats=repeats)
    checks.count("likelihood", 2, times=times)
    if bound is None and flow is None:
        raise ValueError(
            "likelihood needs bound=part(diffusion.variational_bound, steps=1000), or flow=part(diffusion.flow_likelihood)."
        )
    dataset = data(split)
    n = len(dataset) if n is None else n
    checks.count("likelihood", 1, len(dataset), n=n)
    levels, dims = dataset.white + 1, int(np.prod(dataset.image_shape))
    size, width_ = rounded(batch_size), width(slots, batch_size)
    parts = {name: part for name, part in (("bound", bound), ("flow", flow)) if part is not None}
    arrays_now = lambda: {"denoise": denoise.arrays, **{name: part.arrays for name, part in parts.items()}}

    def by_bound(arrays: Any, x: jax.Array, key: jax.Array) -> dict[str, jax.Array]:
        found = parts["bound"](arrays["bound"], process=process, levels=levels)(
            denoise(arrays["denoise"]), to_network(x), key
        )
        terms = {"prior": found.prior, "steps": jnp.sum(found.steps), "decoder": found.decoder}
        bits = {name: nats / (dims * jnp.log(2.0)) for name, nats in terms.items()}
        return {"bound": sum(bits.values()), **{f"bound_{name}": b for name, b in bits.items()}}

    def by_flow(arrays: Any, x: jax.Array, key: jax.Array) -> dict[str, jax.Array]:
        measure = parts["flow"](arrays["flow"], process=process)

        def once(key: jax.Array) -> jax.Array:
            noise_key, probe_key = jax.random.split(key)
            point = dequantised(x, noise_key, levels)
            found = measure(denoise(arrays["denoise"]), point, probe_key)
            return bits_per_dim(found.log_p, dims, levels)

        return {"flow": jnp.mean(jax.lax.map(once, jax.random.split(key, repeats)))}

    def errors(arrays: Any, x: jax.Array, key: jax.Array) -> jax.Array:
        """The mean square error of the noise at every time."""
        x0 = to_network(x)

        def at(t: jax.Array) -> jax.Array:
            noise = jax.random.normal(jax.random.fold_in(key, jnp.round(t * 1e6).astype(int)), x0.shape)
            error = denoise(arrays["denoise"])(process.perturb(x0, noise, t), t) - x0
            return jnp.mean(jnp.square(error)) * (process.alpha(t) / process.sigma(t)) ** 2

        return jax.lax.map(at, jnp.asarray(_times(times), jnp.float32))

    def one(arrays: Any, example: Any) -> tuple[dict[str, jax.Array], jax.Array]:
        x, key = example
        found = {}
        for name, measure in (("bound", by_bound), ("flow", by_flow)):
            if name in parts:
                found |= measure(arrays, x, purpose(key, name))
        return found, errors(arrays, x, purpose(key, "loss"))

    image = jax.ShapeDtypeStruct(dataset.image_shape, jnp.float32)
    jax.eval_shape(one, shapes(arrays_now()), (image, jax.random.key(0)))

    def make(run: Run) -> None:
        results = run.folder / "results.json"
        if results.exists():
            return
        keys = example_keys(purpose(run.key, "likelihood"), jnp.arange(n))
        examples = dataset.fetch(np.arange(n))["image"], keys
        bits, losses = each(one, arrays_now(), examples, size, width_, "likelihood")
        np.savez(run.folder / "bits.npz", **bits)
        mean, error = losses.mean(0), losses.std(0, ddof=1) / np.sqrt(n) if n > 1 else np.zeros(times)
        series = {"noise": (mean, mean - NORMAL * error, mean + NORMAL * error)}
        axis_plot(
            _times(times).round(4).tolist(), series, run.folder / "loss.png", "t", "mean square error of the noise",
            interval=f"95 % interval over {n} images",
        )  # fmt: skip
        records = [_record(name, each, split) for name, each in bits.items()]
        write_text(results, json.dumps(records, indent=2) + "\n")

    return Plan(None, make)


def _times(n: int) -> np.ndarray:
    return np.linspace(0.0, 1.0, n + 1)[1:]


def _record(name: str, bits: np.ndarray, split: str) -> dict[str, Any]:
    mean, n = float(bits.mean()), len(bits)
    half = NORMAL * float(bits.std(ddof=1)) / np.sqrt(n) if n > 1 else 0.0
    return {
        "metric": "bits_per_dim",
        "source": name,
        "split": split,
        "value": mean,
        "low": mean - half,
        "high": mean + half,
        "n": n,
    }
