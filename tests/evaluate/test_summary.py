"""What stands is right before AND after; what is not finite has not stood; what is no image with a label is in no number."""

import itertools
import math

import pytest

from jaxdiff.evaluate import summarise, worst_case
from jaxdiff.evaluate.summary import robust, share


def row(example=0, before=True, after=True, finite=True, **more):
    judged = {"correct_before": before, "correct_after": after, "finite": finite}
    return {"id": example, "norm": 0.1, "linf": 0.1, "seconds": 1.0} | judged | more


TRUTH = list(itertools.product((False, True), repeat=3))  # before, after, finite


@pytest.mark.parametrize(("before", "after", "finite"), TRUTH)
def test_an_image_stands_if_it_is_right_before_and_after_and_finite(before, after, finite):
    found = row(before=before, after=after, finite=finite)
    assert share(found) == before * after * finite and robust(found) is bool(before and after and finite)
    assert share(found | {"valid": False}) == 0


def test_the_accuracies_of_all_eight_kinds_of_rows():
    """Of eight images one stands; four are right before, and two after: those that are finite."""
    value = summarise([row(i, *kind) for i, kind in enumerate(TRUTH)])
    assert (value["accuracy"], value["n"]) == (1 / 8, 8)
    assert (value["accuracy_before"], value["accuracy_after"], value["nonfinite"]) == (4 / 8, 2 / 8, 4)


def test_a_judged_row_that_is_not_finite_has_not_stood_whatever_its_verdict():
    judged = row(share=0.75, verdict=0.75, verdict_before=1.0)
    blown = judged | {"finite": False}
    assert (share(judged), share(blown)) == (0.75, 0)
    value = summarise([judged, blown])
    assert (value["accuracy"], value["accuracy_after"], value["accuracy_before"]) == (0.375, 0.375, 1.0)


def test_what_is_no_image_with_a_label_changes_no_number_but_its_own_count():
    rows = [row(i, *kind) for i, kind in enumerate(TRUTH)]
    broken = [row(10 + i, *kind, valid=False, norm=9.0) for i, kind in enumerate(TRUTH)]
    with_them, without = summarise(rows + broken), summarise(rows)
    assert (without["invalid"], with_them["invalid"]) == (0, 8)
    assert with_them["seconds"] == 16.0  # their time was spent
    for name in set(with_them) - {"invalid", "seconds"}:
        assert with_them[name] == without[name], name
    assert summarise([row(valid=True)]) == summarise([row()])
    with pytest.raises(ValueError, match="got 8, 8 of them invalid"):
        summarise(broken)


@pytest.mark.parametrize("order", [1, -1])
def test_the_worst_case_does_not_depend_on_the_order_of_the_attacks(order):
    """Image 0 is wrong before; after a it happens to be right. 1 blows up under b, 2 stands, 3 is no image under a."""
    a = [row(0, before=False), row(1), row(2), row(3, valid=False)]
    b = [row(0, before=False, after=False), row(1, after=False, finite=False), row(2), row(3)]
    value = worst_case([a, b][::order])
    assert (value["accuracy"], value["n"]) == (pytest.approx(1 / 3), 3)
    assert value["accuracy_before"] == pytest.approx(2 / 3)
    assert value["accuracy_after"] == pytest.approx(1 / 3)
    assert (value["nonfinite"], value["invalid"], value["seconds"]) == (1, 1, 8.0)


@pytest.mark.parametrize("order", [1, -1])
def test_the_worst_case_of_shares(order):
    """Each alone and both together: the lowest of the attacks, image by image, judged or not."""
    a = [
        row(0, share=0.5, verdict=0.75, verdict_before=0.75),
        row(1, share=1.0, verdict=1.0, verdict_before=1.0),
    ]
    b = [row(0, share=0.25, verdict=1.0, verdict_before=0.5), row(1, after=False)]
    value = worst_case([a, b][::order])
    assert (value["accuracy"], value["accuracy_after"], value["accuracy_before"]) == (0.125, 0.375, 0.75)


def test_the_worst_case_is_below_every_cell():
    cells = [[row(i, i % 3 < 2, i % (k + 2) > 0, i % 7 != k) for i in range(12)] for k in (2, 3, 4)]
    value = worst_case(cells)
    for cell in cells:
        alone = summarise(cell)
        assert all(value[k] <= alone[k] for k in ("accuracy", "accuracy_before", "accuracy_after"))
        assert value["nonfinite"] >= alone["nonfinite"]
    by_hand = [
        math.prod(cell[i]["correct_before"] * cell[i]["correct_after"] * cell[i]["finite"] for cell in cells)
        for i in range(12)
    ]
    assert value["accuracy"] == pytest.approx(sum(by_hand) / 12) and 0 < sum(by_hand) < 12
