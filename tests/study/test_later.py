"""Parts that are built later, what products offer to the part that they are named in, and fields that no product depends on."""

import sys
import types

import pytest

from jaxdiff.study import Aside, Bound, Later, build, in_order, part
from jaxdiff.study.parts import lasting


class Product:
    """A product, a function that offers its process."""

    def __init__(self, process):
        self.offers = {"process": process}

    def __call__(self, x):
        return x


def solver(process, eta: float = 0.0):
    return process, eta


def purifier(denoise, solver, process=None):
    return denoise, solver, process


def both(first, second, process=None):
    return first, second, process


def training(optimizer: Later, steps: int, log_every: Aside[int] = 100, extra: Later | None = None):
    return optimizer, steps, log_every, extra


def adam(lr: float, total: int | None = None):
    return lr, total


@pytest.fixture(autouse=True)
def module(monkeypatch):
    probe = types.ModuleType("later_probe")
    for function in (solver, purifier, both, training, adam):
        setattr(probe, function.__name__, function)
        monkeypatch.setattr(function, "__module__", "later_probe")
    monkeypatch.setitem(sys.modules, "later_probe", probe)


def test_a_product_offers_its_facts_to_the_part_it_is_named_in_and_to_no_other():
    score, other = Product("vp"), Product("cosine")
    tree = part(purifier, denoise="@score", solver=part(solver, eta=1.0))
    assert build(tree, {"score": score}) == (score, ("vp", 1.0), "vp")
    deeper = part(purifier, denoise=part(both, first="@score", second=1), solver=part(solver))
    assert build(deeper, {"score": score})[1:] == (("vp", 0.0), "vp")
    two = part(both, first=tree, second=part(purifier, denoise="@other", solver=part(solver)))
    (_, inner, own), (_, other_inner, other_own), _ = build(
        two, {"score": score, "other": other}, process="x"
    )
    assert (inner, own) == (("vp", 1.0), "vp") and (other_inner, other_own) == (("cosine", 0.0), "cosine")


def test_a_part_is_built_later_with_more_context():
    optimizer, steps, log_every, extra = build(
        part(training, optimizer=part(adam, lr=0.1), steps=7, extra={"a": "@score", "b": part(adam, lr=1.0)}),
        {"score": 1},
    )
    assert (steps, log_every) == (7, 100)
    assert optimizer() == (0.1, None) and optimizer(total=7) == (0.1, 7)
    assert extra(total=3) == {"a": 1, "b": (1.0, 3)}
    assert build(part(training, optimizer=part(adam, lr=0.1), steps=7))[3] is None
    offered = build(part(training, optimizer=part(purifier, denoise="@score", solver=part(solver)), steps=1), {
        "score": Product("vp")
    })[0]  # fmt: skip
    assert offered()[1] == ("vp", 0.0)


def test_arrays_take_the_place_of_those_of_the_products_that_a_part_names():
    score = Bound(lambda weights: Product(f"vp {weights}"), 1)
    spec = part(training, optimizer=part(purifier, denoise="@score", solver=part(solver)), steps=1)
    later = build(spec, {"score": score, "other": Bound(Product, 5)})[0]
    assert later.arrays == {"score": 1}
    for arrays, seen in ((None, "vp 1"), ({}, "vp 1"), ({"score": 2, "other": 3}, "vp 2")):
        denoise, (process, _), _ = later(arrays)
        assert denoise.offers["process"] == process == seen
    assert (
        later({"score": 2}, process="mine")[2] == "vp 2"
    )  # what it names is nearer than what stands around it


def test_what_is_wrong_with_a_part_that_is_built_later_is_said_at_once():
    with pytest.raises(ValueError, match=r"needs optimizer as a part; got 3"):
        part(training, optimizer=3, steps=1)
    with pytest.raises(ValueError, match="no argument 'lrr', did you mean 'lr'"):
        part(training, optimizer={"name": "later_probe.adam", "lrr": 1.0}, steps=1)
    with pytest.raises(ValueError, match=r"log_every as a whole number; got 0\.5"):
        part(training, optimizer=part(adam, lr=1.0), steps=1, log_every=0.5)


def test_a_field_that_is_aside_changes_no_digest():
    def digest(**changes):
        spec = {"optimizer": part(adam, lr=0.1), "steps": 3} | changes
        return in_order({"a": part(training, **spec)})["a"].digest

    assert digest() == digest(log_every=7) == digest(log_every=100)
    assert (
        len({digest(), digest(steps=4), digest(optimizer=part(adam, lr=0.2)), digest(extra=part(adam, lr=1))})
        == 4
    )
    nested = lasting([{"a": part(training, optimizer=part(adam, lr=0.1), steps=3)}])
    assert "log_every" not in nested[0]["a"] and nested[0]["a"]["optimizer"]["lr"] == 0.1
