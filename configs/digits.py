"""Robustness on real 8x8 handwritten digits: the spine of jaxdiff, in minutes on two cores, with nothing to download.

    python experiments/robustness.py --config=configs/digits.py --workdir=runs/digits

Trains a small score network, a classifier and an adversarially trained one, and attacks all defenses within 0.2 in L-infinity.
The table to expect is in the README. Variant "smoke": seconds, for tests.
"""

from ml_collections import ConfigDict

RADIUS = 0.2
FGSM = {"name": "fgsm", "lr": RADIUS}
PGD = {"name": "pgd", "lr": RADIUS / 8, "steps": 40, "keep_best": True}


def _train(steps, batch_size):
    return {
        "steps": steps,
        "batch_size": batch_size,
        "ema_decays": (0.99,),
        "accumulate": 1,
        "log_every": 20,
        "checkpoint_every": 300,
        "keep": 2,
        "draw_every": 1000,
    }


def _score():
    return {
        "model": {
            "name": "UNet",
            "channels": 16,
            "multipliers": (1, 2),
            "blocks": 1,
            "attention": (),
            "dropout": 0.0,
        },
        "process": {"name": "VP", "beta_min": 0.1, "beta_max": 20.0},
        "kind": "eps",
        "label": {"scale": 999.0, "offset": 0.0},
        "weight": {"name": "simple"},
        "time": {"name": "uniform_time", "t_min": 1e-3},
        "augment": (),
        "optimizer": {"name": "adam", "lr": 1e-2, "warmup": 200, "schedule": "cosine", "clip": 1.0},
        "train": _train(3500, 64),
        "sample": {
            "solver": {"name": "ddim"},
            "grid": {"name": "uniform", "steps": 50},
            "clip": 1.0,
            "n": 64,
            "batch_size": 64,
        },
    }


def _classifier(augment, loss, steps, batch_size):
    return {
        "model": {"name": "CNN", "channels": (32, 64, 128), "mean": (0.3,), "std": (0.4,)},
        "augment": augment,
        "loss": loss,
        "optimizer": {"name": "adamw", "lr": 3e-3, "weight_decay": 0.05, "warmup": 100, "schedule": "cosine"},
        "train": _train(steps, batch_size),
    }


def _robustness():
    return {
        "n": 360,
        "batch_size": 128,
        "show": 8,
        "threat": {"name": "linf", "radius": RADIUS},
        "objective": {"name": "cross_entropy"},
        "purify": {
            "solver": {"name": "ddpm"},
            "grid": {"name": "uniform", "start": 0.1, "end": 0.0, "steps": 4},
            "clip": None,
            "remat": "none",
        },
        "cells": {
            "none": {"standard": {}, "fgsm": {"ascent": FGSM}, "pgd": {"ascent": PGD}},
            "adversarial_training": {"standard": {}, "fgsm": {"ascent": FGSM}, "pgd": {"ascent": PGD}},
            "diffpure": {
                "standard": {},
                "fgsm": {"ascent": FGSM},
                "pgd": {"ascent": PGD, "n": 128},
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
            "radii": (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3),
            "cells": ("none/pgd", "adversarial_training/pgd", "diffpure/blind_pgd"),
            "n": 128,
        },
    }


def get_config(variant: str = "default") -> ConfigDict:
    """The config of a variant: "default" or "smoke"."""
    if variant not in ("default", "smoke"):
        raise ValueError(f"configs/digits.py has no variant {variant!r}. Known: ['default', 'smoke'].")
    config = ConfigDict(
        {"seed": 0, "data": {"name": "digits"}, "score": _score(), "robustness": _robustness()}
    )
    config.classifier = _classifier(({"name": "noise", "std": 0.17},), {"name": "standard"}, 600, 128)
    config.adversarial_training = _classifier((), {"name": "madry"}, 2700, 64)
    config.adversarial_training.attack = {
        "threat": {"name": "linf", "radius": RADIUS},
        "ascent": {"name": "pgd", "lr": 0.4 * RADIUS, "steps": 5},
        "objective": {"name": "cross_entropy"},
    }
    if variant == "smoke":
        from smoke import shrink

        shrink(config)
    return config.lock()
