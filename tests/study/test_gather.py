"""The numbers of a sweep: each once, with the axes that it depends on, and intervals over seeds."""

import json

import numpy as np
import pytest

from jaxdiff.study.gather import _by_evaluations, gathered, summary, write_summary
from jaxdiff.study.stage import Stage

SETTINGS = [{"seed": s, "kind": k} for s in (0, 1) for k in ("eps", "v")]


def variants():
    """A network that depends on both axes, a classifier on the seed alone."""
    return [
        {
            "score": Stage("score", {}, (), f"{setting['seed']}{setting['kind']}"),
            "classifier": Stage("classifier", {}, (), str(setting["seed"])),
        }
        for setting in SETTINGS
    ]


@pytest.fixture
def rows(tmp_path):
    for stages in variants():
        for stage in stages.values():
            (tmp_path / stage.folder).mkdir(exist_ok=True)
            record = {
                "metric": "loss",
                "split": "validation",
                "value": float(ord(stage.digest[0]) - 48),
                "n": 5,
            }
            (tmp_path / stage.folder / "results.json").write_text(json.dumps([record]))
    return gathered(SETTINGS, variants(), tmp_path, 4)


def test_a_stage_that_variants_share_is_listed_once_with_the_axes_that_it_depends_on(rows):
    assert [(r["stage"], r.get("seed"), r.get("kind")) for r in rows] == [
        ("score", 0, "eps"),
        ("classifier", 0, None),
        ("score", 0, "v"),
        ("score", 1, "eps"),
        ("classifier", 1, None),
        ("score", 1, "v"),
    ]


def test_the_first_variants_alone(tmp_path, rows):
    assert [(r["stage"], r["seed"]) for r in gathered(SETTINGS, variants(), tmp_path, 1)] == [
        ("score", 0),
        ("classifier", 0),
    ]


def test_the_interval_over_seeds_is_student_s():
    """Of 1, 2, 6: mean 3, standard deviation sqrt(7), t_{0.975, 2} = 4.302653."""
    values = [{"stage": "a", "metric": "loss", "seed": s, "value": v} for s, v in enumerate((1.0, 2.0, 6.0))]
    (found,) = summary(values, ["seed"], "seed")
    half = 4.302653 * np.sqrt(7 / 3)
    assert (found["mean"], found["seeds"]) == (3.0, 3)
    np.testing.assert_allclose([found["low"], found["high"]], [3 - half, 3 + half], rtol=1e-6)


def test_one_seed_has_the_interval_of_its_own_number():
    (found,) = summary(
        [{"stage": "a", "metric": "accuracy", "value": 0.5, "low": 0.4, "high": 0.6}], [], "seed"
    )
    assert (found["mean"], found["low"], found["high"], found["seeds"]) == (0.5, 0.4, 0.6, 1)


def test_numbers_by_evaluations_are_lines_of_what_does_not_say_how_many():
    """Heun asks twice a step: its points stand where they are paid for."""
    rows = [
        {"stage": "quality", "metric": "fid", "source": "samples", "solver": solver, "steps": n, "seed": seed,
         "evaluations": n * calls, "value": 1.0 / n + seed}
        for solver, calls in (("ddim", 1), ("heun", 2)) for n in (10, 5) for seed in (0, 1)
    ]  # fmt: skip
    told = summary(rows, ["seed", "solver", "steps"], "seed")
    assert [row["seeds"] for row in told] == [2] * 4
    lines = _by_evaluations(told, ["solver", "steps"], {"solver": "solver", "steps": "steps"})
    assert list(lines) == ["solver = ddim, samples", "solver = heun, samples"]
    x, mean, low, high = lines["solver = heun, samples"]
    assert x == [10.0, 20.0]
    np.testing.assert_allclose(mean, [0.7, 0.6])
    assert low[0] < mean[0] < high[0]


def test_a_metric_of_any_name_has_a_picture(tmp_path):
    """A slash is no folder."""
    rows = [
        {"stage": "a", "metric": "bits/dim (bound)", "seed": s, "lr": r, "value": s + r}
        for s in (0, 1)
        for r in (1, 2)
    ]
    write_summary(tmp_path, rows, {"seed": (0, 1), "lr": (1, 2)}, "seed")
    assert (tmp_path / "figures" / "a-bits_dim_bound_-lr.png").exists()
