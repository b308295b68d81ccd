"""A small study that trains: a classifier and a score network on a few digits."""

from jaxdiff import data, defenses, diffusion, models, train
from jaxdiff.study import part, study, tasks

ADAM = part(train.optimizer.adam, lr=1e-2)


def training(steps=4, optimizer=ADAM, **more):
    """A training run of a few steps."""
    return part(
        tasks.training,
        **{"optimizer": optimizer, "steps": steps, "batch_size": 8, "ema_decays": (0.5,), "log_every": 1}
        | more,
    )


def classifier(**more):
    """A tiny classifier."""
    settings = {
        "model": part(models.CNN, channels=(4,), mean=(0.3,), std=(0.4,)),
        "loss": part(defenses.training.standard),
        "train": training(),
    }
    return part(tasks.classifier, **settings | more)


def score(**more):
    """A tiny score network."""
    settings = {
        "model": part(models.UNet, channels=4, multipliers=(1,), blocks=1, attention=(), dropout=0.0),
        "process": part(diffusion.VP),
        "kind": "eps",
        "label": part(diffusion.time_label, scale=999.0),
        "loss": part(diffusion.denoising, weight=part(diffusion.weights.simple)),
        "time": part(diffusion.noise_levels.uniform),
        "train": training(),
    }
    return part(tasks.score, **settings | more)


def samples(**more):
    """A few samples of the score network."""
    settings = {
        "denoise": part(diffusion.clipped, denoise="@score", clip=1.0),
        "solver": part(diffusion.ddim),
        "ts": part(diffusion.grids.uniform, steps=3),
        "n": 3,
    }
    return part(tasks.samples, **settings | more)


def config(seed=0, validation=0.1, **stages):
    """A study of these stages."""
    return study(seed=seed, data=part(data.dataset.digits, validation=validation), stages=stages)
