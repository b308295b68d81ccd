"""Trains the score network of a config.

python experiments/train_score.py --config=configs/digits.py --workdir=runs/digits
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from common import Score, build_augment, build_sampler, build_score, load_data, need, run, width
from ml_collections import ConfigDict
from training import example_inputs, final_params, train

from jaxdiff.build import build
from jaxdiff.diffusion import denoising, losses, time_label
from jaxdiff.evaluate import image_grid
from jaxdiff.keys import example_keys, purpose
from jaxdiff.models.layers import example_rngs
from jaxdiff.train import TrainState, data_mesh, spread


def score_loss(config: ConfigDict, score: Score) -> Callable:
    """The denoising loss of a batch, for `make_step`; every example draws its own time, noise, augmentation and dropout."""
    losses_of = denoising(score.process, score.kind, build(losses, config.score.weight))
    draw_time, augmented = build(losses, config.score.time), build_augment(config.score.augment)

    def loss(params: Any, model_state: Any, batch: dict, key: jax.Array) -> tuple:
        keys = example_keys(key, batch["id"])
        part = lambda name: jax.vmap(lambda k: purpose(k, name))(keys)
        x0 = 2.0 * jax.vmap(augmented)(batch["image"], part("augment")) - 1.0

        def predict(x_t, label):
            rngs = example_rngs(part("dropout"))
            return score.model.apply({"params": params}, x_t, label, train=True, rngs=rngs)

        t = jax.vmap(draw_time)(part("time"))
        per_example = losses_of(time_label(predict, **score.label), x0, t, part("noise"))
        return jnp.mean(per_example), ({}, model_state)

    return loss


def draw_samples(
    config: ConfigDict, score: Score, image_shape: tuple[int, ...]
) -> Callable[[Any, Path], Path]:
    """(params, path) -> a grid of samples; always from the same noise, so that pictures can be compared."""
    spec, mesh = config.score.sample, data_mesh()
    sampler = spread(build_sampler(score, spec, image_shape), mesh, width(spec))

    def draw(params: Any, path: Path) -> Path:
        keys = example_keys(purpose(jax.random.key(config.seed), "samples"), jnp.arange(spec.n))
        return image_grid(jax.device_get(sampler(params, keys)), path)

    return draw


def train_score(config: ConfigDict, workdir: Path) -> Any:
    """Trains, or finishes training, the score network in workdir/score; returns its averaged parameters."""
    score, data = build_score(config), load_data(config, "train")
    draw = draw_samples(config, score, data.image_shape)

    def draw_state(state: TrainState, path: Path) -> Path:
        return draw(final_params(config.score, state), path)

    state = train(
        "score", config.score, config.seed, data, score.model, example_inputs(data, times=True),
        score_loss(config, score), workdir / "score", draw_state,
    )  # fmt: skip
    return final_params(config.score, state)


def main(config: ConfigDict, workdir: Path) -> None:
    """Trains."""
    need(config, "score")
    train_score(config, workdir)
    print(f"score network trained; checkpoints, metrics and samples are in {workdir / 'score'}")


if __name__ == "__main__":
    run(main)
