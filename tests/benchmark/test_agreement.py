"""The agreement with the peers: what counts as a disagreement, what is kept, and the command."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import agreement
import jax.numpy as jnp
import numpy as np
import pytest

ROOT = Path(agreement.__file__).parents[2]


def store_of(path, **cells):
    store = agreement.Store(path, {"right": 200})
    for name, (ours, theirs) in cells.items():
        store.extend(name, "ours", ours)
        store.extend(name, "theirs", theirs)
    return store


def test_a_point_is_of_all_images(tmp_path):
    """200 images are right of 300: 3 of 300 are a point, 4 are more; the wrong ones count as not robust."""
    stands = lambda n: [True] * n + [False] * (200 - n)
    store = store_of(tmp_path / "a.json", near=(stands(50), stands(53)), far=(stands(50), stands(54)))
    text, faults = agreement.verdicts(store, 300)
    assert faults == ["far"]
    assert "16.7%" in text and "17.7%" in text and "98.5%" in text and "-1.0%" in text


def test_norms_and_pixels_have_their_own_rules(tmp_path):
    """A larger median norm is a fault, a smaller one none; one pixel may leave fewer images right, but not more."""
    cells = {
        "DDN": ([1.0, 2.0, 3.0], [1.0, 2.1, 3.0]),
        "C&W": ([1.0, 2.1, np.inf], [1.0, 2.0, 3.0]),
        "one pixel": ([True, True, False], [True, False, False]),
    }
    assert agreement.verdicts(store_of(tmp_path / "a.json", **cells), 300)[1] == ["C&W", "one pixel"]


def test_what_is_not_finite_is_not_right():
    """The argmax of NaN is class 0: without a look at the numbers, labels 0 would stand."""
    logits = np.eye(3, dtype=np.float32)[[0, 1, 0, 0]]
    logits[2, 1], logits[3, 2] = np.nan, np.inf
    model = SimpleNamespace(apply=lambda variables, x: variables[x])
    right = agreement.judge(SimpleNamespace(model=model, variables=jnp.asarray(logits)))
    assert right(np.arange(4), np.array([0, 1, 0, 2])).tolist() == [True, True, False, False]


def test_radii_are_in_units_of_1_of_255():
    assert agreement.radius_of("0.5") == 0.5 / 255 and agreement.radius_of("255") == 1.0
    for text in ("half", "0", "-1", "nan", "inf", "256", ""):
        with pytest.raises(ValueError, match="--radii are numbers"):
            agreement.radius_of(text)


@pytest.mark.parametrize("text", ["", "[1]", "{}", '{"settings": {}, "cells": 3}', "é"])
def test_a_file_of_another_kind_is_left_alone(text, tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match="no agreement of before; restore it, or take another --output"):
        agreement.Store(path, {})
    assert path.read_bytes() == text.encode("latin-1")


def test_only_missing_images_are_attacked(tmp_path):
    """A side that was cut after 60 of 130 images does the rest in chunks of one shape, in order; other settings are refused."""
    store, x, shapes = store_of(tmp_path / "a.json"), np.arange(130), []

    def run(x, y):
        shapes.append(len(x))
        return x % 3 == 0

    store.extend("cell", "ours", (x[:60] % 3 == 0).tolist())
    again = agreement.Store(tmp_path / "a.json", {"right": 200})
    agreement.fill(again, "cell", x, x, {"ours": run})
    assert shapes == [agreement.CHUNK] * 2
    assert again.values("cell", "ours") == (x % 3 == 0).tolist()
    with pytest.raises(ValueError, match="another --output"):
        agreement.Store(tmp_path / "a.json", {"right": 100})


@pytest.mark.peers
def test_the_command(tfds_dir, weights_dir, tmp_path):
    """Every cell is filled on both sides, and a second run attacks nothing."""
    for library in ("torch", "torchattacks", "foolbox", "art"):
        pytest.importorskip(library)
    output = tmp_path / "out.json"
    command = [
        sys.executable, str(ROOT / "experiments" / "benchmark" / "agreement.py"),
        f"--weights={weights_dir / 'resnet20-12fca82f.npz'}",
        f"--output={output}", "--n=6", "--few=2", "--radii=2", "--steps=3", "--queries=5",
    ]  # fmt: skip
    variables = os.environ | {"PYTHONPATH": str(ROOT), "TFDS_DATA_DIR": tfds_dir}
    first, second = (
        (subprocess.run(command, env=variables, capture_output=True, text=True), output.stat().st_mtime_ns)
        for _ in range(2)
    )
    # With so few steps the sides may differ, which the exit status says.
    assert all("same images" in done.stdout and "Traceback" not in done.stderr for done, _ in (first, second))
    assert first[1] == second[1]
    content = json.loads(output.read_text())
    cells, right = content["cells"], content["settings"]["right"]
    assert len(cells) == len(agreement.NAMES) and 2 < right <= 6
    for cell, sides in cells.items():
        expected = 2 if cell in (*agreement.NORMS, "one pixel") else right
        assert [len(sides[side]) for side in ("ours", "theirs")] == [expected] * 2, cell
