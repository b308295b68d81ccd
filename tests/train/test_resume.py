"""A run killed with SIGKILL while it writes a checkpoint, and one whose last checkpoint and log were damaged, end with the
same bits as one left alone."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np

from jaxdiff.train.jsonl import read_jsonl

HERE = Path(__file__).parent


def start(directory, warnings="error"):
    environment = os.environ | {"PYTHONPATH": str(HERE.parents[1]), "PYTHONWARNINGS": warnings}
    directory.mkdir(exist_ok=True)
    command = [sys.executable, str(HERE / "resumable.py"), str(directory)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True)


def kill_at(process, step):
    """Reads until `step` is announced, and kills."""
    for line in process.stdout:
        if line == f"{step}\n":
            process.send_signal(signal.SIGKILL)
            break
    assert process.wait() == -signal.SIGKILL


def finish(process, told=""):
    """Waits for the end; the step where the run began. `told` are words of its warnings."""
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors[-4000:]
    assert told in errors
    return int(out.split("\n")[0].removeprefix("from "))


def damage(directory):
    """One byte of every array file of the last step, and a line in the middle of the log."""
    for path in (directory / "checkpoints" / "24" / "state").rglob("d/*"):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    lines = (directory / "metrics.jsonl").read_bytes().split(b"\n")
    (directory / "metrics.jsonl").write_bytes(b"\n".join([*lines[:21], b"\xff{", *lines[22:]]))


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
    third = shutil.copytree(one, tmp_path / "damaged")
    (third / "final.npz").unlink()
    damage(third)
    with start(third, "default") as resumed:
        assert finish(resumed, told="checkpoint of step 24") == 20
    same_arrays(one / "final.npz", third / "final.npz")
    same_rows(one / "metrics.jsonl", third / "metrics.jsonl")
