"""Configs name functions; wrong names are explained. Imports run downwards."""

import ast
import subprocess
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest
import refusals
import refused_build
from jaxtyping import Array, Float, ScalarLike
from ml_collections import ConfigDict

import jaxdiff
from jaxdiff import models
from jaxdiff.build import build, fits
from jaxdiff.diffusion import grids, process, solvers

ROOT = Path(jaxdiff.__file__).parent
SIBLINGS = {"diffusion", "attacks", "models", "data", "train", "evaluate"}
GROUND = {"types", "build", "checks", "chunks", "floats", "keys", "__init__"}


def test_builds_by_name_with_context():
    vp = build(process, {"name": "VP", "beta_max": 10.0})
    assert vp.beta_max == 10.0 and vp.beta_min == 0.1
    # The grid takes no process: the context offers, the function chooses.
    assert len(build(grids, {"name": "uniform", "steps": 4}, process=vp)) == 5
    assert callable(build(solvers, {"name": "ddim", "eta": 0.5}, process=vp).step)


told = refusals.fixture("refused_build.py")


@pytest.mark.parametrize("case", refused_build.ROWS)
def test_bad_specs_are_refused(told, case):
    refusals.check(told, refused_build.ROWS, case)


def test_what_is_built_can_be_hashed():
    """Lists of a config become tuples, at every level."""
    made = build(models, {"name": "CNN", "channels": [8, 16], "mean": [0.5]})
    assert made.channels == (8, 16) and hash(made) == hash(models.CNN((8, 16)))


TAKE = types.ModuleType("take")
TAKE.take, TAKE.__all__ = (lambda x: x), ["take"]


def test_lists_in_lists_become_tuples_and_the_spec_wins_over_the_context():
    assert build(TAKE, {"name": "take", "x": [[1, [2]], 3]}) == ((1, (2,)), 3)
    assert build(TAKE, {"name": "take", "x": 1}, x=2) == 1
    assert build(TAKE, {"name": "take"}, x=2) == 2


class Pair(NamedTuple):
    a: int
    b: int


@pytest.mark.parametrize(
    ("value", "annotation", "fine"),
    [
        (1, float, True),
        (np.float32(1), float, True),
        (np.int64(1), int, True),
        (1.0, int, False),
        (False, int, False),
        (None, int | None, True),
        ("a", int | None, False),
        ((1, 2), Sequence[int], True),
        ((), Sequence[int], True),
        ("ab", Sequence[str], False),
        (("a", "b"), Sequence[str], True),
        ((1, None), Sequence[int], False),
        ({"a": 1}, Mapping[str, int], True),
        (ConfigDict({"a": 1}), Mapping[str, int], True),
        ((1,), Mapping[str, int], False),
        ("runs", str | Path, True),
        ("runs", Path, True),
        (3, ScalarLike, True),
        ("3", ScalarLike, False),
        (True, ScalarLike, False),
        ((0.1, 0.2), Float[Array, " n"], True),
        ("abc", Float[Array, " n"], False),
        (None, Float[Array, " n"], False),
        (len, Callable[[int], int], True),
        ("len", Callable[[int], int], False),
        (Pair(1, 2), process.Process, True),  # what is no plain data is for the function to judge
        (jnp.ones(3), int, True),
        ("anything", Any, True),
    ],
)
def test_plain_data_fit_an_annotation(value, annotation, fine):
    assert fits(value, annotation) == fine


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
    elif part in ("defenses", "study"):
        allowed |= SIBLINGS | {"defenses", part}
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
