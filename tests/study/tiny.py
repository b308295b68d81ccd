"""Victims and cells of a table from plain functions, without a config."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.attacks import l2
from jaxdiff.keys import purpose
from jaxdiff.study.bound import Bound
from jaxdiff.study.parts import Later
from jaxdiff.study.table.cell import Cell
from jaxdiff.study.table.place import Place
from jaxdiff.study.table.run import Evaluation, Setting, drawn_ids
from jaxdiff.study.table.victim import Victim


def later(value, name="it"):
    """A part that stands for a value as it is."""
    return Later(f"@{name}", {name: value}, {})


def victim_of(weights, classifier, defense=None, random=None):
    """A victim from functions of weights."""
    behind = None if defense is None else later(Bound(defense, weights), "defense")
    return Victim(
        later(Bound(classifier, weights), "classifier"),
        behind,
        defense is not None if random is None else random,
    )


def cell_of(attack=None, threat=None, judge=None, view="exact", stop=None):
    """A cell from an attack (or a dict of them), a threat and a protocol."""
    threat = l2(threat) if isinstance(threat, float) else threat
    given = [None if value is None else later(value, name) for value, name in
             ((attack, "attack"), (threat, "threat"), (judge, "judge"))]  # fmt: skip
    view = later(view, "view") if callable(view) else view
    return Cell(given[0], given[1], view, given[2], None, ("*",), "", stop)


def setting_of(data, folder, n=30, batch_size=16, slots=4, reverse=False):
    """The setting of a table on some images."""
    ids = drawn_ids(data, n, 0)[:: -1 if reverse else 1]
    size = -(-batch_size // jax.device_count()) * jax.device_count()
    return Setting(data, ids, purpose(jax.random.key(0), "attack"), size, slots, folder, "facts")


def place_of(data, victim, cell, name="linear"):
    """A victim under a cell."""
    return Place(name, "cell", victim, cell, tuple(cell.attacks({}, data.num_classes)))


def outcomes(data, folder, victim, cell, *setting):
    """The rows of a victim under a cell, and its pictures."""
    place = place_of(data, victim, cell)
    return Evaluation([place], setting_of(data, folder, *setting)).run(place)


def rows_of(data, folder, victim, cell, n=30):
    """The rows of a victim under a cell."""
    return outcomes(data, folder, victim, cell, n)[0]


def means(data):
    """The mean images of the classes as the weights of a linear classifier, right about many digits."""
    train = data.fetch(np.arange(300))
    images = train["image"].reshape(300, -1)
    found = np.stack([images[train["label"] == c].mean(0) for c in range(10)])
    return {"w": jnp.asarray(found), "b": jnp.asarray(-0.5 * (found**2).sum(1))}


def linear(p):
    """The classifier of such weights."""
    return lambda x, key: 4.0 * (p["w"] @ x.ravel() + p["b"])
