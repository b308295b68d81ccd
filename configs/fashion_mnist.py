"""Fashion-MNIST, 28x28 grey: the table of configs/digits.py on a larger set.

    python experiments/robustness.py --config=configs/fashion_mnist.py --workdir=runs/fashion_mnist

The data set is TFDS's `fashion_mnist`, prepared as array_record; radius 0.1 in L-infinity, as in the literature on this set.
Variant "smoke": seconds, for tests.
"""

from ml_collections import ConfigDict

RADIUS = 0.1
MEAN, STD = (0.286,), (0.353,)
FGSM = {"name": "fgsm", "lr": RADIUS}
PGD = {"name": "pgd", "lr": RADIUS / 8, "steps": 40, "keep_best": True}


def _train(steps, ema):
    return {
        "steps": steps,
        "batch_size": 128,
        "ema_decays": (ema,),
        "accumulate": 1,
        "log_every": 50,
        "checkpoint_every": 1000,
        "keep": 2,
        "draw_every": 5000,
    }


def _score():
    return {
        "model": {
            "name": "UNet",
            "channels": 32,
            "multipliers": (1, 2, 2),
            "blocks": 2,
            "attention": (7,),
            "dropout": 0.1,
        },
        "process": {"name": "VP", "beta_min": 0.1, "beta_max": 20.0},
        "kind": "eps",
        "label": {"scale": 999.0, "offset": 0.0},
        "weight": {"name": "simple"},
        "time": {"name": "uniform_time", "t_min": 1e-4},
        "augment": ({"name": "flip"},),
        "optimizer": {"name": "adam", "lr": 1e-3, "warmup": 500, "schedule": "cosine", "clip": 1.0},
        "train": _train(20_000, 0.999),
        "sample": {
            "solver": {"name": "dpmpp_2m"},
            "grid": {"name": "logsnr", "steps": 30},
            "clip": 1.0,
            "n": 64,
            "batch_size": 64,
        },
    }


def _classifier(loss, steps):
    return {
        "model": {"name": "CNN", "channels": (32, 64, 128, 128), "mean": MEAN, "std": STD},
        "augment": ({"name": "flip"},),
        "loss": loss,
        "optimizer": {"name": "adamw", "lr": 2e-3, "weight_decay": 0.05, "warmup": 500, "schedule": "cosine"},
        "train": _train(steps, 0.999),
    }


def _robustness():
    return {
        "n": 512,
        "batch_size": 64,
        "show": 8,
        "threat": {"name": "linf", "radius": RADIUS},
        "objective": {"name": "cross_entropy"},
        "purify": {
            "solver": {"name": "ddpm"},
            "grid": {"name": "uniform", "start": 0.1, "end": 0.0, "steps": 10},
            "clip": None,
            "remat": "step",
        },
        "cells": {
            "none": {"standard": {}, "fgsm": {"ascent": FGSM}, "pgd": {"ascent": PGD}},
            "adversarial_training": {"standard": {}, "fgsm": {"ascent": FGSM}, "pgd": {"ascent": PGD}},
            "diffpure": {
                "standard": {},
                "fgsm": {"ascent": FGSM},
                "pgd": {"ascent": {**PGD, "keep_best": False}, "n": 128},
                "blind_pgd": {"ascent": PGD, "gradient": "blind"},
                "bpda": {"ascent": {**PGD, "keep_best": False}, "gradient": "bpda", "eot": 8, "n": 128},
                "adaptive_pgd": {
                    "ascent": {"name": "pgd", "lr": RADIUS / 8, "steps": 20},
                    "eot": 8,
                    "n": 128,
                },
            },
        },
        "curve": {
            "radii": (0.0, 0.025, 0.05, 0.1, 0.15),
            "cells": ("none/pgd", "adversarial_training/pgd"),
            "n": 512,
        },
    }


def get_config(variant: str = "default") -> ConfigDict:
    """The config of a variant: "default" or "smoke"."""
    if variant not in ("default", "smoke"):
        raise ValueError(f"configs/fashion_mnist.py has no variant {variant!r}. Known: ['default', 'smoke'].")
    config = ConfigDict({"seed": 0, "score": _score(), "robustness": _robustness()})
    config.data = {"name": "tfds", "dataset": "fashion_mnist"}
    config.classifier = _classifier({"name": "standard"}, 8000)
    config.adversarial_training = _classifier({"name": "madry"}, 8000)
    config.adversarial_training.attack = {
        "threat": {"name": "linf", "radius": RADIUS},
        "ascent": {"name": "pgd", "lr": RADIUS / 4, "steps": 7},
        "objective": {"name": "cross_entropy"},
    }
    if variant == "smoke":
        from smoke import shrink

        shrink(config)
    return config.lock()
