"""The folder of a stage has one owner at a time, and a run that made nothing leaves nothing."""

import os
import signal
import subprocess
import sys

import pytest

from jaxdiff.study.claim import Busy, claimed, record_of

HOLD = """
import sys, time
from jaxdiff.study.claim import claimed
with claimed(sys.argv[1], {"name": "score"}) as folder:
    (folder / "made").write_text("1")
    print("in", flush=True)
    time.sleep(60)
"""


def test_a_folder_says_what_it_is(tmp_path):
    with claimed(tmp_path / "score-1", {"name": "score", "steps": 3}) as folder:
        assert record_of(folder) == {"name": "score", "steps": 3}
    with claimed(folder, {"name": "other"}):
        assert record_of(folder)["name"] == "score"  # the first one counts
    assert record_of(tmp_path) is None


def test_what_fails_before_it_has_made_anything_leaves_nothing(tmp_path):
    for deep in ("score-1", "a/b/score-2"):
        with pytest.raises(ZeroDivisionError), claimed(tmp_path / deep, {}):
            raise ZeroDivisionError
        assert not (tmp_path / deep).exists()
    with pytest.raises(ZeroDivisionError), claimed(tmp_path / "made", {"name": "score"}) as folder:
        (folder / "checkpoints").mkdir()
        raise ZeroDivisionError
    assert record_of(folder) == {"name": "score"}
    with pytest.raises(KeyboardInterrupt), claimed(folder, {}):
        raise KeyboardInterrupt
    assert (folder / "checkpoints").is_dir() and record_of(folder) == {"name": "score"}


def test_the_second_process_is_told_and_a_killed_one_blocks_nobody(tmp_path):
    first = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "s")], stdout=subprocess.PIPE, text=True
    )
    try:
        assert first.stdout.readline() == "in\n"
        with (
            pytest.raises(Busy, match=f"process {first.pid} on .* works in .*--workdir"),
            claimed(tmp_path / "s", {}),
        ):
            pass
        assert (tmp_path / "s" / "made").exists() and record_of(tmp_path / "s") == {"name": "score"}
    finally:
        os.kill(first.pid, signal.SIGKILL)
        first.communicate(timeout=20)
    with claimed(tmp_path / "s", {}) as folder:
        assert (folder / "made").exists()


def test_the_same_process_is_told_too(tmp_path):
    with claimed(tmp_path / "s", {}), pytest.raises(Busy), claimed(tmp_path / "s", {}):
        pass
    with claimed(tmp_path / "s", {}), claimed(tmp_path / "t", {}):
        pass
