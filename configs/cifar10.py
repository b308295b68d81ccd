"""CIFAR-10 at the published settings: DDPM's score network, a WRN-28-10, Madry's adversarial training, DiffPure.

    python experiments/train_score.py --config=configs/cifar10.py --workdir=runs/cifar10
    python experiments/robustness.py --config=configs/cifar10.py --workdir=runs/cifar10

Score network: Ho et al. 2020, section 4 and appendix B (35.7 M parameters, 800,000 steps of 128 images; published: FID 3.17,
10.6 hours on a TPU v3-8). Classifiers: Zagoruyko and Komodakis 2016; Madry et al. 2018 with radius 8/255. Purification:
Nie et al. 2022, t* = 0.1 (published: 89.02 % standard, 70.64 % under AutoAttack with the adjoint gradient; later exact-gradient
attacks leave 46 to 48 %). The data set is TFDS's `cifar10`, prepared as array_record. Variant "smoke": seconds, for tests.
"""

from ml_collections import ConfigDict

RADIUS = 8 / 255
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
FGSM = {"name": "fgsm", "lr": RADIUS}
PGD = {"name": "pgd", "lr": RADIUS / 4, "steps": 40, "keep_best": True}
FLIP, CROP = {"name": "flip"}, {"name": "shift", "pixels": 4}


def _train(steps, ema):
    return {
        "steps": steps,
        "batch_size": 128,
        "ema_decays": ema,
        "accumulate": 1,
        "log_every": 100,
        "checkpoint_every": 5000,
        "keep": 3,
        "draw_every": 20_000,
    }


def _score():
    return {
        "model": {
            "name": "UNet",
            "channels": 128,
            "multipliers": (1, 2, 2, 2),
            "blocks": 2,
            "attention": (16,),
            "dropout": 0.1,
            "dtype": "float32",
        },
        "process": {"name": "linear", "steps": 1000, "beta_min": 1e-4, "beta_max": 0.02},
        "kind": "eps",
        "label": {"scale": 1000.0, "offset": -1.0},
        "weight": {"name": "simple"},
        "time": {"name": "discrete_time", "steps": 1000},
        "augment": (FLIP,),
        "optimizer": {"name": "adam", "lr": 2e-4, "warmup": 5000, "clip": 1.0},
        "train": _train(800_000, (0.9999,)),
        "sample": {
            "solver": {"name": "ddpm", "variance": "upper"},
            "grid": {"name": "uniform", "steps": 1000},
            "clip": 1.0,
            "n": 64,
            "batch_size": 64,
        },
    }


def _classifier(model, loss, steps):
    return {
        "model": {**model, "mean": MEAN, "std": STD},
        "augment": (CROP, FLIP),
        "loss": loss,
        "optimizer": {
            "name": "sgd",
            "lr": 0.1,
            "momentum": 0.9,
            "nesterov": True,
            "weight_decay": 5e-4,
            "warmup": 400,
            "schedule": "cosine",
        },
        "train": _train(steps, ()),
    }


def _robustness():
    exact = {"ascent": {"name": "pgd", "lr": RADIUS / 4, "steps": 20}, "eot": 20}
    return {
        "n": 512,
        "batch_size": 64,
        "show": 8,
        "threat": {"name": "linf", "radius": RADIUS},
        "objective": {"name": "cross_entropy"},
        "purify": {
            "solver": {"name": "euler_maruyama"},
            "grid": {"name": "uniform", "start": 0.1, "end": 1e-5, "steps": 100},
            "clip": None,
            "remat": "step",
        },
        "cells": {
            "none": {"standard": {}, "fgsm": {"ascent": FGSM}, "pgd": {"ascent": PGD}},
            "adversarial_training": {"standard": {}, "fgsm": {"ascent": FGSM}, "pgd": {"ascent": PGD}},
            "diffpure": {
                "standard": {},
                "fgsm": {"ascent": FGSM},
                "pgd": {"ascent": {**PGD, "keep_best": False}},
                "blind_pgd": {"ascent": PGD, "gradient": "blind"},
                "bpda": {"ascent": {**PGD, "keep_best": False}, "gradient": "bpda", "eot": 20},
                "adaptive_pgd": exact,
            },
        },
        "curve": {
            "radii": tuple(r / 255 for r in (0, 1, 2, 4, 8, 12)),
            "cells": ("none/pgd", "adversarial_training/pgd"),
            "n": 512,
        },
    }


def get_config(variant: str = "default") -> ConfigDict:
    """The config of a variant: "default" or "smoke"."""
    if variant not in ("default", "smoke"):
        raise ValueError(f"configs/cifar10.py has no variant {variant!r}. Known: ['default', 'smoke'].")
    config = ConfigDict({"seed": 0, "score": _score(), "robustness": _robustness()})
    config.data = {"name": "tfds", "dataset": "cifar10"}
    config.classifier = _classifier(
        {"name": "WideResNet", "depth": 28, "width": 10}, {"name": "standard"}, 78_000
    )
    config.adversarial_training = _classifier({"name": "PreActResNet18"}, {"name": "madry"}, 78_000)
    config.adversarial_training.attack = {
        "threat": {"name": "linf", "radius": RADIUS},
        "ascent": {"name": "pgd", "lr": RADIUS / 4, "steps": 10},
        "objective": {"name": "cross_entropy"},
    }
    if variant == "smoke":
        from smoke import shrink

        shrink(config, {"name": "ResNetCIFAR", "depth": 8, "mean": MEAN, "std": STD})
    return config.lock()
