"""Every field of every config: what it may not hold is refused in one line that names it, before anything is made of it."""

import copy
import functools
import inspect
import math

import cell_checks
import field_checks
import part_checks
import pytest
from test_configs import CONFIGS, TRAINED, load

TRAINED_SECTIONS = ("score", "classifier", "adversarial_training")
BAD = [None, math.nan, math.inf, -1, 0, 2.5, "a", True, [], {}]
# What of these a field may hold (a part, what its function takes); everything else is refused.
EMPTY, ANY = [[]], [-1, 0, 2.5]
MAY = {
    "seed": [0],
    "train.ema_decays": EMPTY,
    "augment": EMPTY,
    "label.scale": ANY,
    "label.offset": ANY,
    "clip": [None, 2.5],
    "curve.cells": EMPTY,
    "attack.curve.radii": [{}],
    "attack.panel": EMPTY,
    "attack.flow": EMPTY,
    "attack.surrogates": [{}],
    "purify.surrogate_steps": [None],
}


def leaves(tree, path=()):
    """Paths of all sections and fields, cells and parts apart: these are checked by what they name."""
    for name, value in tree.items():
        yield (*path, name)
        if (
            isinstance(value, dict)
            and "name" not in value
            and name not in ("cells", "classifiers", "surrogates")
        ):
            yield from leaves(value, (*path, name))


def changed(tree, path, value):
    """The tree with a value at a path."""
    tree = copy.deepcopy(tree)
    section = tree
    for name in path[:-1]:
        section = section[name]
    section[path[-1]] = copy.deepcopy(value)
    return tree


def may(path):
    """The row of MAY for a path: the longest that it ends with."""
    dotted = ".".join(path)
    return MAY.get(max((end for end in MAY if f".{dotted}".endswith(f".{end}")), key=len, default=""), [])


def same(a, b):
    return type(a) is type(b) and a == b


@pytest.mark.parametrize("name", CONFIGS)
def test_every_field_refuses_what_it_can_not_hold(name, monkeypatch):
    tree = config(name, monkeypatch)
    field_checks.check_values(tree)
    count = 0
    for path in leaves(tree):
        for value in BAD:
            allowed = any(same(value, good) for good in may(path))
            try:
                field_checks.check_values(changed(tree, path, value))
            except ValueError as error:
                told = str(error)
                assert not allowed, told
                assert path[-1] in told and "config" in told and "\n" not in told and len(told) < 500, told
                assert len(path) == 1 or ".".join(path[:-1]) in told, told
                count += 1
            else:
                assert allowed, f"{'.'.join(path)} = {value!r} is accepted"
    assert count > 90


def config(name, monkeypatch):
    monkeypatch.syspath_prepend(str(part_checks.__file__).rsplit("/", 2)[0] + "/configs")
    return load(name).to_dict()


@pytest.mark.parametrize("name", TRAINED)
def test_every_field_is_needed_but_for_the_optional_ones(name, monkeypatch):
    tree = config(name, monkeypatch)
    for *parents, last in leaves(tree):
        without = copy.deepcopy(tree)
        section = without
        for parent in parents:
            section = section[parent]
        del section[last]
        if ".".join([*parents, last]) in field_checks.OPTIONAL:
            field_checks.check_values(without)
        else:
            with pytest.raises(ValueError, match=f"needs the field '{last}'"):
                field_checks.check_values(without)


