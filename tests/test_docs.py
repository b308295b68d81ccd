"""Every Python block of the guides runs, in the order of its page."""

import importlib
import re
import sys
from pathlib import Path

import jax
import pytest

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(page.name for page in DOCS.glob("*.md"))
NEEDED = {"equinox", "haiku"}
QUICK = {"accelerators.md"}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder of its own to run in, as lenient as a user's Python is."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = jax.config.jax_numpy_rank_promotion
    jax.config.update("jax_numpy_rank_promotion", "allow")
    yield tmp_path
    jax.config.update("jax_numpy_rank_promotion", before)
    for name in ("mine", "config"):
        sys.modules.pop(name, None)


def blocks(page):
    return re.findall(r"^```python\n(.*?)^```", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)


def test_every_page_is_linked_from_the_readme():
    readme = (DOCS.parent / "README.md").read_text()
    assert PAGES and all(f"docs/{page}" in readme for page in PAGES)


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(p, marks=() if p in QUICK else pytest.mark.slow)
        for p in PAGES
        if "```python" in (DOCS / p).read_text()
    ],
)
def test_a_page_runs(page, here):
    """Blocks that begin with the name of a file are written to it, and the last of these is run as a study."""
    names, files = {}, {}
    for block in blocks(page):
        absent = [
            m for m in re.findall(r"^import (\w+)", block, re.MULTILINE) if m in NEEDED and not _there(m)
        ]
        if absent:
            continue
        if named := re.match(r"# (\w+\.py)\n", block):
            files.setdefault(named[1], []).append(block)
        else:
            exec(compile(block, page, "exec"), names)
    for file, parts in files.items():
        (here / file).write_text("\n".join(parts))
    if "config.py" in files:
        from jaxdiff.study import run

        products = run(importlib.import_module("config").get_config(), here / "runs")
        assert list(products) == ["plain", "table"] and (here / "runs" / "table" / "report.md").exists()
    assert names or files


def _there(module):
    return importlib.util.find_spec(module) is not None
