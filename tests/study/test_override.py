"""Fields set from a command line: typed, checked as when the config was written, whole parts too; one is set and no other."""

import pytest
from digits import get_config
from study.linear_stage import config

from jaxdiff.study.override import field, overridden, with_value

GOOD = [
    ("seed", "3", 3),
    ("stages.score.train.steps", "500", 500),
    ("stages.score.train.optimizer.lr", "1", 1.0),
    ("stages.score.train.optimizer.lr", "1e-3", 1e-3),
    ("stages.score.model.dtype", "bfloat16", "bfloat16"),
    ("stages.score.model.dtype", "'bfloat16'", "bfloat16"),
    ("stages.score.kind", "v", "v"),
    ("stages.score.train.ema_decays", "(0.9, 0.99)", (0.9, 0.99)),
    ("stages.score.label.scale", "1000.0", 1000.0),
    ("stages.table.n", "None", None),
    ("stages.table.minima", "True", True),
    ("data.validation", "0.1", 0.1),
    ("stages.table.victims.none.classifier", "@adversarial_training", "@adversarial_training"),
    ("stages.table.cells.blind_pgd.view", "bpda", "bpda"),
]


@pytest.mark.parametrize(("path", "text", "value"), GOOD)
def test_a_field_is_set_and_no_other(path, text, value):
    before, after = get_config().to_dict(), overridden(get_config(), [(path, text)]).to_dict()
    *parents, last = path.split(".")
    inner, own = before, after
    for name in parents:
        inner, own = inner[name], own[name]
    assert own[last] == value and type(own[last]) is type(value)
    inner[last] = value
    assert after == before


def test_a_part_is_replaced_whole_by_one_with_other_arguments():
    path = "stages.score.process"
    after = overridden(
        get_config(), [(path, "diffusion.linear(steps=100, beta_max=0.03)"), (f"{path}.steps", "200")]
    )
    assert after.stages.score.process.to_dict() == {
        "name": "diffusion.linear", "steps": 200, "beta_min": 1e-4, "beta_max": 0.03
    }  # fmt: skip
    nested = "attacks.restarts(attack=attacks.untargeted(ascent=attacks.apgd(steps=5), objective=attacks.margin()), n=2)"
    attack = overridden(
        get_config(), [("stages.table.cells.pgd.attack", nested)]
    ).stages.table.cells.pgd.attack
    assert attack.attack.ascent.rho == 0.75 and attack.n == 2
    assert overridden(get_config(), [(path, "diffusion.Cosine()")]).stages.score.process.offset == 0.008


BAD = [
    ("stages.score.trian.steps", "3", r"config\.stages\.score has no field 'trian', did you mean 'train'"),
    ("stages.score.train.steps", "many", "steps as a whole number; got 'many'"),
    ("stages.score.train.steps", "1.5", "steps as a whole number; got 1.5"),
    ("stages.score.train.steps", "(", "is no value"),
    ("stages.score.process", "diffusion.liner(steps=3)", "no 'liner', did you mean 'linear'"),
    ("stages.score.process", "diffusion.linear(step=3)", "no argument 'step', did you mean 'steps'"),
    ("stages.score.process", "diffusion.linear(3)", "is no value"),
    ("stages.table.cells.pgd.threat.radius", "far", "radius as a number"),
    ("seed.more", "3", "config.seed has no field 'more'"),
]


@pytest.mark.parametrize(("path", "text", "words"), BAD)
def test_a_mistake_is_one_clear_line(path, text, words):
    with pytest.raises(ValueError, match=words) as error:
        overridden(get_config(), [(path, text)])
    assert "\n" not in str(error.value)


def test_overriding_one_cell_changes_no_other():
    """Cells that were written with the same part hold copies of it."""
    path = "stages.table.cells.pgd.attack.ascent.steps"
    after = overridden(get_config(), [(path, "7")])
    assert after.stages.table.cells.pgd.attack.ascent.steps == 7
    for name, cell in after.stages.table.cells.items():
        if name != "pgd":
            assert cell.to_dict() == get_config().stages.table.cells[name].to_dict()


def test_the_order_of_victims_and_cells_stays():
    after = overridden(get_config(), [("stages.table.n", "7")])
    assert list(after.stages.table.cells) == list(get_config().stages.table.cells)
    assert list(after.stages) == list(get_config().stages) != sorted(after.stages)
    assert with_value(config(), "seed", 4).seed == 4 and field(config(), "stages.table.n") == 20