def test_a_batch_is_accumulated_in_equal_parts(monkeypatch):
    tree = config("digits", monkeypatch)
    for section in TRAINED_SECTIONS:
        size = tree[section]["train"]["batch_size"]
        field_checks.check_values(changed(tree, (section, "train", "accumulate"), size // 2))
        with pytest.raises(
            ValueError, match=rf"config\.{section}\.train\.batch_size is a multiple of accumulate"
        ):
            field_checks.check_values(changed(tree, (section, "train", "accumulate"), size // 2 + 1))


def test_what_is_misspelt_is_named_with_its_nearest(monkeypatch):
    tree = config("digits", monkeypatch)
    for path in leaves(tree):
        if len(path[-1]) < 4 or path[:2] == ("robustness", "cells"):
            continue
        misspelt = changed(tree, (*path[:-1], f"{path[-1]}e"), 1)
        with pytest.raises(ValueError, match=f"no field '{path[-1]}e', did you mean"):
            field_checks.check_values(misspelt)


def arguments(tree, path=()):
    """(path of a part, name) of all arguments of the parts of a config, cells apart."""
    for name, value in tree.items():
        if isinstance(value, dict) and name != "cells":
            yield from ((*path, name, k) for k in value if "name" in value and k != "name")
            yield from arguments(value, (*path, name))


@pytest.fixture
def untraced(monkeypatch):
    """Networks are as they should be, and digits are read once: these take most of the time."""
    monkeypatch.setattr(part_checks.dataset, "digits", functools.cache(part_checks.dataset.digits))
    monkeypatch.setattr(
        part_checks, "traced", lambda where, model, shape, *times: shape if times else (1, 10)
    )


@pytest.mark.usefixtures("untraced")
def test_every_argument_of_every_part_refuses_what_it_can_not_be(monkeypatch):
    """None where nothing may be left out, words for numbers, numbers for words, what is not finite: one line with the path."""
    tree = config("digits", monkeypatch)
    part_checks.check_parts(tree)
    found = list(arguments(tree))
    assert len(found) > 30
    for path in found:
        for value in (None, math.nan, -math.inf, "a", {}, True):
            if value is None and path[-1] == "clip":
                continue
            if value is True and path[-1] in ("keep_best", "random_start"):
                continue
            with pytest.raises(ValueError, match=rf"^config\.{'.'.join(path[:-1])}\b.*") as error:
                part_checks.check_parts(changed(tree, path, value))
            assert "\n" not in str(error.value)


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("score.process", {"name": "VPP"}, ["config.score.process", "'VPP'", "'VP'"]),
        ("score.process", {"name": "VP", "beta": 1.0}, ["config.score.process", "'beta'", "'beta_min'"]),
        ("score.sample.grid", {"name": "uniform"}, ["config.score.sample.grid", "'steps'"]),
        ("score.sample.grid", {"name": "uniform", "steps": 2.5}, ["steps as a whole number; got 2.5"]),
        ("score.sample.solver", {"name": "VP"}, ["config.score.sample.solver", "'VP'"]),
        ("robustness.purify.solver", {"name": "uniform", "steps": 3}, ["config.robustness.purify.solver", "'uniform'"]),
        ("classifier.augment", [{"name": "noise", "std": "much"}], ["config.classifier.augment[0]", "std", "'much'"]),
        ("classifier.model", {"name": "CNN", "channels": "abc"}, ["config.classifier.model", "channels", "a list"]),
        ("classifier.model", {"name": "CNN", "channels": [8, 2.5]}, ["channels", "a list", "[8, 2.5]"]),
        ("data", {"name": "digit"}, ["config.data", "'digits'"]),
    ],
)  # fmt: skip
def test_parts_are_made_before_anything_is_trained(path, value, words, monkeypatch):
    with pytest.raises(ValueError) as error:
        part_checks.check_parts(changed(config("digits", monkeypatch), path.split("."), value))
    assert all(word in str(error.value) for word in words), error.value


@pytest.mark.parametrize(
    ("section", "model", "words"),
    [
        ("classifier", {"name": "CNN", "channels": (8,), "classes": 7}, r"output \[7\]; for digits it is \[10\]"),
        ("score", {"name": "UNet", "channels": 8, "multipliers": (1,), "blocks": 1, "groups": 4, "out_channels": 3},
         r"output \[8, 8, 3\]; for digits it is \[8, 8, 1\]"),
        ("classifier", {"name": "CNN", "channels": (8,), "mean": (0.1, 0.2, 0.3)}, r"config\.classifier\.model: "),
    ],
)  # fmt: skip
def test_networks_fit_the_data(section, model, words, monkeypatch):
    """Seven classes for ten digits, three channels for one: traced, on an image of the data."""
    tree = config("digits", monkeypatch)
    kept = {
        name: tree[name]
        for name in ("seed", "data", "classifier", "score")
        if name in ("seed", "data", section)
    }
    with pytest.raises(ValueError, match=words):
        part_checks.check_parts(changed(kept, (section, "model"), model))


def test_annotations_decide():
    """The rules by themselves: which plain value is which kind."""

    def f(
        n: int,
        x: float,
        either: int | None,
        letters: str,
        yes: bool,
        sizes: tuple[int, ...],
        scale: float | int,
        free,
    ): ...

    namespace = type("parts", (), {"f": f, "__all__": ["f"]})
    values = [None, 3, 0.5, "a", True, (1, 2), [1], (), [0.5], math.nan]
    good = {
        "n": [3], "x": [3, 0.5], "either": [None, 3], "letters": ["a"], "yes": [True], "sizes": [(1, 2), [1], ()],
        "scale": [3, 0.5], "free": values,
    }  # fmt: skip
    assert set(good) == set(inspect.signature(f).parameters)
    for argument, fitting in good.items():
        for value in values:
            spec = {"name": "f", argument: value}
            if any(same(value, v) or value is v for v in fitting):
                part_checks.check_arguments("here", namespace, spec)
            else:
                with pytest.raises(ValueError, match=f"here needs {argument} as "):
                    part_checks.check_arguments("here", namespace, spec)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"stop": None}, "'stop' is True or False; got None"),
        ({"n": None}, "'n' is a whole number"),
        ({"threat": None}, "'threat' is a part"),
        ({"ascent": None}, "'ascent' is a part"),
        ({"ascent": {"name": "pgd", "lr": 0.1, "steps": None}}, "'ascent' needs steps as a whole number; got None"),
        ({"ascent": {"name": "pgd", "lr": math.nan, "steps": 2}}, "'ascent' needs lr as a finite number"),
        ({"ascent": {"name": "pgd", "lr": 0.1, "steps": 2.0}}, "steps as a whole number; got 2.0"),
        ({"judge": None}, "'judge' is a part"),
        ({"gradient": None}, "no gradient None"),
        ({"surrogates": None}, "'surrogates' is a list"),
        ({"low_frequency": None}, "here: "),
        (None, "here is a section with the fields .* got None"),
    ],
)  # fmt: skip
def test_cells_refuse_none_and_numbers_of_other_kinds(change, words):
    cell = {
        "threat": {"name": "linf", "radius": 0.1},
        "ascent": {"name": "pgd", "lr": 0.1, "steps": 2},
        "objective": {"name": "cross_entropy"},
    }
    with pytest.raises(ValueError, match=words):
        cell_checks.check_cell("here", cell | change if change is not None else None, (4, 4, 1), 3)
