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
from jaxdiff.types import Denoiser, Image, PRNGKey, Scalar


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
    size, width_ = rounded(batch_size), width(slots, batch_size)
    given = {"denoise": denoise, "bound": bound, "flow": flow}
    arrays_now = lambda: {name: part.arrays for name, part in given.items() if part is not None}
    context = {"process": process, "levels": dataset.white + 1}

    def one(arrays: Any, example: Any) -> tuple[dict[str, jax.Array], jax.Array]:
        x, key = example
        denoiser, bits = denoise(arrays["denoise"]), {}
        if bound is not None:
            bits |= _by_bound(bound(arrays["bound"], **context), denoiser, x, purpose(key, "bound"))
        if flow is not None:
            measure = flow(arrays["flow"], **context)
            bits |= _by_flow(measure, denoiser, x, purpose(key, "flow"), context["levels"], repeats)
        return bits, _errors(process, denoiser, x, purpose(key, "loss"), times)

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


def _by_bound(measure: Callable, denoise: Denoiser, x: Image, key: PRNGKey) -> dict[str, Scalar]:
    """Bits per dimension of an image in [0, 1] by the bound, and term by term."""
    found = measure(denoise, to_network(x), key)
    nats = {"prior": found.prior, "steps": jnp.sum(found.steps), "decoder": found.decoder}
    bits = {f"bound_{name}": term / (x.size * jnp.log(2.0)) for name, term in nats.items()}
    return {"bound": sum(bits.values()), **bits}


def _by_flow(
    measure: Callable, denoise: Denoiser, x: Image, key: PRNGKey, levels: int, repeats: int
) -> dict[str, Scalar]:
    """Bits per dimension by the flow, in the mean over `repeats` draws of the noise within a level, and of probes."""

    def once(key: PRNGKey) -> Scalar:
        noise_key, probe_key = jax.random.split(key)
        found = measure(denoise, dequantised(x, noise_key, levels), probe_key)
        return bits_per_dim(found.log_p, x.size, levels)

    return {"flow": jnp.mean(jax.lax.map(once, jax.random.split(key, repeats)))}


def _errors(process: Process, denoise: Denoiser, x: Image, key: PRNGKey, times: int) -> jax.Array:
    """The mean square error of the noise at so many times."""
    x0 = to_network(x)

    def at(i: Any, t: Any) -> Scalar:
        noise = jax.random.normal(jax.random.fold_in(key, i), x0.shape)
        error = denoise(process.perturb(x0, noise, t), t) - x0
        return jnp.mean(jnp.square(error)) * (process.alpha(t) / process.sigma(t)) ** 2

    return jax.lax.map(lambda it: at(*it), (jnp.arange(times), jnp.asarray(_times(times), jnp.float32)))


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
