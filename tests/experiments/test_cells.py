"""Cells of a config: what can not run, or would be read as something else, is refused in words before anything runs."""

from pathlib import Path
from types import SimpleNamespace

import attack
import cell_checks
import cells
import common
import evaluation
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import robustness

import jaxdiff.attacks

ROOT = Path(common.__file__).parents[1]
LINF, L2 = {"name": "linf", "radius": 0.06}, {"name": "l2", "radius": 0.3}
FLOW = {"name": "flow_field", "radius": 0.2}
CE, TOWARDS = {"name": "cross_entropy"}, {"name": "targeted_dlr"}
APGD = {"name": "apgd", "steps": 3}
HERE = (6, 5, 1), 10  # images and classes to trace with


def climb(ascent=APGD, threat=LINF, objective=CE, **more):
    return {"ascent": ascent, "threat": threat, "objective": objective, **more}


def attacked(name, threat=L2, more=(), **arguments):
    return {"attack": {"name": name, **arguments}, **({"threat": threat} if threat else {}), **dict(more)}


def test_every_draw_of_eot_is_a_query():
    """Seen by the classifier as well as told."""
    calls, (x, key) = [], (jnp.full((6, 5, 1), 0.5), jax.random.key(0))

    def classifier(x, key):
        jax.debug.callback(calls.append, jax.random.uniform(key))  # once for every key
        return jnp.stack([jnp.sum(x), 20.0, 0.0, 1.0])

    for cell in (climb(), climb(eot=3)):
        calls.clear()
        found = cells.build_attack(cell, 0.01).run(classifier, x, jnp.asarray(1), key)
        jax.effects_barrier()
        assert found.queries == len(calls) == 4 * cell.get("eot", 1)


def refused(cell, words, *data):
    with pytest.raises(ValueError, match=words) as error:
        cell_checks.check_cell("config.attack.cells.x", cell, *(data or HERE))
    assert str(error.value).startswith("config.attack.cells.x")


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ({"ascents": {}}, "did you mean 'ascent'"),
        ({"ascent": {"name": "pgd"}}, "needs an objective"),
        ({"ascent": {}, "attack": {}, "objective": CE}, "one of ascent, attack, autoattack"),
        ({"autoattack": {"name": "standard"}, "threat": LINF, "draws": 20}, "does not read 'draws'"),
        ({"attack": {"name": "ddn"}, "targets": 3}, "does not read 'targets'"),
        ({"threat": LINF, "restarts": 3}, "a cell without an attack does not read 'restarts'"),
        (climb("apgd"), "'ascent' is a part"),
        (climb(restarts=0), "'restarts' is a whole number from 1; got 0"),
        (climb(gradient="nonsense"), "no gradient 'nonsense'.*'bpda'.*'surrogate'"),
        (climb(gradient="bdpa"), "did you mean 'bpda'"),
        (climb(judge={"name": "worst_of"}), "missing a required argument: 'n'"),
        (climb(judge={"name": "worst_of", "n": "5"}), "'judge' needs n as a whole number; got '5'"),
        (climb(judge={"name": "at_least", "k": 3, "n": 2}), "1 <= k <= n"),
        (climb(judge={"name": "worst", "n": 5}), "did you mean 'worst_of'"),
        (climb(judge={"name": "one_shot", "known": "yes"}), "'known' of a judge is True or False"),
        (climb({"name": "apgd", "step": 3}), "no argument 'step', did you mean 'steps'"),
        (climb({"name": "apgd", "steps": "3"}), "."),
        (climb({"name": "pgd", "lr": 0.1, "steps": 1, "tx": "momentum"}), "."),
        (climb(threat={"name": "linf", "radius": -0.1}), "radius"),
    ],
)  # fmt: skip
def test_fields_and_arguments(cell, words):
    refused(cell, words)


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ({"attack": APGD, "threat": LINF}, "'attack' names 'apgd', which is .* ascent. Say it as 'ascent'"),
        (climb({"name": "deepfool"}), "'ascent' names 'deepfool', which is .* attack. Say it as 'attack'"),
        (attacked("linf"), "of the kind threat"),
        (attacked("standard"), "of the kind autoattack"),
        (climb(threat={"name": "apgd", "radius": 1.0}), "'threat' names 'apgd'"),
        (attacked("deepfol"), "there is no attack 'deepfol', did you mean 'deepfool'"),
        ({"autoattack": {"name": "standrd"}, "threat": LINF}, "did you mean 'standard'"),
        (attacked("transfer"), "'transfer' is said by 'surrogates'"),
        (attacked("universal_pgd"), "'universal_pgd' is a function of the library"),
        (attacked("apply_patch"), "'apply_patch' is a function of the library"),
        (climb(objective={"name": "kl"}), "'kl' is a function of the library"),
    ],
)
def test_names_stand_where_they_belong(cell, words):
    refused(cell, words)


