"""The table of anybody's model, from Python; what a workdir gives back."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from study.tiny import means
from study.trained import classifier, config, score

from jaxdiff import attacks
from jaxdiff.data import dataset
from jaxdiff.study import load, part, robustness, run, tasks
from jaxdiff.study.command import remember

LINF = part(attacks.linf, radius=0.1)
PGD = part(attacks.untargeted, ascent=part(attacks.pgd, steps=3), objective=part(attacks.cross_entropy))
CELLS = {"pgd": part(tasks.cell, attack=PGD, threat=LINF)}


def batch_of(n=12):
    found = dataset.digits("test").fetch(np.arange(n))
    return found["image"], found["label"]


def model(params, images):
    """A linear model of a batch."""
    return 4.0 * (images.reshape(len(images), -1) @ params["w"].T + params["b"][None])


@pytest.fixture(scope="module")
def params():
    return means(dataset.digits("train"))


def test_a_table_of_a_function_with_numpy_and_jax_arrays(tmp_path, params):
    images, labels = batch_of()
    found = robustness({"mine": (model, params)}, images, labels, CELLS, tmp_path / "a", show=2)
    assert [r["attack"] for r in found] == ["standard", "pgd"] and {r["n"] for r in found} == {12}
    right = np.mean(np.argmax(model(params, images), 1) == labels)
    assert found[0]["accuracy"] == pytest.approx(right) and found[1]["accuracy"] <= right
    for file in ("report.md", "table.tex", "table.csv", "per_image.csv", "results.json", "figures/panel.png"):
        assert (tmp_path / "a" / file).exists()
    one = lambda params, image: model(params, image[None])[0]
    same = robustness(
        {"mine": (one, params)},
        jnp.asarray(images),
        jnp.asarray(labels),
        CELLS,
        tmp_path / "b",
        batched=False,
        show=2,
    )
    assert [r["accuracy"] for r in same] == [r["accuracy"] for r in found]


@pytest.mark.slow
def test_it_goes_on_where_it_was_and_knows_other_parameters(tmp_path, params):
    images, labels = batch_of()
    arguments = images, labels, CELLS, tmp_path
    first = robustness({"mine": (model, params)}, *arguments, n=8, show=2)
    more = robustness({"mine": (model, params)}, *arguments, n=10, show=2)
    ledgers = sorted(tmp_path.glob("cells/mine--pgd-*/rows.jsonl"))
    assert len(ledgers) == 1 and (first[1]["n"], more[1]["n"]) == (8, 10)
    other = jax.tree.map(lambda w: 0.5 * w, params)
    for count, changes in enumerate(({}, {"seed": 1}, {"images": 1.0 - images}, {"labels": 9 - labels}), 2):
        given = {
            "images": images,
            "labels": labels,
            "cells": CELLS,
            "folder": tmp_path,
            "n": 8,
            "show": 2,
        } | changes
        robustness({"mine": (model, other)}, **given)
        assert len(list(tmp_path.glob("cells/mine--pgd-*/rows.jsonl"))) == count


WRONG = [
    (lambda i, y, p: ({"mine": (model, p)}, (255 * i).astype(np.uint8), y), "uint8"),
    (lambda i, y, p: ({"mine": (model, p)}, 2 * i - 1, y), r"\[-1, 1\]"),
    (lambda i, y, p: ({"mine": (model, p)}, i, np.eye(10)[y]), "integers"),
    (lambda i, y, p: ({"mine": (model, p)}, i[0], y), "images"),
    (lambda i, y, p: ({"mine": model}, i, y), "function, parameters"),
    (lambda i, y, p: ({"mine": (lambda p, x: model(p, x).argmax(1), p)}, i, y), "logits"),
]


@pytest.mark.parametrize("k", range(len(WRONG)))
def test_what_is_wrong_is_said_before_anything_is_written(tmp_path, params, k):
    make, words = WRONG[k]
    with pytest.raises(ValueError, match=words):
        robustness(*make(*batch_of(), params), CELLS, tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_a_workdir_gives_its_networks_back(tmp_path):
    study_config = config(a=classifier(), score=score())
    made = run(study_config, tmp_path)
    remember(study_config, tmp_path)
    back = load(tmp_path)
    image = jnp.full((8, 8, 1), 0.25)
    assert list(back) == ["a", "score"]
    np.testing.assert_array_equal(back["a"](image, None), made["a"]()(image, None))
    np.testing.assert_array_equal(back["score"](image, 0.5), made["score"]()(image, 0.5))
    assert list(load(tmp_path, "score")) == ["score"]
    with pytest.raises(ValueError, match="'scor', did you mean 'score'"):
        load(tmp_path, "scor")
    with pytest.raises(ValueError, match="no study in"):
        load(tmp_path / "elsewhere")


@pytest.mark.slow
def test_what_is_not_finished_is_not_given(tmp_path):
    study_config = config(a=classifier())
    remember(study_config, tmp_path)
    assert load(tmp_path) == {}
    with pytest.raises(ValueError, match="has not been made"):
        load(tmp_path, "a")
    made = run(study_config, tmp_path)
    assert made and list(load(tmp_path)) == ["a"]
    for step in (tmp_path / "a" / "checkpoints").glob("[0-9]*"):
        step.rename(step.with_name("taken-away"))
    with pytest.raises(ValueError, match="is not finished: step 0 of 4"):
        load(tmp_path, "a")
    assert json.loads((tmp_path / "config.json").read_text())["seed"] == 0
