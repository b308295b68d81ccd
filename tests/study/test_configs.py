"""The configs: every variant is planned, which traces all of it; "smoke" is small; no part is shared."""

import importlib
import os

import pytest

from jaxdiff.study import planned, variants_of
from jaxdiff.study.parts import is_part
from jaxdiff.study.variants import SMALL

NAMES = ("ablation_digits", "attack_cifar10", "attack_digits", "cifar10", "digits", "fashion_mnist", "generate_digits",
         "generate_fashion_mnist")  # fmt: skip
PUBLISHED = {
    "ddpm_cifar10": ("", "bound"),
    "edm_cifar10": ("", "conditional"),
    "guidance_imagenet64": (),  # the set is not among those of the tests
    "iddpm_cifar10": ("", "vlb"),
    "ncsn_cifar10": ("", "v2"),
    "rectified_flow_cifar10": ("", "euler"),
    "score_sde_cifar10": ("", "ve", "sub_vp", "vp_deep", "ve_deep", "sub_vp_deep"),
    "vdm_cifar10": ("", "monotone"),
}
SET = ("TFDS_DATA_DIR",)
NEEDS = {"attack_cifar10": (*SET, "JAXDIFF_WEIGHTS_DIR"), "cifar10": SET, "fashion_mnist": SET, "generate_fashion_mnist": SET,
         **dict.fromkeys(PUBLISHED, SET)}  # fmt: skip
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


def skip_without_data(name):
    missing = [v for v in NEEDS.get(name, ()) if v not in os.environ]
    if missing:
        pytest.skip(f"{missing[0]} is not set")


@pytest.mark.parametrize(("name", "variant"), VARIANTS)
def test_every_config_is_planned(name, variant):
    skip_without_data(name)
    assert list(planned(config_of(name, variant)).plans) == list(config_of(name, variant).stages)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "case"), [(n, c) for n, cases in PUBLISHED.items() for c in (*cases, None)])
def test_published_settings_are_planned(name, case):
    """Whole but for the Inception network, whose weights are nobody's to give; and small, all of it."""
    skip_without_data(name)
    if case is None:
        for small in ["smoke", *(f"{c}_smoke" for c in PUBLISHED[name] if c)]:
            assert "quality" in planned(config_of(name, small)).plans
        with pytest.raises(ValueError, match="unknown variant 'nothing'"):
            config_of(name, "nothing")
    else:
        stages = config_of(name, case).stages
        for last in {"samples", "likelihood"} & {*stages}:
            assert last in planned(config_of(name, case), last).plans


@pytest.mark.slow
def test_weights_that_are_not_there_are_told(monkeypatch):
    skip_without_data("ddpm_cifar10")
    monkeypatch.delenv("JAXDIFF_INCEPTION", raising=False)
    with pytest.raises(ValueError, match="JAXDIFF_INCEPTION, which is not set"):
        planned(config_of("ddpm_cifar10"))


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
    assert all(table.n == SMALL["n"] for table in tables) and (tables or name.startswith("generate"))
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
@pytest.mark.parametrize(
    ("case", "number"), [("", 18), ("weights", 6), ("averages", 12), ("sampling", 48), ("guidance", 15)]
)
def test_the_ablations_are_products_of_their_axes(case, number):
    variants = variants_of(config_of("ablation_digits", case))
    assert len(variants) == number
    assert "quality" in planned(config_of("ablation_digits", case)).plans
    shared = {planned(config, "classifier").stages["classifier"].digest for _, config in variants}
    assert len(shared) == 3  # one a seed
