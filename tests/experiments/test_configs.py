"""Configs hold plain values, build every part they name, and refuse what nobody reads."""

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import attack
import common
import pytest
import robustness
from cells import build_attack
from ml_collections import ConfigDict
from part_checks import check_parts
from train_classifier import training_attack

import jaxdiff.models
from jaxdiff.build import build
from jaxdiff.defenses import training as defenses
from jaxdiff.diffusion import grids, losses, solvers
from jaxdiff.evaluate.fingerprints import plain
from jaxdiff.keys import example_keys, purpose
from jaxdiff.models import count, initialise
from jaxdiff.train import optimizer

ROOT = Path(common.__file__).parents[1]
CONFIGS = sorted(path.stem for path in (ROOT / "configs").glob("*.py"))
TRAINED = [name for name in CONFIGS if not name.startswith("attack_")]
DATA = {
    name: SimpleNamespace(image_shape=shape, num_classes=10)
    for name, shape in (("digits", (8, 8, 1)), ("fashion_mnist", (28, 28, 1)), ("cifar10", (32, 32, 3)))
}


def load(name: str, variant: str = "default") -> ConfigDict:
    spec = importlib.util.spec_from_file_location(name, ROOT / "configs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(variant)


def put(config, path, value):
    """Sets the field at a path; None takes it away."""
    *parents, last = path.split(".")
    for name in parents:
        config = config[name]
    if value is None:
        del config[last]
    else:
        config[last] = value


@pytest.mark.parametrize("variant", ["default", "smoke"])
@pytest.mark.parametrize("name", TRAINED)
def test_every_part_can_be_built(name, variant):
    config = load(name, variant)
    plain(config)  # nothing but plain values
    common.check_fields(config)
    score, spec = common.build_score(config), config.robustness
    for section in (config.score.sample, spec.purify):
        build(solvers, section.solver, process=score.process)
        build(grids, section.grid, process=score.process)
    build(losses, config.score.weight), build(losses, config.score.time)
    attack = training_attack(config.adversarial_training.attack)
    for section in (config.score, config.classifier, config.adversarial_training):
        build(jaxdiff.models, section.model)
        build(optimizer, section.optimizer, total=section.train.steps)
        common.build_augment(section.augment)
    build(defenses, config.adversarial_training.loss, attack=attack)
    for cell in robustness.cells_in_order(config, DATA[name]).values():
        assert callable(build_attack(cell, spec.threat.radius))


def test_cifar10_is_the_published_ddpm():
    import jax
    import jax.numpy as jnp

    score = common.build_score(load("cifar10"))
    shapes = jax.eval_shape(
        lambda key: initialise(score.model, key, jnp.zeros((1, 32, 32, 3)), jnp.zeros(1)), jax.random.key(0)
    )
    assert count(shapes[0]) == 35_746_307
    seen = []
    common.time_label(lambda x, t: seen.append(float(t)), **score.label)(None, 1.0)
    assert seen == [999.0]


@pytest.mark.parametrize("name", CONFIGS)
def test_unknown_variant(name):
    with pytest.raises(ValueError, match=r"'tiny'.*'default'.*'smoke'"):
        load(name, "tiny")


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("score.sample.grid.start", 0.5, ["config.score.sample", "not noise"]),
        ("robustness.purify.surrogate_steps", 1000, ["config.robustness.purify", "1000"]),
        ("score.process", {"name": "Cosine", "alpha_min": 0.0}, ["config.score.sample", "eps"]),
        ("adversarial_training.attack", None, ["config.adversarial_training.loss", "attack"]),
    ],
)
def test_parts_that_do_not_go_together_are_refused_before_training(path, value, words):
    config = load("digits", "smoke").to_dict()
    check_parts(config)
    put(config, path, value)
    with pytest.raises(ValueError) as error:
        check_parts(config)
    assert all(word in str(error.value) for word in words), error.value


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("scores", ["config has no field 'scores'", "did you mean 'score'"]),
        ("score.optimiser", ["config.score", "'optimiser'", "'optimizer'"]),
        ("classifier.train.step", ["config.classifier.train", "'steps'"]),
        ("robustness.radius", ["config.robustness", "threat"]),
    ],
)
def test_a_field_that_nobody_reads_is_an_error(path, words):
    config = load("digits").unlock()
    put(config, path, {})
    with pytest.raises(ValueError) as error:
        common.check_fields(config)
    assert all(word in str(error.value) for word in words)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"diffpur": {}}, ["'diffpur'", "'diffpure'"]),
        ({"none": {"pgd": {"ascents": {}}}}, ["none.pgd", "'ascents'", "'ascent'"]),
    ],
)
def test_unknown_cells_are_errors(change, words):
    config = load("digits").unlock()
    config.robustness.cells = change
    with pytest.raises(ValueError) as error:
        robustness.cells_in_order(config, DATA["digits"])
    assert all(word in str(error.value) for word in words)