@pytest.mark.parametrize(
    "cell",
    [
        attacked("ddn", targeted=True),
        attacked("carlini_wagner", targeted=True),
        attacked("pixels", None, targeted=True),
        attacked("stadv_original", goal="targeted"),
        attacked("synthesise", steps=2, lr=0.1),
        attacked("stay_near", lmbda=1.0, steps=2, lr=0.1),
        climb(objective=TOWARDS),
        climb(targets=3, objective={"name": "margin"}),
    ],
)
def test_a_cell_knows_no_other_class_to_aim_at(cell):
    """A targeted attack would aim at the label, succeed at once, and count as no success."""
    refused(cell, r"with 'targets' \(how many\) and an objective out of \('targeted_cross_entropy'")


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ({"autoattack": {"name": "standard"}}, "autoattack needs a threat"),
        ({"ascent": {"name": "pgd", "lr": 0.1}, "objective": CE}, "pgd needs a threat"),
        *((attacked(name, None), f"{name} needs a threat")
          for name in ("ddn", "carlini_wagner", "stadv_original", "deepfool", "fab", "fab_targeted")),
        (climb(threat={"name": "linf"}), "'linf' needs a radius"),
        (attacked("stadv", FLOW, bound=0.1), "stadv takes 'bound' from the threat"),
        (climb({"name": "square_linf", "queries": 4, "radius": 0.3}), "square_linf takes 'radius'"),
        ({"autoattack": {"name": "standard", "radius": 0.3}, "threat": LINF}, "standard takes 'radius'"),
        (climb({"name": "square_linf", "queries": 4}, L2), "square_linf needs the threat 'linf'; got 'l2'"),
        (attacked("ddn", FLOW), "ddn needs a threat that is a norm of pixels"),
        (attacked("pixels", FLOW), "pixels needs a threat that is a norm of pixels"),
        (attacked("stadv", {"name": "fourier_l2", "radius": 1.0}), "stadv needs a threat that is a norm"),
        (attacked("ddn", more={"low_frequency": 0.5}), "ddn knows no low frequencies"),
        (climb({"name": "rotation_translation"}), "rotation_translation knows no threat"),
        (climb({"name": "worst_of_k", "k": 2}), "worst_of_k knows no threat"),
    ],
)  # fmt: skip
def test_an_attack_has_one_threat_and_keeps_to_it(cell, words):
    refused(cell, words)


@pytest.mark.parametrize(
    ("cell", "classes", "words"),
    [
        (climb(objective={"name": "dlr"}), 2, "at least 3 classes"),
        (climb(objective=TOWARDS, targets=5), 4, "n = 5 classes"),
        (climb({"name": "pgd", "lr": 0.1, "steps": 1}, targets=2, objective=TOWARDS), 4, "ascent in steps"),
        ({"autoattack": {"name": "standard"}, "threat": FLOW}, 10, "Known: .*linf"),
    ],
)
def test_what_only_a_trace_can_tell(cell, classes, words):
    refused(cell, words, (6, 5, 1), classes)


@pytest.mark.parametrize(
    ("surrogates", "words"),
    [
        (("resnet65",), r"no surrogate 'resnet65', did you mean 'resnet56'"),
        ("resnet56", "a list of names"),
        ((), "a list of names"),
        (3, "a list of names"),
    ],
)
def test_a_surrogate_is_one_of_the_config(surrogates, words):
    refused(climb(surrogates=surrogates), words, *HERE, ("resnet56", "resnet20"))


