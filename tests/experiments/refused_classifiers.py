"""Bad specs of a classifier."""

import json
import tempfile
from pathlib import Path

import classifiers
import numpy as np

from jaxdiff.build import build

CNN = {"name": "CNN", "channels": (4,), "groups": 0}
DIGITS = {"name": "digits"}
FOLDER = Path(tempfile.mkdtemp())
(FOLDER / "torn").mkdir()
(FOLDER / "torn" / "config.json").write_text("{")
(FOLDER / "other").mkdir()
(FOLDER / "other" / "config.json").write_text(json.dumps({"seed": 0, "data": DIGITS}))
np.savez(FOLDER / "weights.npz", a=np.zeros(3))


def spec(name, **fields):
    return lambda: build(classifiers, {"name": name, **fields}, image_shape=(8, 8, 1))


def converted(**changes):
    fields = {"model": {"name": "ResNetCIFAR", "depth": 20}, "weights": str(FOLDER / "weights.npz")}
    return spec("converted", **{**fields, "converter": "resnet_cifar_from_torch", **changes})


def fitted(**changes):
    return spec("fitted", **{"model": CNN, "data": DIGITS, **changes})


ROWS = {
    "an unknown kind": (spec("convertd"), "did you mean 'converted'"),
    "no spec": (lambda: build(classifiers, None), "a dict", "None"),
    "no model": (fitted(model=None), "model", "None"),
    "a model by name": (fitted(model="CNN"), "model", "'CNN'"),
    "an unknown model": (spec("untrained", model={"name": "CNNN"}), "did you mean 'CNN'"),
    "a model of zero channels": (spec("untrained", model={"name": "CNN", "channels": (0,)}), "channels[0]"),
    "a model for other channels": (spec("untrained", model={**CNN, "mean": (0,) * 3, "std": (1,) * 3}), "1 channels"),
    "a seed of words": (spec("untrained", model=CNN, seed="0"), "seed", "'0'"),
    "a negative seed": (spec("untrained", model=CNN, seed=-1), "seed", "-1"),
    "no steps": (fitted(steps=0), "steps", ">= 1", "got 0"),
    "half a step": (fitted(steps=1.5), "steps", "1.5"),
    "an empty batch": (fitted(batch_size=0), "batch_size", "got 0"),
    "an infinite rate": (fitted(lr=float("inf")), "lr", "(0, inf)", "inf"),
    "a rate of nothing": (fitted(lr=None), "lr", "None"),
    "unknown data": (fitted(data={"name": "digit"}), "did you mean 'digits'"),
    "data by name": (fitted(data="digits"), "data", "'digits'"),
    "no weights": (converted(weights=None), "weights", "None"),
    "weights that are not there": (converted(weights="~/no/such.npz"), str(Path.home())),
    "weights in a folder": (converted(weights=str(FOLDER)), "folder"),
    "weights of an unset variable": (converted(weights="$NOWHERE_AT_ALL/a.npz"), "NOWHERE_AT_ALL", "not set"),
    "weights of something else": (converted(), "another architecture"),
    "an unknown converter": (converted(converter="resnet_cifar"), "did you mean 'resnet_cifar_from_torch'"),
    "a function as converter": (converted(converter="load_npz"), "converter", "resnet_cifar_from_torch"),
    "no converter": (converted(converter=None), "converter", "None"),
    "no workdir": (spec("trained", workdir=None, section="classifier"), "workdir", "None"),
    "an empty workdir": (spec("trained", workdir="", section="classifier"), "workdir", "''"),
    "a workdir at home": (spec("trained", workdir="~/no/such", section="classifier"), str(Path.home())),
    "a torn workdir": (spec("trained", workdir=str(FOLDER / "torn"), section="classifier"), "config.json", "unreadable"),
    "no such section": (spec("trained", workdir=str(FOLDER / "other"), section="classifier"), "no 'classifier'"),
}  # fmt: skip
