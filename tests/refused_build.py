"""Bad specs: what is no part, and values of types that the signature does not have."""

import numpy as np

from jaxdiff import attacks, models
from jaxdiff.build import build
from jaxdiff.data import augment
from jaxdiff.diffusion import process, solvers
from jaxdiff.train import optimizer

NETWORK = {"name": "CNN"}
LINF = attacks.linf(0.1)
PGD = {"name": "pgd", "threat": LINF, "steps": 1}


def of(namespace, spec, **context):
    return lambda: build(namespace, spec, **context)


ROWS = {
    "nothing": (of(process, None), "a dict", "'name'", "None", "VP"),
    "a name alone": (of(process, "VP"), "a dict {'name'", "'VP'"),
    "a list": (of(process, ["VP"]), "a dict", "['VP']"),
    "a number": (of(process, 3), "a dict", "3"),
    "a built part": (of(process, process.VP()), "a dict", "VP"),
    "a function": (of(process, process.VP), "a dict"),
    "no name": (of(process, {"beta_max": 1.0}), "'name'", "beta_max", "VP"),
    "an empty dict": (of(process, {}), "'name'", "VP"),
    "name None": (of(process, {"name": None}), "no None", "VP"),
    "name a list": (of(process, {"name": ["VP"]}), "['VP']"),
    "name a function": (of(process, {"name": process.VP}), "has no", "Known"),
    "an argument that is no word": (of(process, {"name": "VP", 3: 1.0}), "no argument 3", "beta_min"),
    "a misspelt argument": (of(process, {"name": "VP", "beta_maxx": 1.0}), "did you mean 'beta_max'"),
    "a float as words": (of(process, {"name": "VP", "beta_max": "20"}), "beta_max", "a number", "'20'"),
    "a float None": (of(process, {"name": "VP", "beta_max": None}), "beta_max", "a number", "None"),
    "a float True": (of(process, {"name": "VP", "beta_max": True}), "beta_max", "a number", "True"),
    "a float as list": (of(process, {"name": "VP", "beta_max": [20.0]}), "beta_max", "a number", "20.0"),
    "a float as part": (of(process, {"name": "VP", "beta_max": {"name": "x"}}), "beta_max", "a number"),
    "a count as float": (of(models, {**NETWORK, "classes": 10.0}), "classes", "a whole number", "10.0"),
    "a count as words": (of(models, {**NETWORK, "classes": "10"}), "classes", "a whole number", "'10'"),
    "a count True": (of(models, {**NETWORK, "groups": True}), "groups", "a whole number", "True"),
    "a count None": (of(models, {**NETWORK, "classes": None}), "classes", "a whole number", "None"),
    "a word as number": (of(models, {**NETWORK, "activation": 3}), "activation", "a string", "3"),
    "a word None": (of(models, {**NETWORK, "activation": None}), "activation", "a string", "None"),
    "a sequence as number": (of(models, {**NETWORK, "channels": 8}), "channels", "a sequence, each a whole number"),
    "a sequence as word": (of(models, {**NETWORK, "channels": "8"}), "channels", "a sequence", "'8'"),
    "a sequence None": (of(models, {**NETWORK, "channels": None}), "channels", "a sequence", "None"),
    "a sequence of floats": (of(models, {**NETWORK, "channels": [8, 8.5]}), "channels", "whole number", "8.5"),
    "a sequence of words": (of(models, {**NETWORK, "mean": ["a"]}), "mean", "a sequence, each a number", "'a'"),
    "a part as word": (of(solvers, {"name": "ddim", "process": "VP"}), "process", "a Process", "'VP'"),
    "a part as dict": (of(solvers, {"name": "ddim", "process": {"name": "VP"}}), "process", "a Process"),
    "a part None": (of(solvers, {"name": "ddim", "process": None}), "process", "a Process", "None"),
    "a part left out": (of(solvers, {"name": "ddim"}), "missing", "'process'"),
    "a function as word": (of(attacks, {"name": "nes", "threat": LINF, "samples": 3, "draw": "x"}), "draw"),
    "a threat as number": (of(attacks, {"name": "pgd", "threat": 0.1, "steps": 1}), "threat", "a Threat", "0.1"),
    "a radius as words": (of(attacks, {"name": "linf", "radius": "8/255"}), "radius", "a number", "'8/255'"),
    "a radius of truth": (of(attacks, {"name": "linf", "radius": True}), "radius", "True"),
    "a truth as word": (of(attacks, {**PGD, "keep_best": "yes"}), "keep_best", "True or False"),
    "a truth as number": (of(attacks, {**PGD, "keep_best": 1}), "keep_best", "True or False"),
    "an optimiser's rate": (of(optimizer, {"name": "adam", "lr": "1e-3"}, total=3), "lr", "a number", "'1e-3'"),
    "an optimiser's clip": (of(optimizer, {"name": "adam", "lr": 1e-3, "clip": "1"}, total=3), "clip", "a number or None"),
    "an augmentation's pixels": (of(augment, {"name": "shift", "pixels": 2.5}), "pixels", "a whole number", "2.5"),
    "a table for a sequence": (of(models, {**NETWORK, "channels": {"a": 8}}), "channels", "a sequence"),
    "an array with a wrong shape": (of(models, {**NETWORK, "channels": np.zeros((2, 2))}), "channels"),
}  # fmt: skip
