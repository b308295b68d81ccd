"""A study whose classifier is the mean images of the classes: a table in seconds. Also run as a command, to be killed."""

import sys

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import attacks, data
from jaxdiff.data import dataset
from jaxdiff.study import Bound, Plan, part, run, study, tasks


def linear(p):
    """The classifier of these weights."""
    return lambda x, key: p["scale"] * (p["w"] @ x.ravel() + p["b"])


def means(data, scale: float = 4.0):
    """A stage: the mean images of the classes of the train split."""
    struct = jax.ShapeDtypeStruct
    shapes = {
        "w": struct((10, 64), jnp.float32),
        "b": struct((10,), jnp.float32),
        "scale": struct((), jnp.float32),
    }

    def make(run):
        train = data("train").fetch(np.arange(300))
        images = train["image"].reshape(300, -1)
        found = np.stack([images[train["label"] == c].mean(0) for c in range(10)])
        bias = jnp.asarray(-0.5 * (found**2).sum(1))
        return Bound(linear, {"w": jnp.asarray(found), "b": bias, "scale": jnp.float32(scale)})

    return Plan(Bound(linear, shapes), make)


def noisy(std: float = 0.1):
    """A defense that adds noise."""
    return lambda x, key: x + std * jax.random.normal(key, x.shape)


def climb(**settings):
    """PGD on the cross-entropy."""
    return part(
        attacks.untargeted, ascent=part(attacks.pgd, **settings), objective=part(attacks.cross_entropy)
    )


LINF, L2 = part(attacks.linf, radius=0.1), part(attacks.l2, radius=0.5)


def cells():
    """Some cells."""
    return {
        "pgd": part(tasks.cell, attack=climb(steps=3, keep_best=True), threat=LINF),
        "far": part(tasks.cell, attack=climb(steps=3), threat=L2, n=9),
        "blind": part(
            tasks.cell, attack=climb(steps=3), threat=LINF, view="blind", on="noisy", column="fgsm"
        ),
        "fgsm": part(tasks.cell, attack=climb(steps=1), threat=LINF, on="none"),
    }


def table(**changes):
    """The stage of a table."""
    settings = {
        "n": 20,
        "batch_size": 8,
        "victims": {
            "none": part(tasks.victim, classifier="@plain"),
            "noisy": part(tasks.victim, classifier="@plain", defense=part(noisy)),
        },
        "cells": cells(),
        "show": 2,
    }
    return part(tasks.table, **settings | changes)


def config(scale=4.0, seed=0, more=(), **changes):
    """The study, perhaps with more stages."""
    stages = {"plain": part(means, scale=scale), **dict(more), "table": table(**changes)}
    return study(seed=seed, data=part(data.dataset.digits), stages=stages)


TEST = dataset.digits("test")

if __name__ == "__main__":
    import study.linear_stage as home  # the functions by the name that a config finds them by

    run(home.config(), sys.argv[1])
