"""A row of a ledger does not depend on batch, order or devices: equal bit by bit on one machine."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def rows(*arguments):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    command = [sys.executable, str(HERE / "cells_on_devices.py"), *map(str, arguments)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)
    assert run.returncode == 0, run.stderr[-4000:]
    return json.loads(run.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.bits
def test_rows_do_not_depend_on_batch_order_and_devices():
    one = rows(1, 13, "in order")
    assert {len(cell) for cell in one.values()} == {13}
    assert len({row["loss"] for row in one["apgd"].values()}) == 13
    assert rows(4, 6, "reversed") == one
