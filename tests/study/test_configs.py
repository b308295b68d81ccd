"""The configs: every variant is planned, which traces all of it; "smoke" is small; no part is shared."""

import importlib
import os

import pytest

from jaxdiff.study import planned, variants_of
from jaxdiff.study.parts import is_part
from jaxdiff.study.variants import SMALL

NAMES = ("ablation_digits", "attack_cifar10", "attack_digits", "cifar10", "digits", "fashion_mnist")
NEEDS = {"attack_cifar10": ("TFDS_DATA_DIR", "JAXDIFF_WEIGHTS_DIR"), "cifar10": ("TFDS_DATA_DIR",),
         "fashion_mnist": ("TFDS_DATA_DIR",)}  # fmt: skip
QUICK = (("digits", "smoke"),)
VARIANTS = [
    pytest.param(name, variant, marks=() if (name, variant) in QUICK else pytest.mark.slow)
    for name in NAMES
    for variant in ("", "smoke", *(["autoattack"] if name == "attack_cifar10" else []))
]


def config_of(name, variant=""):
    return importlib.import_module(name).get_config(variant)


def fields(tree, path=""):
    """(path, value) of all that is no dict."""
    for name, value in tree.items():
        if hasattr(value, "items"):
            yield from fields(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


@pytest.mark.parametrize(("name", "variant"), VARIANTS)
def test_every_config_is_planned(name, variant):
    missing = [v for v in NEEDS.get(name, ()) if v not in os.environ]
    if missing:
        pytest.skip(f"{missing[0]} is not set")
    assert list(planned(config_of(name, variant)).plans) == list(config_of(name, variant).stages)


@pytest.mark.parametrize("name", NAMES)
def test_smoke_is_the_same_with_little_work(name):
    config, small = config_of(name), config_of(name, "smoke")
    assert list(config.stages) == list(small.stages)
    whole = {
        path.rpartition(".")[2]: value for path, value in fields(small.stages) if ".process." not in path
    }
    for last, most in SMALL.items():
        assert whole.get(last) is None or not isinstance(whole[last], int) or whole[last] <= most
    tables = [s for s in small.stages.values() if "victims" in s]
    assert tables and all(table.n == SMALL["n"] for table in tables)
    with pytest.raises(ValueError, match="'smokey', did you mean 'smoke'"):
        config_of(name, "smokey")


@pytest.mark.parametrize("name", NAMES)
def test_no_part_is_shared(name):
    """One dict in two places would be overridden in both."""
    seen = []

    def visit(tree):
        assert not any(tree is other for other in seen)
        seen.append(tree)
        for value in tree.values():
            if hasattr(value, "items"):
                visit(value)

    visit(config_of(name))
    assert any(is_part(tree) for tree in seen)


@pytest.mark.slow
def test_the_cells_of_the_digits_are_those_of_the_readme():
    stages = config_of("digits").stages
    places = planned(config_of("digits"), "table").plans
    assert list(stages) == list(places)
    assert {cell.column or name for name, cell in stages.table.cells.items()} == {
        "fgsm", "pgd", "blind_pgd", "bpda", "adaptive_pgd"
    }  # fmt: skip
    assert list(stages.table.victims) == ["none", "adversarial_training", "diffpure"]


@pytest.mark.slow
def test_the_ablation_is_a_product_of_its_axes():
    variants = variants_of(config_of("ablation_digits"))
    assert len(variants) == 18
    shared = {planned(config, "classifier").stages["classifier"].digest for _, config in variants}
    assert len(shared) == 3  # one a seed
