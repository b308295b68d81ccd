"""Studies: everything is planned before anything is made, what is made stays, and a change remakes what depends on it alone."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from jaxdiff.data import dataset
from jaxdiff.study import Plan, part, planned, run, study

MADE = []  # the stages whose work was done, in order


def count_up(steps: int, data, start: float = 0.0, fail: bool = False):
    """Counts images of the data `steps` times, resumably: what it has is in its folder."""
    size = len(data("train"))
    if steps < 1:
        raise ValueError(f"count_up needs steps >= 1; got {steps}.")

    def make(run):
        done = run.folder / "value.json"
        if not done.exists():
            if fail:
                raise RuntimeError("in the middle")
            MADE.append(run.name)
            noise = float(jax.random.uniform(run.key))
            done.write_text(json.dumps([start + size * steps, noise]))
        return jnp.asarray(json.loads(done.read_text()))

    return Plan(jax.ShapeDtypeStruct((2,), jnp.float32), make)


def add(a, b, scale: float = 1.0):
    """The weighted sum of two products, whose shapes are known at planning."""
    if a.shape != b.shape:
        raise ValueError(f"shapes {a.shape} and {b.shape}")

    def make(run):
        MADE.append(run.name)
        return scale * (np.asarray(a) + np.asarray(b))

    return Plan(a, make)


def no_plan():
    """Returns something else."""
    return 3


def config(variant="", seed=0, **changes):
    """Two stages, and one that needs both."""
    settings = {"left": {"steps": 7}, "right": {"steps": 9}, "sum": {}}
    for name, more in changes.items():
        settings[name] |= more
    return study(
        variant,
        seed=seed,
        data=part(dataset.digits),
        stages={
            "sum": part(add, a="@left", b="@right", **settings["sum"]),
            "left": part(count_up, **settings["left"]),
            "right": part(count_up, **settings["right"]),
        },
    )


@pytest.fixture(autouse=True)
def nothing_made():
    MADE.clear()


def made(study_config, workdir, **more):
    MADE.clear()
    products = run(study_config, workdir, **more)
    return products, sorted(MADE)


def test_what_is_there_is_not_made_again(tmp_path):
    products, names = made(config(), tmp_path)
    assert names == ["left", "right", "sum"] and products["left"][0] == 7 * 1437
    assert products["left"][1] != products["right"][1]  # each draws from its own name
    np.testing.assert_allclose(products["sum"], products["left"] + products["right"])
    again, names = made(config(), tmp_path)
    assert names == ["sum"]  # which keeps nothing
    np.testing.assert_array_equal(again["sum"], products["sum"])


CHANGES = [
    ({"sum": {"scale": 2.0}}, ["sum"]),
    ({"left": {"steps": 8}}, ["left", "sum"]),
    ({"seed": 1}, ["left", "right", "sum"]),
]


@pytest.mark.parametrize(("change", "names"), CHANGES)
def test_a_change_remakes_what_depends_on_it_alone_and_the_old_stays(tmp_path, change, names):
    before, _ = made(config(), tmp_path)
    _, found = made(config(**change), tmp_path)
    assert found == names
    after, found = made(config(), tmp_path)
    assert found == ["sum"]
    np.testing.assert_array_equal(after["left"], before["left"])


def test_one_stage_alone_needs_what_it_needs(tmp_path):
    _, names = made(config(), tmp_path, only="left")
    assert names == ["left"]
    assert sorted(made(config(), tmp_path, only="sum")[0]) == ["left", "right", "sum"]
    with pytest.raises(ValueError, match="'lefts', did you mean 'left'"):
        run(config(), tmp_path, only="lefts")


def test_an_error_is_told_before_anything_is_made(tmp_path):
    """Also one of the last stage, which needs the products of the first."""
    for wrong, words in (
        ({"right": {"steps": 0}}, "steps >= 1"),
        ({"left": {"start": "far"}}, "start as a number"),
    ):
        with pytest.raises(ValueError, match=words):
            run(config(**wrong), tmp_path / "new")
    specs = config().to_dict()
    specs["stages"]["sum"] = {"name": f"{__name__}.no_plan"}
    with pytest.raises(ValueError, match="Plan") as error:
        run(specs, tmp_path / "new")
    assert error.value.__notes__[-1] == "in the stage 'sum'"
    assert not (tmp_path / "new").exists() and not MADE


def test_a_run_that_breaks_keeps_what_is_finished_and_blocks_nothing(tmp_path):
    with pytest.raises(RuntimeError, match="in the middle"):
        run(config(right={"fail": True}), tmp_path)
    assert sorted(MADE) == ["left"]
    assert [path.name.split("-")[0] for path in Path(tmp_path).glob("*-*")] == ["left"]
    assert made(config(), tmp_path)[1] == ["right", "sum"]


def test_a_folder_says_what_it_holds(tmp_path):
    run(config(), tmp_path, only="left")
    (folder,) = tmp_path.glob("*-*")
    assert (tmp_path / "left").resolve() == folder.resolve()
    told = json.loads((folder / "stage.json").read_text())
    assert told.pop("common") and told.pop("needs") == {}
    assert told == {"stage": "left", "name": f"{__name__}.count_up", "steps": 7, "start": 0.0, "fail": False}


def test_a_part_replaced_whole_has_the_defaults_and_the_digest_of_one_that_is_written(tmp_path):
    run(config(), tmp_path)
    replaced = config().unlock()
    replaced.stages.left = ConfigDict({"name": f"{__name__}.count_up", "steps": 7})
    assert made(replaced, tmp_path)[1] == ["sum"]


def test_smoke_makes_every_count_small():
    small = config("smoke", left={"steps": 2})
    assert small.stages.left.steps == 2 and small.stages.right.steps == 3 and small.stages.left.start == 0.0
    with pytest.raises(ValueError, match="unknown variant 'smok', did you mean 'smoke'"):
        config("smok")


def test_what_is_no_study_is_said():
    for wrong in ({"seed": 0}, 3, None):
        with pytest.raises(ValueError, match=r"fields \('seed', 'data', 'stages', 'axes'\)"):
            planned(wrong)
    with pytest.raises(ValueError, match="seed as a whole number"):
        config(seed=-1)