def test_attacks_on_surrogates():
    one = {"surrogates": ("resnet56",)}
    known = (*HERE, ("resnet56",))
    cell_checks.check_cell("x", climb(**one), *known)
    refused(climb(**one), "config.attack.surrogates, and there are none", *HERE)
    refused(one, "a cell without an attack does not read 'surrogates'", *known)
    refused(climb(**one, gradient="bpda"), "got a 'gradient' of the victim as well", *known)
    refused(attacked("ddn", more=one), "ddn goes no further than the boundary of a surrogate", *known)


def test_a_cell_can_leave_out_the_threat_of_all(monkeypatch):
    """In a robustness config every cell has the common threat but those that know none and say so."""
    monkeypatch.syspath_prepend(str(ROOT / "configs"))
    config = __import__("digits").get_config("smoke")
    turned = {"ascent": {"name": "rotation_translation", "grid": (2, 2, 2)}}
    refused(robustness.full_cell(config, turned), "rotation_translation knows no threat")
    cell = robustness.full_cell(config, {**turned, "threat": None})
    assert "threat" not in cell and cell["objective"] == config.robustness.objective.to_dict()
    cell_checks.check_cell("x", cell, *HERE)
    refused(robustness.full_cell(config, {**turned, "threat": None, "judge": None}), "'judge' is a part")
    config.unlock().robustness.curve.cells = ("none/turned",)
    with pytest.raises(ValueError, match=r"names 'none/turned'; the cells with a radius are \['none/pgd'\]"):
        robustness.check_curve(config, {("none", "turned"): cell, ("none", "pgd"): climb()})


def test_every_stage_is_traced(monkeypatch):
    def broken(*problem):
        raise TypeError("the second stage")

    stages = {"first": lambda radius: lambda classifier, x, y, key: x, "second": lambda radius: broken}
    monkeypatch.setattr(cell_checks, "stages_of", lambda cell, classes: stages)
    refused(climb(), "x: the second stage")


@pytest.mark.parametrize(
    "cell",
    [
        {},
        climb(gradient="surrogate", judge={"name": "worst_of", "n": 2, "known": True}, eot=2),
        climb(targets=2, objective=TOWARDS, restarts=2),
        climb({"name": "pgd", "lr": 0.01, "steps": 2}, draws=2, low_frequency=0.5),
        {"ascent": {"name": "worst_of_k", "k": 2}, "objective": CE},
        attacked("pixels", None, population=4, generations=1, targeted=False),
        attacked("stadv", None, steps=1),
        attacked("stadv", L2, steps=1),
        climb({"name": "flow_ascent", "steps": 1, "lr": 0.1, "tau": 0.0}, FLOW),
        attacked("stadv_original", L2, steps=1),
        attacked("ddn", steps=2),
    ],
)
def test_good_cells(cell):
    cell_checks.check_cell("x", cell, *HERE)


def test_every_public_name_has_a_place():
    """What jaxdiff.attacks exports is of one role, or a function of the library: a new name has to be put somewhere."""
    helpers = {
        "Best", "Stepwise", "Threat", "averaged", "bpda", "defend", "ensemble", "eot", "eot_logits", "kl", "lost",
        "low_frequency", "multi_targeted", "pooled", "restarts", "run_with_flow", "targeted", "transfer", "untargeted", "warp",
    }  # fmt: skip
    placed = [name for role in cell_checks.ROLES.values() for name in role] + list(cell_checks.AIMED)
    assert len(set(placed)) == len(placed)
    public = {name for name in jaxdiff.attacks.__all__ if callable(getattr(jaxdiff.attacks, name))}
    assert public - set(placed) == helpers


def test_step_lengths_scale_with_the_radius(key):
    """A step of the nominal length at a hundredth of the radius would leave the ball: only the scaled one stays inside."""
    cell = climb({"name": "pgd", "lr": 0.01, "steps": 1, "random_start": False})
    x = jnp.full((3, 3, 1), 0.5)
    classifier = lambda x, key: jnp.stack([jnp.sum(x), -jnp.sum(x)])
    for radius in (0.06, 0.0006):
        x_adv = cells.build_attack(cell, radius)(classifier, x, jnp.asarray(0), key)
        np.testing.assert_allclose(jnp.abs(x_adv - x), radius / 6, rtol=1e-3)


