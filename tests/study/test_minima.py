"""Minima over the attacks on a victim: within a threat, and their union, image by image."""

from jaxdiff.attacks import l2, linf
from jaxdiff.study.table.records import minimal


def rows(*stands):
    """Images that were right before, and whether they stand."""
    return [
        {
            "id": i, "label": 0, "before": 0, "after": int(not s), "correct_before": True, "correct_after": s,
            "finite": True, "norm": 0.1, "linf": 0.1, "loss": 0.0, "seconds": 1.0,
        }
        for i, s in enumerate(stands)
    ]  # fmt: skip


CELLS = {
    "a": rows(True, True, False, True),
    "b": rows(True, False, True, True),
    "c": rows(False, True, True, True),
}


def found(cells, limits):
    return {r["attack"]: (r["accuracy"], r["minimum_over"]) for r in minimal("v", cells, limits)}


def test_one_threat_has_one_minimum_and_no_union():
    told = found({k: CELLS[k] for k in "ab"}, {k: linf(0.1) for k in "ab"})
    assert told == {"all attacks": (0.5, ["a", "b"])}


def test_a_threat_of_one_attack_has_no_minimum_of_its_own():
    told = found(CELLS, {"a": linf(0.1), "b": linf(0.1), "c": l2(0.5)})
    assert told == {"all attacks, linf 0.1": (0.5, ["a", "b"]), "union over threats": (0.25, ["a", "b", "c"])}


def test_radii_are_threats_and_what_has_none_is_in_the_union_alone():
    told = found(CELLS, {"a": linf(0.1), "b": linf(0.2), "c": None})
    assert told == {"union over threats": (0.25, ["a", "b", "c"])}


def test_where_attacks_have_fewer_images_both_minima_are_told():
    told = found({"a": CELLS["a"], "b": CELLS["b"][:2], "c": CELLS["c"]}, dict.fromkeys("abc", linf(0.1)))
    assert told == {
        "all attacks: attacks on all images": (0.5, ["a", "c"]),
        "all attacks": (0.0, ["a", "b", "c"]),
    }
