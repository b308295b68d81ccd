"""Which cells of a table count."""

from test_results import RECORDS, cell, grid

from jaxdiff.evaluate import markdown_table, terminal_table

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