def test_cells_stand_in_the_order_of_a_paper():
    cells = list(robustness.cells_in_order(load("digits"), DATA["digits"]))
    assert cells[0] == ("none", "standard") and cells[-1] == ("diffpure", "adaptive_pgd")
    assert [a for d, a in cells if d == "diffpure"] == list(robustness.ATTACKS)


@pytest.mark.parametrize("config", [None, {}, {"seed": 0}])
def test_a_config_is_a_config_dict(config):
    with pytest.raises(ValueError, match="--config needs config as a ConfigDict"):
        common.check_fields(config)


def test_a_missing_section_is_named():
    config = load("digits").unlock()
    del config.score
    with pytest.raises(ValueError, match=r"needs config\.score.*classifier"):
        common.need(config, "score")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"robustness.n": 361}, r"config\.robustness\.n is between 1 and the 360 test images; got 361"),
        ({"score": None}, r"needs config\.score"),
        ({"adversarial_training": None}, r"needs config\.adversarial_training"),
        ({"robustness.purify": None}, "purify"),
        ({"robustness.curve.cells": ("none/pgd", "none/fgsm")}, "names 'none/fgsm'"),
        ({"robustness.curve.radii": (0.1, -0.1)}, r"config\.robustness\.curve\.radii: "),
    ],
)
def test_what_a_run_needs_is_missed_before_it_begins(change, words):
    config = load("digits", "smoke").unlock()
    config.robustness.cells = {  # a trace each
        "none": {"standard": {}, "pgd": config.robustness.cells.none.pgd},
        "adversarial_training": {"standard": {}},
        "diffpure": {"standard": {}},
    }
    for path, value in change.items():
        put(config, path, value)
    with pytest.raises(ValueError, match=words):
        robustness.prepare(config)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"n": 361}, r"config\.attack\.n is between 1 and the 360 test images; got 361"),
        (
            {"classifiers": {"net": {"name": "fitted", "steps": None}}},
            r"classifiers\.net needs steps as a whole number",
        ),
        (
            {"surrogates": {"net": {"name": "trained", "workdir": 3}}},
            r"surrogates\.net needs workdir as a name; got 3",
        ),
        ({"cells": {"pgd": {"ascents": {}}}}, "did you mean 'ascent'"),
        ({"curve": {"cells": ("fgsm",), "radii": {"l2": (0.1,)}, "n": 2}}, "radii has none for 'linf'"),
        (
            {"curve": {"cells": ("fgsm",), "radii": {"linf": (0.1, -2.0)}, "n": 2}},
            r"config\.attack\.curve\.radii: ",
        ),
    ],
)
def test_what_an_attack_needs_is_missed_before_it_begins(change, words, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "configs"))
    config = load("attack_digits", "smoke").unlock()
    config.attack.cells, config.attack.panel, config.attack.flow = {"fgsm": config.attack.cells.fgsm}, (), ()
    del config.attack.curve
    config.attack.update(change)
    with pytest.raises(ValueError, match=words):
        attack.prepare(config)


def test_a_workdir_belongs_to_one_config(tmp_path):
    config = load("digits")
    common.claim(tmp_path / "run", config)
    common.claim(tmp_path / "run", load("digits"))
    other = load("digits").unlock()
    other.score.train.steps = 7
    with pytest.raises(ValueError, match=r"config\.score\.train\.steps: 3500 there, 7 here"):
        common.claim(tmp_path / "run", other)
    (tmp_path / "run" / "config.json").write_text("{")
    with pytest.raises(ValueError, match="unreadable"):
        common.claim(tmp_path / "run", config)


def test_purposes_and_examples_have_their_own_keys(key):
    import jax
    import numpy as np

    data = lambda k: np.asarray(jax.random.key_data(k))
    assert not np.array_equal(data(purpose(key, "a")), data(purpose(key, "b")))
    keys = example_keys(key, np.array([5, 2, 9]))
    np.testing.assert_array_equal(data(keys)[1], data(example_keys(key, np.array([2])))[0])
