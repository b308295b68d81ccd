"""What is random in a network belongs to the example: every placement has the same loss for the same batch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent
CASES = ["jit 1, 4 parts", "jit 4", "jit 4, 2 parts", "pmap 4"]


@pytest.fixture(scope="module")
def told():
    # Sums between virtual CPU devices can deadlock in a thread pool that is small: NPROC makes it large.
    flags = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    variables = os.environ | {"PYTHONPATH": str(HERE.parents[1]), "NPROC": "16", "XLA_FLAGS": flags}
    command = [sys.executable, "-W", "error", str(HERE / "dropout_devices.py")]
    run = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr[-4000:]
    return json.loads(run.stdout.splitlines()[-1])


@pytest.mark.parametrize("case", CASES)
def test_dropout_is_the_same_in_every_placement(told, case):
    losses, state = told["runs"][case]
    expected, reference = told["runs"]["jit 1"]
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    np.testing.assert_allclose(state, reference, rtol=1e-5, atol=1e-6)


def test_a_digest_does_not_see_where_an_array_lies(told):
    whole, everywhere, parts = told["digests"]
    assert whole == everywhere == parts and whole["x"] != whole["n"]
