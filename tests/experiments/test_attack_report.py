"""The report of the attack experiment: the numbers that count, the flow that was, curves, and the table by image."""

import csv

import attack_figures
import attack_tables
import classifiers
import evaluation
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from jaxdiff.attacks.flow import warp
from jaxdiff.data import dataset


def row(i, after=True, before=True, finite=True, norm=0.1, label=3):
    judged = {"correct_before": before, "correct_after": after, "finite": finite}
    return {"id": i, "label": label, "norm": norm, "linf": 0.1, "seconds": 1.0} | judged


# Image 0 stands, 1 falls to b alone, 2 to both, 3 is wrong as it is, 4 and 5 are not attacked by b.
A = [row(0), row(1), row(2, False), row(3, before=False, after=False), row(4), row(5, False)]
B = [row(0, norm=2.0), row(1, False, norm=3.0), row(2, False, finite=False, norm=None), row(3, False, False)]


def test_the_last_columns_say_over_which_images_they_are():
    """2 of the 6 images stand under the attack that has all of them, 1 of the 4 that both have under both; norms do not mix."""
    whole, common = attack_tables.minima("net", {"a": A, "b": B}, 6)
    assert (whole["attack"], whole["n"], whole["minimum_over"]) == (attack_tables.WHOLE, 6, ["a"])
    assert whole["accuracy"] == 3 / 6
    assert (common["attack"], common["n"], common["minimum_over"]) == (attack_tables.ALL, 4, ["a", "b"])
    assert common["accuracy"] == 1 / 4
    assert not {"max_norm"} & {*whole, *common}
    (alone,) = attack_tables.minima("net", {"a": A[:4], "b": B}, 4)
    assert alone["attack"] == attack_tables.ALL and alone["accuracy"] == 1 / 4


def test_the_table_by_image(tmp_path):
    rows = {("net", "a"): A, ("net", "b"): B, ("other", "a"): A[::-1], ("other", "b"): []}
    path = attack_tables.write_per_image(tmp_path / "per_image.csv", rows)
    with open(path, newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["classifier"] for line in lines] == ["net"] * 6 + ["other"] * 6
    assert [line["id"] for line in lines] == [*"012345"] * 2
    columns = lambda name, net="net": "|".join(x[name] for x in lines if x["classifier"] == net)  # noqa: E731
    assert columns("right_before") == "1|1|1|0|1|1" and columns("label") == "3|3|3|3|3|3"
    assert columns("a") == "1|1|0|0|1|0" and columns("b") == "1|0|0|0||"
    assert columns("b norm") == "2|3||0.1||"
    assert columns("first") == "|b|a|||a"  # what was wrong before, no attack has broken
    assert columns(attack_tables.ALL) == "1|0|0|0||0"
    common = [line for line in lines if line["b"] != ""]
    stands = sum(line[attack_tables.ALL] == "1" for line in common) / len(common)
    assert stands == attack_tables.worst_over({"a": A, "b": B})["accuracy"]
    assert columns(attack_tables.ALL, "other") == "||0|0||0"


@pytest.fixture(scope="module")
def nearest_mean(tmp_path_factory):
    """Linear: the nearest of the classes' mean digits. Some digits are seen wrongly."""
    data, train = dataset.digits("test"), dataset.digits("train")
    batch = train.fetch(np.arange(300))
    w = np.stack([batch["image"][batch["label"] == k].mean(0).ravel() for k in range(10)])
    weights = {"w": jnp.asarray(w), "b": jnp.asarray(-0.5 * (w**2).sum(1))}
    victim = evaluation.Victim("linear", 10, weights, lambda p: lambda x, key: p["w"] @ x.ravel() + p["b"])
    config = ConfigDict({"seed": 0, "data": {"name": "digits"}})
    section = ConfigDict({"n": 24, "batch_size": 24, "slots": 24})
    setting = evaluation.Setting.of(config, section, "attack", data, tmp_path_factory.mktemp("linear"))
    return evaluation.Evaluation(victim, setting)


STADV = {"attack": {"name": "stadv", "bound": 0.2, "steps": 12, "lr": 0.03}}


