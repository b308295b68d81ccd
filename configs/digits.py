"""Robustness on real 8x8 handwritten digits: the spine of jaxdiff in a few minutes on two cores.

python experiments/robustness.py --config=configs/digits.py --workdir=runs/digits
"""

from ml_collections import ConfigDict

RADIUS = 0.2
FGSM = {"name": "fgsm", "lr": RADIUS}
PGD = {"name": "pgd", "lr": RADIUS / 8, "steps": 40, "keep_best": True}


def _train(steps, batch_size, ema, **other):
    settings = {
        "steps": steps,
        "batch_size": batch_size,
        "ema_decays": (ema,),
        "accumulate": 1,
        "log_every": 20,
        "checkpoint_every": 200,
        "keep": 2,
        "draw_every": 1000,
    }
    return settings | other


def get_config(variant: str = "default") -> ConfigDict:
    """The config of a variant: "default", or "smoke" (seconds, for tests)."""
    if variant not in ("default", "smoke"):
        raise ValueError(f"Unknown variant {variant!r}. Known: ['default', 'smoke'].")
    config = ConfigDict({"seed": 0, "data": {"name": "digits"}})
    config.score = {
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
        "optimizer": {"name": "adam", "lr": 3e-3, "warmup": 100, "schedule": "cosine", "clip": 1.0},
        "train": _train(1500, 128, 0.99),
        "sample": {
            "solver": {"name": "ddim"},
            "grid": {"name": "uniform", "steps": 50},
            "clip": 1.0,
            "n": 64,
            "batch_size": 64,
        },
    }
    classifier = {
        "model": {"name": "CNN", "channels": (32, 64, 128), "mean": (0.3,), "std": (0.4,)},
        "augment": ({"name": "shift", "pixels": 1},),
        "optimizer": {"name": "adamw", "lr": 3e-3, "weight_decay": 0.05, "warmup": 100, "schedule": "cosine"},
    }
    config.classifier = {**classifier, "loss": {"name": "standard"}, "train": _train(1000, 128, 0.99)}
    config.adversarial_training = {
        **classifier,
        "loss": {"name": "madry"},
        "attack": {
            "threat": {"name": "linf", "radius": RADIUS},
            "ascent": {"name": "pgd", "lr": RADIUS / 4, "steps": 7},
            "objective": {"name": "cross_entropy"},
        },
        "train": _train(1000, 128, 0.99),
    }
    config.robustness = {
        "n": 360,
        "batch_size": 120,
        "show": 8,
        "threat": {"name": "linf", "radius": RADIUS},
        "objective": {"name": "cross_entropy"},
        "purify": {
            "solver": {"name": "ddpm"},
            "grid": {"name": "uniform", "start": 0.1, "end": 0.0, "steps": 5},
            "clip": None,
            "remat": "none",
        },
        "cells": {
            "none": {"standard": {}, "fgsm": {"ascent": FGSM}, "pgd": {"ascent": PGD}},
            "adversarial_training": {"standard": {}, "fgsm": {"ascent": FGSM}, "pgd": {"ascent": PGD}},
            "diffpure": {
                "standard": {},
                "fgsm": {"ascent": FGSM},
                "pgd": {"ascent": PGD, "n": 120},
                "blind_pgd": {"ascent": PGD, "gradient": "blind"},
                "bpda": {"ascent": {**PGD, "keep_best": False}, "gradient": "bpda", "eot": 8, "n": 120},
                "adaptive_pgd": {
                    "ascent": {"name": "pgd", "lr": RADIUS / 8, "steps": 20},
                    "eot": 8,
                    "n": 120,
                },
            },
        },
        "curve": {
            "radii": (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3),
            "cells": ("none/pgd", "adversarial_training/pgd", "diffpure/blind_pgd"),
            "n": 120,
        },
    }
    if variant == "smoke":
        for section in ("score", "classifier", "adversarial_training"):
            config[section].train.update(
                steps=4, batch_size=16, log_every=1, checkpoint_every=2, draw_every=4
            )
            config[section].optimizer.warmup = 1
        config.score.sample.update(n=4, batch_size=4, grid={"name": "uniform", "steps": 2})
        config.robustness.update(n=4, batch_size=4, show=2)
        config.robustness.purify.grid.steps = 2
        for cell in [c for cells in config.robustness.cells.values() for c in cells.values()]:
            if "n" in cell:
                cell.n = 2
            if "eot" in cell:
                cell.eot = 2
            if "ascent" in cell and cell.ascent.name == "pgd":
                cell.ascent.steps = 2
        config.robustness.curve.update(radii=(0.0, 0.1), n=2)
    return config.lock()
