import json
import re
import subprocess
import sys

import ml_collections
import pytest
from test_results import RECORDS

from jaxdiff.evaluate import versions, write_report
from jaxdiff.evaluate.report import clock, figure_links

CONFIG = {"process": {"name": "vp", "beta_max": 20.0}, "sizes": (1, 2), "note": "é | 8/255", "none": None}
FACTS = {
    "config": CONFIG,
    "seed": 7,
    "date": "2026-01-31",
    "versions": {"jax": "0.10.2", "device": "TPU | v9"},
}


@pytest.fixture
def report(tmp_path):
    figure = tmp_path / "figures" / "an attack.png"
    figure.parent.mkdir()
    figure.write_bytes(b"png")
    return write_report(
        tmp_path / "out" / "report.md",
        "A run",
        records=RECORDS,
        reference={"purify": {"pgd": 0.706}},
        figures={"Attacks [five]": figure},
        stages={"train": 3725.0, "attack": 61.2},
        notes=["First note.", "Second note."],
        sections={"Likelihood": "3.2 bits/dim"},
        **FACTS,
    )


def test_says_what_was_run(report):
    text = report.read_text()
    assert json.loads(re.search(r"```json\n(.*?)```", text, re.DOTALL)[1]) == CONFIG | {"sizes": [1, 2]}
    for part in (
        "# A run",
        "2026-01-31",
        "Seed: 7",
        "| jax | 0.10.2 |",
        "TPU \\| v9",
        "First note.\n\nSecond note.",
    ):
        assert part in text
    assert "**71.1 % [67.0, 75.0]** (paper 70.6)" in text and "## Likelihood\n\n3.2 bits/dim" in text
    assert (
        "| train | 1 h 02 min |" in text
        and "| attack | 1 min 01 s |" in text
        and "| **total** | 1 h 03 min |" in text
    )


def test_figures_are_found_from_the_report(report):
    links = re.findall(r"!\[.*?\]\(<(.*?)>\)", report.read_text())
    assert links == ["../figures/an attack.png"]
    assert (report.parent / links[0]).read_bytes() == b"png"


def test_a_figure_has_its_numbers_and_formats_beside_it_and_a_pdf_is_a_link(tmp_path):
    for name in ("a.png", "a.csv", "a.svg", "b.pdf"):
        (tmp_path / name).write_bytes(b"x")
    links = figure_links({"A": tmp_path / "a.png", "B": tmp_path / "b.pdf"}, tmp_path).split("\n\n")
    assert links == ["**A**", "![A](<a.png>)", "[a.csv](<a.csv>), [a.svg](<a.svg>)", "**B**", "[B](<b.pdf>)"]


@pytest.mark.parametrize("commit", [None, "c0ffee-dirty"])
def test_versions_tell_the_commit_of_a_checkout(monkeypatch, commit):
    monkeypatch.setattr("jaxdiff.evaluate.report.commit", lambda: commit)
    assert versions().get("commit") == commit


def test_the_same_run_gives_the_same_bytes(report, tmp_path):
    twice = [write_report(tmp_path / name, "A run", **FACTS).read_bytes() for name in ("a.md", "b.md")]
    config = ml_collections.ConfigDict(CONFIG)
    assert (
        twice[0]
        == twice[1]
        == write_report(tmp_path / "c.md", "A run", **FACTS | {"config": config}).read_bytes()
    )
    assert b"## Results" not in twice[0] and b"## Figures" not in twice[0]


def test_a_figure_that_does_not_exist_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"missing\.png"):
        write_report(tmp_path / "r.md", "A run", figures={"x": tmp_path / "missing.png"}, **FACTS)
    assert not (tmp_path / "r.md").exists()


def test_versions_are_those_that_run():
    import jax
    import numpy

    import jaxdiff

    found = versions()
    assert (found["jax"], found["numpy"], found["jaxdiff"]) == (
        jax.__version__,
        numpy.__version__,
        jaxdiff.__version__,
    )
    assert found["python"] == sys.version.split()[0]
    assert jax.devices()[0].device_kind in found["device"]
    assert not [name for name, version in found.items() if version == "not installed"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (3599.4, "59 min 59 s"),
        (3599.7, "1 h 00 min"),
        (7199.0, "2 h 00 min"),
    ],
)
def test_clock_never_shows_sixty(seconds, text):
    assert clock(seconds) == text


def test_nothing_heavy_is_imported():
    code = """
import sys, jax, jaxtyping, jaxdiff.types
before = set(sys.modules)
import jaxdiff.evaluate
heavy = {"matplotlib", "scipy", "tqdm", "sklearn", "tensorflow_datasets", "flax", "PIL"}
sys.exit(sorted(heavy & (set(sys.modules) - before)) or 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
