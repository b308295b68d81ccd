"""Which cells of a table count."""

from test_results import RECORDS, cell, grid

from jaxdiff.evaluate import csv_table, latex_table, markdown_table, terminal_table

# Twelve attacks have met 500 images, all nineteen only 128 of these, which happen to be easier.
MIXED = [
    cell("net", "standard", 460, 500),
    cell("net", "aa", 60, 500),
    cell("net", "ddn", 18, 128),
    cell("net", "attacks on all images", 60, 500, minimum_over=["standard", "aa"]),
    cell("net", "all attacks", 18, 128, minimum_over=["standard", "aa", "ddn"]),
]


def test_minima_over_attacks_count_and_no_cell_over_other_images():
    """12.0 % of 500 images is below 14.1 % of 128, and says nothing about it: both minima count, no single attack does."""
    bold = [attack for (_, attack), text in grid(markdown_table(MIXED)).items() if "**" in text]
    assert bold == ["attacks on all images", "all attacks"]
    row = terminal_table(MIXED).splitlines()[1]
    assert row.count("*") == 2 and row.endswith("n=128*") and "12.0 [9.3, 15.2] n=500*" in row
    for table in (markdown_table(MIXED), terminal_table(MIXED)):
        assert "over other images" in table and "the lowest of each defense" not in table


def test_every_row_has_a_mark_of_its_own():
    """Beside a row with minima, one without them is marked at its lowest, as ever."""
    cells = grid(markdown_table([*MIXED, *RECORDS]))
    assert {c for c, text in cells.items() if "**" in text} == {
        ("net", "attacks on all images"), ("net", "all attacks"), ("none", "pgd"), ("purify", "pgd")
    }  # fmt: skip


def test_the_threat_stands_over_its_column():
    """A row under the head, in every form; of a radius that is a number of 255ths these; of several threats all."""
    here = [
        cell("none", "pgd", 3) | {"threat": "linf", "radius": 8 / 255},
        cell("none", "far", 3) | {"threat": "l2", "radius": 0.5},
        cell("none", "standard", 3),
        cell("other", "far", 3) | {"threat": "l2", "radius": 0.123456},
    ]
    markdown = markdown_table(here).splitlines()
    assert markdown[2] == "| within | linf 8/255 | l2 0.5 / l2 0.1235 |  |"
    assert terminal_table(here).splitlines()[1].split()[:3] == ["within", "linf", "8/255"]
    latex = latex_table(here).splitlines()
    assert latex[latex.index(r"\midrule") - 1] == r"within & linf 8/255 & l2 0.5 / l2 0.1235 &  \\"
    lines = csv_table(here).splitlines()
    assert lines[0].split(",")[6:8] == ["threat", "radius"] and lines[1].split(",")[6:8] == [
        "linf",
        repr(8 / 255),
    ]
    assert "within" not in markdown_table([cell("none", "standard", 3)])
