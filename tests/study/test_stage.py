"""Stages: what a product depends on changes its digest, and nothing else does."""

import copy

import pytest

from jaxdiff import attacks
from jaxdiff.study import in_order, part

SPECS = {
    "table": {"name": "study.in_order", "specs": ["@score", "@plain"], "common": 3},
    "score": {"name": "attacks.apgd", "steps": 3, "deep": {"a": [1, 2.0, None]}},
    "plain": {"name": "attacks.linf", "radius": 0.1},
    "other": {"name": "attacks.linf", "radius": 0.1},
}


def digests(specs, common=0):
    return {name: stage.digest for name, stage in in_order(specs, common).items()}


def changed(path, value, specs=SPECS):
    specs = copy.deepcopy(specs)
    *parents, last = path
    inner = specs
    for name in parents:
        inner = inner[name]
    inner[last] = value
    return specs


def test_what_is_needed_comes_first_and_the_rest_as_written():
    assert list(in_order(SPECS)) == ["score", "plain", "table", "other"]
    assert in_order(SPECS)["table"].needs == ("score", "plain")
    folder = in_order(SPECS)["score"].folder
    assert folder.startswith("score-") and len(folder) == len("score-") + 16


LEAVES = [
    (("score", "steps"), 4, {"score", "table"}),
    (("score", "steps"), 3.0, {"score", "table"}),
    (("score", "deep", "a"), [1, 2, None], {"score", "table"}),
    (("score", "name"), "attacks.pgd", {"score", "table"}),
    (("plain", "radius"), 0.2, {"plain", "table"}),
    (("table", "common"), 4, {"table"}),
    (("table", "specs"), ["@plain", "@score"], {"table"}),
    (("table", "specs"), ["@score"], {"table"}),
    (("table", "specs"), ["score", "@plain"], {"table"}),
]


@pytest.mark.parametrize(("path", "value", "touched"), LEAVES)
def test_a_change_reaches_what_depends_on_it_and_nothing_else(path, value, touched):
    before, after = digests(SPECS), digests(changed(path, value))
    assert {name for name in before if before[name] != after[name]} == touched


def test_order_is_no_matter_and_a_name_is():
    before = digests(SPECS)
    assert before["plain"] != before["other"]  # the same part under two names draws two sets of weights
    turned = {name: dict(reversed(spec.items())) for name, spec in reversed(SPECS.items())}
    assert digests(turned) == before


def test_what_is_common_touches_all():
    before, after = digests(SPECS, {"seed": 0}), digests(SPECS, {"seed": 1})
    assert not {before[name] for name in before} & {after[name] for name in after}


def test_parts_as_written_and_as_read_are_the_same():
    spec = part(attacks.apgd, steps=5)
    assert digests({"a": spec})["a"] == digests({"a": spec.to_dict()})["a"]


@pytest.mark.parametrize(
    ("specs", "words"),
    [
        (
            {"a": {"name": "x.y", "b": "@scor"}, "score": {"name": "x.y"}},
            "'a' needs '@scor', did you mean 'score'",
        ),
        ({"a": {"radius": 1}}, "'a' is a part"),
        ({"a": {"name": "x.y", "b": "@b"}, "b": {"name": "x.y", "c": ["@a"]}}, "circle: a -> b -> a"),
        ({"a": {"name": "x.y", "b": "@a"}}, "circle: a -> a"),
    ],
)
def test_what_can_not_be_ordered_is_said(specs, words):
    with pytest.raises(ValueError, match=words):
        in_order(specs)