def test_the_radius_of_a_flow_is_its_bound(monkeypatch):
    bounds = []
    monkeypatch.setattr(jaxdiff.attacks, "stadv", lambda bound=0.05: bounds.append(bound))
    for radius in (0.2, 0.07):
        cells.build_attack(attacked("stadv", FLOW), radius)
    cells.build_attack(attacked("stadv", L2), 0.3)
    assert bounds == [0.2, 0.07, 0.05]
    assert not cells.without_radius(attacked("stadv", FLOW)) and cells.without_radius(attacked("stadv", L2))


def test_a_flow_counts_however_far_it_is_in_l2():
    """Within a flow threat nothing moves at radius 0, and at a larger one images go further in L2 than the radius."""
    classifier = lambda x, key: jnp.stack([x[0, 0, 0], 0.9 + 0.0 * x[0, 0, 0]])
    victim = evaluation.Victim("linear", 2, {}, lambda _: classifier)
    cell = attacked("stadv", FLOW, steps=1, lr=1.0)
    attack = jax.jit(evaluation.attack_function(victim, cell, cells.stages_of(cell, 2)[""], 1, {}))
    image = jnp.zeros((1, 4, 4, 1)).at[0, 0, 0].set(1.0)
    batch = {"image": image, "label": jnp.zeros(1, int), "id": jnp.arange(1), "real": jnp.ones(1, bool)}
    for radius, low, high in ((0.0, 0.0, 0.0), (0.2, 0.3, 1.0)):
        arguments = {"weights": {}, "others": {}, "key": jax.random.key(0), "radius": jnp.float32(radius)}
        assert low <= jnp.linalg.norm(attack(arguments, batch)["adversarial"] - image) <= high


def config_of(name, variant, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "configs"))
    return __import__(name).get_config(variant)


CIFAR10, DIGITS = (32, 32, 3), (8, 8, 1)


@pytest.mark.parametrize(
    ("name", "variant", "shape", "trace"),
    [
        ("attack_cifar10", "default", CIFAR10, True),
        ("attack_cifar10", "autoattack", CIFAR10, False),
        ("attack_cifar10", "smoke", CIFAR10, False),
        ("attack_digits", "smoke", DIGITS, False),
        pytest.param("attack_digits", "default", DIGITS, True, marks=pytest.mark.slow),
        pytest.param("attack_digits", "smoke", DIGITS, True, marks=pytest.mark.slow),
    ],
)
def test_every_cell_of_the_configs_can_run(name, variant, shape, trace, monkeypatch):
    """Names and arguments in the configs are those of the library; `trace` takes seconds."""
    config = config_of(name, variant, monkeypatch)
    common.check_fields(config)
    if not trace:
        monkeypatch.setattr(jax, "eval_shape", lambda *_: None)
    assert attack.checked_cells(config, SimpleNamespace(image_shape=shape, num_classes=10))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"panel": ("pdg",)}, r"panel names 'pdg'"),
        ({"flow": ("apgd-ce",)}, "draws stadv"),
        ({"flow": ("transfer",)}, "draws stadv"),
        ({"curve": {"cells": ("one-pixel",), "radii": (0.1,), "n": 1}}, "no radius"),
    ],
)
def test_figures_that_can_not_be_drawn(change, words, monkeypatch):
    config = config_of("attack_digits", "smoke", monkeypatch).unlock()
    for field, value in change.items():
        config.attack[field] = value
    with pytest.raises(ValueError, match=words):
        attack.check_figures(config.attack, config.attack.cells.to_dict())


@pytest.mark.parametrize("path", ["show", "panel", "flow", "cells", "curve.n", "masking.radius"])
def test_fields_that_are_read_late_are_missed_early(path, monkeypatch):
    config = config_of("attack_digits", "smoke", monkeypatch).unlock()
    *parents, last = path.split(".")
    section = config.attack
    for parent in parents:
        section = section[parent]
    del section[last]
    with pytest.raises(ValueError, match=f"config.attack.*needs the field '{last}'"):
        common.check_fields(config)


def test_a_bad_cell_of_a_config_is_named(monkeypatch):
    config = config_of("attack_digits", "smoke", monkeypatch).unlock()
    config.attack.cells = {"apgd": climb(), "t": climb(objective=TOWARDS)}
    with pytest.raises(ValueError, match=r"config\.attack\.cells\.t: "):
        attack.checked_cells(config)
