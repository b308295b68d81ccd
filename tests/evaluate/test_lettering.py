"""Lines fit, nothing is lost, and what belongs together stays."""

import pytest

from jaxdiff.evaluate.lettering import NARROW, extent, lines_height, wrap

TEXTS = (
    "",
    "word",
    "WWWWWW MMMMMM iiiiii llllll " * 4,
    "Donaudampfschifffahrtsgesellschaftskapitän",
    f"radius $\\ell_\\infty$ of 98{NARROW}% and more",
)


@pytest.mark.parametrize("width", [30, 120, 900])
@pytest.mark.parametrize("text", TEXTS)
def test_lines_fit_and_hold_every_letter_in_order(text, width):
    lines = wrap(text, width, 8).split("\n")
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert all(extent(line, 8) <= width or "$" in line for line in lines)


def test_lines_are_as_few_as_words_allow():
    text = "one two three four"
    assert wrap(text, extent(text, 8), 8) == text
    assert wrap(text, extent("one two three", 8), 8) == "one two three\nfour"
    assert wrap(text, 1.0, 8).replace("\n", "") == text.replace(" ", "")


def test_formulas_and_numbers_with_units_stay_whole():
    assert wrap(r"a $x + y$ b", 1.0, 8).split("\n") == ["a", "$x + y$", "b"]
    assert wrap(f"confidence 98{NARROW}%", extent("confidence 98", 8), 8) == f"confidence\n98{NARROW}%"


def test_extent_grows_with_letters_size_and_weight():
    assert extent("WW", 8) == pytest.approx(2 * extent("W", 8), rel=0.01) and extent("W", 8) > extent("i", 8)
    assert extent("W", 16) == pytest.approx(2 * extent("W", 8)) and extent("abc", 8, "bold") > extent(
        "abc", 8
    )
    assert lines_height("", 8) == 0 and lines_height("a\nb", 8) == pytest.approx(
        2 * lines_height("a", 8), abs=1
    )
