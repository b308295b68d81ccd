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
import report
from ml_collections import ConfigDict

from jaxdiff.attacks.threats.flow import warp
from jaxdiff.data import dataset


def row(i, after=True, before=True, finite=True, norm=0.1, label=3, **more):
    judged = {"correct_before": before, "correct_after": after, "finite": finite}
    return {"id": i, "label": label, "norm": norm, "linf": 0.1, "seconds": 1.0} | judged | more


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
    columns = lambda name, net="net": "|".join(x[name] for x in lines if x["classifier"] == net)
    assert columns("right_before") == "1|1|1|0|1|1" and columns("label") == "3|3|3|3|3|3"
    assert columns("a") == "1|1|0|0|1|0" and columns("b") == "1|0|0|0||"
    assert columns("b norm") == "2|3||0.1||"
    assert columns("first") == "|b|a|||a"  # what was wrong before, no attack has broken
    assert columns(attack_tables.ALL) == "1|0|0|0||0"
    common = [line for line in lines if line["b"] != ""]
    stands = sum(line[attack_tables.ALL] == "1" for line in common) / len(common)
    assert stands == attack_tables.worst_over({"a": A, "b": B})["accuracy"]
    assert columns(attack_tables.ALL, "other") == "||0|0||0"


def test_the_table_by_image_tells_what_blew_up_and_what_is_no_image(tmp_path):
    """1 blows up under a although its verdict is right: it is broken by a. 2 is no image under a, 3 under both."""
    a = [row(0), row(1, finite=False, norm=None), row(2) | {"valid": False}, row(3) | {"valid": False}]
    b = [row(0, before=False), row(1), row(2, False), row(3) | {"valid": False}]
    path = attack_tables.write_per_image(tmp_path / "t.csv", {("net", "a"): a, ("net", "b"): b})
    with open(path, newline="") as file:
        lines = list(csv.DictReader(file))
    columns = lambda name: "|".join(line[name] for line in lines)
    assert columns("a") == "1|0||" and columns("a norm") == "0.1|||" and columns("b") == "0|1|0|"
    assert columns("not finite") == "|a||" and columns("no image") == "||a|a b"
    # Right before is right before in the eyes of every attack that has seen an image: 0 is wrong in those of b.
    assert (
        columns("right_before") == "0|1|1|"
        and columns("first") == "|a|b|"
        and columns("all attacks") == "0|0|0|"
    )
    worst = attack_tables.worst_over({"a": a, "b": b})
    assert (worst["n"], worst["invalid"], worst["nonfinite"], worst["accuracy"]) == (2, 2, 1, 0.0)


def test_what_attacks_took_is_of_images_that_were_right():
    """Of six, 3 is wrong as it is and 5 no image: two of four fall to a, one of them by numbers that are not finite."""
    a = [row(0, queries=10), row(1, False, norm=0.4, queries=4), row(2, finite=False, norm=None, queries=4)]
    a += [
        row(3, before=False, after=False, norm=9.0, queries=0),
        row(4, queries=10),
        row(5, norm=9.0, valid=False),
    ]
    text = attack_tables.costs({("net", "a"): a, ("net", "b"): a[:1]}).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text]
    head, first, second = cells[0], cells[2], cells[3]
    assert len(head) == len(cells[1]) == len(first)
    found = dict(zip(head, first, strict=True))
    assert (found["fallen"], found["of them not finite"]) == ("2 of 4", "1")
    assert (found["norm"], found["evaluations"], found["seconds"]) == ("0.4", "7", "6.0")
    assert (second[2], second[3], second[4]) == ("0 of 1", "0", "—")
    assert "net under a: 1." in text[-1] and "net under b" not in text[-1]
    assert "no images" not in attack_tables.costs({("net", "a"): a[:5]})


def test_the_note_on_the_same_images_counts_what_stands():
    """Of images 0 to 3: a leaves 0 and 1, one of which blows up under b, which leaves 0 and 2."""
    a = [row(0), row(1), row(2, False), row(3, before=False)]
    b = [row(0), row(1, finite=False), row(2), row(3, before=False, after=False)]
    (note,) = report.same_images({("none", "a"): a, ("none", "b"): b})
    assert "On the same 4 images (1 not finite, so not robust): a 50.0 %, b 50.0 %" in note
    assert "under every attack at once: 25.0 %" in note
    (note,) = report.same_images({("none", "a"): a})
    assert "On the same 4 images: a 50.0 %" in note


def test_radii_of_a_curve_are_those_of_its_threat():
    cell = {"threat": {"name": "l2", "radius": 0.5}}
    report.check_radii("config.x", cell, (0.0, 0.25, 3.0))
    for radius in (-1.0, float("nan"), "much"):
        with pytest.raises(ValueError, match=r"config\.x\.radii: "):
            report.check_radii("config.x", cell, (0.1, radius))


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


@pytest.mark.slow
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
