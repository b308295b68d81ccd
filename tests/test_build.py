"""Configs name functions; wrong names are explained. Imports run downwards."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import jaxdiff
from jaxdiff.build import build
from jaxdiff.diffusion import grids, process, solvers

ROOT = Path(jaxdiff.__file__).parent
SIBLINGS = {"diffusion", "attacks", "models", "data", "train", "evaluate"}
GROUND = {"types", "build", "checks", "chunks", "__init__"}


def test_builds_by_name_with_context():
    vp = build(process, {"name": "VP", "beta_max": 10.0})
    assert vp.beta_max == 10.0 and vp.beta_min == 0.1
    # The grid takes no process: the context offers, the function chooses.
    assert len(build(grids, {"name": "uniform", "steps": 4}, process=vp)) == 5
    assert callable(build(solvers, {"name": "ddim", "eta": 0.5}, process=vp).step)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"name": "vpp"}, ["vpp", "'VP'", "Cosine"]),
        ({"name": "VP", "beta_maxx": 1.0}, ["beta_maxx", "'beta_max'", "beta_min"]),
        ({"beta_max": 1.0}, ["'name'", "VP"]),
        ({"name": "Discrete"}, ["betas"]),
        ({"name": "_float"}, ["_float", "VP"]),
    ],
)
def test_bad_specs_are_explained(spec, words):
    with pytest.raises(ValueError) as error:
        build(process, spec)
    assert all(word in str(error.value) for word in words)


def _imports(path: Path) -> set[str]:
    """The parts of jaxdiff that a file imports, e.g. {"diffusion", "types"}."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [node.module] if node.module != "jaxdiff" else [f"jaxdiff.{a.name}" for a in node.names]
        elif isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        else:
            continue
        found |= {n.split(".")[1] for n in names if n.startswith("jaxdiff.")}
        found |= {n.split(".")[0] for n in names if n.split(".")[0] == "flax"}
    return found


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_run_downwards(path):
    part = path.relative_to(ROOT).parts[0].removesuffix(".py")
    allowed = GROUND - {"__init__"}
    if part in SIBLINGS:
        allowed |= {part}
    elif part == "defenses":
        allowed |= SIBLINGS | {"defenses"}
    else:
        assert part in GROUND, f"{path} is in no known part of the house"
    if part == "models":
        allowed |= {"flax"}
    assert _imports(path) <= allowed


def test_imports_stay_light():
    """`import jaxdiff...` brings in none of the heavy libraries that only some functions need."""
    heavy = "tensorflow tensorflow_datasets matplotlib sklearn ml_collections grain orbax tqdm torch"
    parts = " ".join(f"jaxdiff.{p}" for p in sorted(SIBLINGS | {"defenses"}))
    code = (
        f"import sys, importlib\nfor part in '{parts}'.split(): importlib.import_module(part)\n"
        f"assert not set('{heavy}'.split()) & set(sys.modules), set('{heavy}'.split()) & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT.parent)
