import json
import os

import pytest

from jaxdiff.evaluate import (
    clopper_pearson,
    markdown_table,
    read_results,
    record,
    terminal_table,
    write_results,
)


def cell(defense, attack, right, n=512, **extra):
    low, high = clopper_pearson(right, n)
    return record(
        defense, attack, {"accuracy": right / n, "low": low, "high": high, "n": n, "seconds": 1.5}, **extra
    )


RECORDS = [
    cell("none", "standard", 486),
    cell("none", "pgd", 0),
    cell("purify", "standard", 456),
    cell("purify", "pgd", 364),
    cell("purify", "square", 371),
]


def grid(markdown):
    """{(defense, attack): text} of a Markdown table."""
    lines = [line.strip("|").split("|") for line in markdown.splitlines() if line.startswith("|")]
    header, body = [text.strip() for text in lines[0]], lines[2:]
    return {
        (row[0].strip(), a): text.strip() for row in body for a, text in zip(header[1:], row[1:], strict=True)
    }


def test_the_table_shows_every_cell_once_and_marks_each_minimum():
    cells = grid(markdown_table(RECORDS))
    assert cells == {
        ("none", "standard"): "94.9 % [92.6, 96.7]",
        ("none", "pgd"): "**0.0 % [0.0, 0.7]**",
        ("none", "square"): "—",
        ("purify", "standard"): "89.1 % [86.0, 91.6]",
        ("purify", "pgd"): "**71.1 % [67.0, 75.0]**",
        ("purify", "square"): "72.5 % [68.4, 76.3]",
    }
    assert "n = 512" in markdown_table(RECORDS) and "95 % Clopper-Pearson" in markdown_table(RECORDS)


def test_the_order_of_records_moves_no_mark():
    assert grid(markdown_table(RECORDS[::-1])) == grid(markdown_table(RECORDS))


def test_references_stand_beside_ours_or_alone():
    table = markdown_table(RECORDS, {"purify": {"pgd": 0.706}, "trades": {"pgd": 0.53}}, "published")
    cells = grid(table)
    assert cells["purify", "pgd"] == "**71.1 % [67.0, 75.0]** (published 70.6)"
    assert cells["trades", "pgd"] == "— (published 53.0)" and cells["trades", "standard"] == "—"


def test_differing_n_and_non_finite_examples_show_in_the_cells():
    table = markdown_table([*RECORDS, cell("certified", "pgd", 30, 64, nonfinite=2)])
    cells = grid(table)
    assert cells["certified", "pgd"].startswith("**46.9 % [") and cells["certified", "pgd"].endswith(
        "] n=64†**"
    )
    assert cells["none", "pgd"] == "**0.0 % [0.0, 0.7] n=512**"
    assert "counted as not robust (certified under pgd: 2)" in table and "†" not in markdown_table(RECORDS)


def test_examples_that_are_no_images_show_in_their_cells_and_below():
    bad = [RECORDS[0], cell("none", "pgd", 0, invalid=3), cell("none", "square", 9, invalid=1, nonfinite=2)]
    for table in (markdown_table(bad), terminal_table(bad)):
        assert table.count("‡") == 3 and table.count("†") == 2
        assert "left out of n (none under pgd: 3; none under square: 1)" in table
        assert "counted as not robust (none under square: 2)" in table
    cells = grid(markdown_table(bad))
    assert cells["none", "square"].endswith("]†‡") and cells["none", "pgd"].endswith("]‡**")
    assert "‡" not in markdown_table(RECORDS)


def test_the_terminal_table_is_aligned_and_says_the_same():
    lines = terminal_table(RECORDS, {"purify": {"pgd": 0.706}}).splitlines()
    assert lines[0].split() == ["standard", "pgd", "square"]
    assert lines[1].split("  ")[0] == "none" and "0.0 [0.0, 0.7]*" in lines[1] and lines[1].endswith("—")
    assert "71.1 [67.0, 75.0]* (ref 70.6)" in lines[2] and "72.5 [68.4, 76.3]" in lines[2]
    assert lines[1].index("94.9") == lines[2].index("89.1")
    assert "n = 512" in lines[3]


def test_results_survive_the_disk(tmp_path):
    path = tmp_path / "run" / "results.json"
    assert read_results(path) == []
    write_results(path, RECORDS[:3])
    assert read_results(path) == RECORDS[:3] and os.listdir(path.parent) == ["results.json"]


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([{"defense": "none", "attack": "pgd"}], "'accuracy', 'low', 'high', 'n', 'seconds'"),
        ([RECORDS[0] | {"accuracy": 94.9}], "fraction"),
        ([RECORDS[0] | {"accuracy": float("nan")}], "fraction"),
        ([RECORDS[0], RECORDS[0]], "one record"),
    ],
)
def test_wrong_records_are_not_written(tmp_path, records, message):
    write_results(tmp_path / "r.json", RECORDS)
    with pytest.raises(ValueError, match=message):
        write_results(tmp_path / "r.json", records)
    assert read_results(tmp_path / "r.json") == RECORDS


@pytest.mark.parametrize("text", ["", "[1]", json.dumps({"a": 1})])
def test_other_files_are_not_taken_for_results(tmp_path, text):
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(ValueError, match="holds no results"):
        read_results(tmp_path / "r.json")
    assert (tmp_path / "r.json").read_text() == text


def test_no_table_of_nothing():
    with pytest.raises(ValueError, match="at least one"):
        markdown_table([])
