"""A run killed with SIGKILL while it writes a checkpoint ends with the same bits as one left alone."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np

from jaxdiff.train.jsonl import read_jsonl

HERE = Path(__file__).parent


def start(directory):
    environment = os.environ | {"PYTHONPATH": str(HERE.parents[1]), "PYTHONWARNINGS": "error"}
    directory.mkdir(exist_ok=True)
    command = [sys.executable, str(HERE / "resumable.py"), str(directory)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def kill_at(process, step):
    """Reads until `step` is announced, and kills."""
    for line in process.stdout:
        if line == f"{step}\n":
            process.send_signal(signal.SIGKILL)
            break
    assert process.wait() == -signal.SIGKILL


def finish(process):
    """Waits for the end; the step where the run began."""
    lines = process.communicate(timeout=120)[0].split("\n")
    assert process.returncode == 0
    return int(lines[0].removeprefix("from "))


def same_arrays(*paths):
    with np.load(paths[0]) as one, np.load(paths[1]) as other:
        assert one.files == other.files and len(one.files) > 10
        for name in one.files:
            np.testing.assert_array_equal(one[name], other[name], strict=True)


def same_rows(*paths):
    rows, others = map(read_jsonl, paths)
    assert [r["step"] for r in rows] == [r["step"] for r in others] == list(range(1, 25))
    for name in ("loss", "grad_norm", "learning_rate"):
        assert [r[name] for r in rows] == [r[name] for r in others]


def test_a_killed_run_ends_with_the_same_bits(tmp_path):
    one, other = tmp_path / "alone", tmp_path / "killed"
    with start(other) as killed:
        kill_at(killed, 18)  # checkpoint 16 is being written
    with start(other) as resumed, start(one) as alone:
        assert finish(resumed) in (8, 12, 16)
        assert finish(alone) == 0
    same_arrays(one / "final.npz", other / "final.npz")
    same_rows(one / "metrics.jsonl", other / "metrics.jsonl")
