"""Tables in LaTeX and CSV say what the Markdown table says."""

import csv
import io
import re

import pytest
from test_results import RECORDS, cell, grid
from test_tables import MIXED

from jaxdiff.evaluate import csv_table, latex_table, markdown_table

HOSTILE = [
    cell(d, a, 5, 10) for d in (r"a&b_%$#{}\~^<>|", "[x]", "*star", "two\nlines") for a in ("p&g_d", "{")
]
REFERENCE = {"purify": {"pgd": 0.706}, "tra_des": {"pgd": 0.53}}
TABLES = {
    "plain": (RECORDS, None),
    "with references": (RECORDS, REFERENCE),
    "mixed": (MIXED, None),
    "hostile": (HOSTILE, {"[x]": {"100%": 0.5}}),
    "broken": ([cell("none", "pgd", 0, invalid=3), cell("none", "square", 9, nonfinite=2)], None),
}


def rows(latex):
    return [line.removesuffix(r" \\") for line in latex.splitlines() if line.endswith(r" \\")]


def cells(row):
    return [text.strip() for text in re.split(r"(?<!\\)&", row)]


@pytest.mark.parametrize("name", TABLES)
def test_latex_is_well_formed(name):
    latex = latex_table(*TABLES[name])
    body = latex.split("\n", 1)[1]  # the first line is a comment
    plain = re.sub(r"\\[&%$#_{}\\]", "", body)  # without what is escaped
    depth = 0
    for letter in plain:
        depth += {"{": 1, "}": -1}.get(letter, 0)
        assert depth >= 0
    assert depth == 0 and not set(plain) & set("%$#_~^<>|—†‡")
    columns = len(re.search(r"\\begin{tabular}{(l r*)}".replace(" ", ""), body)[1])
    assert {len(cells(row)) for row in rows(latex)} == {columns}
    assert not [row for row in rows(latex) if row[0] in "[*"]
    for rule in (r"\toprule", r"\midrule", r"\bottomrule"):
        assert body.count(rule + "\n") == 1
    opened, closed = (re.findall(rf"\\{what}{{(\w+)}}", body) for what in ("begin", "end"))
    assert opened == closed[::-1] == ["table", "tabular"]


@pytest.mark.parametrize("name", sorted(TABLES.keys() - {"hostile"}))
def test_latex_and_markdown_say_the_same(name):
    records, reference = TABLES[name]
    latex = [text for row in rows(latex_table(records, reference, "theirs"))[1:] for text in cells(row)[1:]]
    markdown = list(grid(markdown_table(records, reference, "theirs")).values())
    bold = [re.sub(r"\*\*(.*)\*\*", r"\\textbf{\1}", text) for text in markdown]
    assert latex == [
        text.replace(" %", "").replace("(theirs ", "(").replace("—", "---").replace("†", r"\textdagger{}")
        .replace("‡", r"\textdaggerdbl{}") for text in bold
    ]  # fmt: skip


def test_latex_notes():
    latex = latex_table(RECORDS, REFERENCE, "Nie et al.")
    assert r"\caption{Accuracy in \%, n = 512, [95 \% Clopper-Pearson interval]. Bold:" in latex
    assert "In parentheses: Nie et al." in latex and "In parentheses" not in latex_table(RECORDS)
    assert r"\textbf{71.1 [67.0, 75.0]} (70.6)" in latex and r"tra\_des & --- & --- (53.0)" in latex
    assert r"\textdaggerdbl{} examples that were no images" in latex_table(*TABLES["broken"])


def test_csv_holds_every_record_unrounded_and_the_references():
    table = list(csv.DictReader(io.StringIO(csv_table(RECORDS, REFERENCE, "Nie, et al."))))
    assert len(table) == len(RECORDS) + 1
    for row, record in zip(table, RECORDS, strict=False):
        assert (row["defense"], row["attack"], int(row["n"])) == (record["defense"], record["attack"], 512)
        for name in ("accuracy", "low", "high", "seconds"):
            assert float(row[name]) == record[name]
    assert [row["counts"] for row in table] == ["0", "1", "0", "1", "0", ""]
    assert [row["reference"] for row in table] == ["", "", "", "0.706", "", "0.53"]
    assert [row["of"] for row in table] == ["", "", "", "Nie, et al.", "", "Nie, et al."]
    assert (table[-1]["defense"], table[-1]["attack"], table[-1]["accuracy"]) == ("tra_des", "pgd", "")


def test_csv_keeps_names_as_they_are():
    table = list(csv.DictReader(io.StringIO(csv_table(HOSTILE), newline="")))
    assert [(r["defense"], r["attack"]) for r in table] == [(r["defense"], r["attack"]) for r in HOSTILE]