def test_the_flow_figure_shows_what_the_cell_has_made(nearest_mean):
    """The same pictures as kept: stopped at the first victory. And the flow drawn is the one that makes the picture."""
    rows, pictures = nearest_mean.run("stadv", STADV, keep=24)
    right = np.array([r["correct_before"] for r in rows])
    early = np.array([r["correct_before"] and 0 < r["queries"] < 13 for r in rows])
    assert 0 < right.sum() < 24 and early.any()
    batch = nearest_mean.setting.data.fetch(np.array([r["id"] for r in rows])[right])
    attacked, flows = attack_figures.flows_of(nearest_mean, STADV, batch)
    np.testing.assert_allclose(attacked, pictures["adversarial"][right], atol=1e-4)
    np.testing.assert_allclose(jax.vmap(warp)(batch["image"], flows), attacked, atol=1e-5)


def spec(**more):
    linf, l2 = ({"threat": {"name": name, "radius": 0.1}} for name in ("linf", "l2"))
    cells = {"a": linf, "b": linf, "c": l2, "stadv": STADV}
    return ConfigDict({"panel": (), "flow": (), "show": 2, "cells": cells} | more)


def test_figures_show_right_images_and_one_norm_each(monkeypatch, tmp_path):
    """Flows: the first images that were right before, none if none was. Curves: a figure for each threat."""
    drawn = {}
    monkeypatch.setattr(
        attack_figures, "draw_flow", lambda s, path, e, name, rows: drawn.update({path.name: rows})
    )
    monkeypatch.setattr(
        attack_figures, "draw_curve", lambda s, path, e, threat, curve: drawn.update({path.name: curve.cells})
    )
    config = ConfigDict(
        {
            "attack": spec(
                flow=("stadv",),
                curve={"cells": ("a", "c", "b"), "radii": dict.fromkeys(("linf", "l2"), (0.0, 0.1)), "n": 4},
            )
        }
    )
    rows = {
        ("net", "stadv"): [row(7, before=False), row(2), row(5), row(1)],
        ("wrong", "stadv"): [row(7, before=False)],
    }
    attack_figures.draw_figures(config, tmp_path, {"net": None, "wrong": None}, rows, {})
    assert {name: rows for name, rows in drawn.items() if name.startswith("flow")} == {
        "flow-net-stadv.png": [row(2), row(5)]
    }
    curves = {name: cells for name, cells in drawn.items() if name.startswith("radius-net")}
    assert curves == {"radius-net-linf.png": ("a", "b"), "radius-net-l2.png": ("c",)}


def test_a_curve_has_the_radii_of_its_norm():
    radii = {"linf": (0.0, 0.1), "l2": (0.0, 1.0)}
    curves = attack_figures.curves_of(spec(curve={"cells": ("a", "c"), "radii": radii, "n": 4}))
    assert {threat: curve.radii for threat, curve in curves.items()} == radii
    assert attack_figures.curves_of(spec()) == {}
    with pytest.raises(ValueError, match="radii has none for 'l2', the threat of 'c'"):
        attack_figures.curves_of(spec(curve={"cells": ("c",), "radii": {"linf": (0.1,)}, "n": 4}))


def test_a_curve_says_its_norm(monkeypatch, tmp_path):
    seen = {}
    monkeypatch.setattr(
        attack_figures, "radius_series", lambda e, a, cell, curve: [[0.5] * len(curve.radii)] * 3
    )
    monkeypatch.setattr(attack_figures.evaluate, "accuracy_curve", lambda *a, **style: seen.update(style))
    evaluated = evaluation.Evaluation.__new__(evaluation.Evaluation)
    evaluated.victim, evaluated.setting = ConfigDict({"name": "net"}), ConfigDict({"ids": (1, 2)})
    s = spec(curve={"cells": ("c",), "radii": {"l2": (0.0, 1.0)}, "n": 4})
    attack_figures.draw_curve(s, tmp_path / "c.png", evaluated, "l2", attack_figures.curves_of(s)["l2"])
    assert r"\ell_2" in seen["xlabel"] and "[0, 1]" in seen["xlabel"] and "n = 2" in seen["title"]


def test_a_quick_fit_is_right_on_many_digits():
    model, variables = classifiers.fitted(
        {"name": "CNN", "channels": (8, 8), "groups": 0}, {"name": "digits"}, (8, 8, 1), steps=40, lr=3e-2
    )
    batch = dataset.digits("test").fetch(np.arange(360))
    assert (
        np.mean(jax.jit(model.apply)(variables, batch["image"]).argmax(-1) == batch["label"]) > 0.4
    )  # chance: 0.1
