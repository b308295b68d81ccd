"""The benchmark: memory laws of the sampler's gradients, and no times of sides that disagree."""

import json
import os
import subprocess
import sys
from pathlib import Path

import benchmark
import benchmark_compare
import benchmark_memory
import benchmark_speed
import numpy as np
import pytest
from benchmark_memory import Memory
from benchmark_speed import Peers

ROOT = Path(__file__).parents[2]
ROWS = 13
NOBODY = Peers(None, missing="none in this test")


@pytest.fixture(scope="module")
def planned():
    return benchmark_memory.by_remat(benchmark_memory.measure(benchmark_memory.SMOKE))


@pytest.mark.slow
def test_memory_without_remat_holds_the_network_of_every_step(planned):
    """Many image states a step: the activations; the other laws would be empty if there were none."""
    assert benchmark_memory.growth(planned["none"]).states > 50


@pytest.mark.slow
def test_memory_of_step_grows_by_one_image_a_step(planned):
    """One image state and the 4 bytes of the step's index, at any number of steps; never more."""
    for low, high in zip(planned["step"], planned["step"][1:], strict=False):
        a_step = (high.bytes - low.bytes) / (high.steps - low.steps)
        assert low.state <= a_step <= low.state + 8


@pytest.mark.slow
def test_memory_of_sqrt_grows_as_twice_the_square_root(planned):
    """sqrt(T) blocks and the sqrt(T) steps of one: 2 sqrt(T) image states, 2 (8 - 2) more at 64 than at 4."""
    first, *_, last = planned["sqrt"]
    states = (last.bytes - first.bytes) / first.state
    np.testing.assert_allclose(states, 2 * (last.steps**0.5 - first.steps**0.5), rtol=0.05)
    assert abs(benchmark_memory.growth(planned["sqrt"]).exponent - 0.5) < 0.05


@pytest.mark.slow
def test_verdicts_hold(planned):
    verdicts = benchmark_memory.verdicts([row for rows in planned.values() for row in rows])
    assert len(verdicts) == 2 and all(v.startswith("holds") for v in verdicts)


@pytest.mark.parametrize("power", [0.5, 1.0])
def test_growth_of_known_laws(power):
    """The exponent of 1000 + 3 steps^p is p, whatever the constant; a broken law is called so."""
    rows = [
        Memory(remat, n, 1_000_000 + round(300 * n**power), 100)
        for remat in ("step", "sqrt")
        for n in (50, 100, 200)
    ]
    assert abs(benchmark_memory.growth(rows[:3]).exponent - power) < 0.01
    broken = [v.startswith("BROKEN") for v in benchmark_memory.verdicts(rows)]
    assert broken == [power == 1.0, power == 1.0]


def test_results_that_differ_are_not_timed():
    calls = []
    check = lambda x: benchmark_compare.close("row", x, 1.01)
    with pytest.raises(ValueError, match="nothing to compare"):
        benchmark_compare.compare("row", "", lambda: 1.0, lambda: calls.append(0), check, repeats=3)
    assert not calls


def test_ratio_is_the_time_of_the_peer_over_ours():
    """Medians: one slow repeat changes nothing."""
    row = benchmark_compare.Row("row", "2 x 3", [0.1, 0.1, 9.0], [0.2, 0.2, 0.2], 1.5, 0.0)
    assert row.ratio == pytest.approx(2.0)
    assert (
        "| 100.0 |" in (text := " ".join(benchmark.speed_table([row]).split()))
        and "| 2.00 | 1.5 | 0.12 |" in text
    )


def test_others_are_what_we_did_not_use():
    """Ten seconds in which all programs used 15 seconds of processor time, of which we used 12."""
    assert benchmark_compare.other_programs((100.0, 3.0, 50.0), (115.0, 15.0, 60.0)) == pytest.approx(0.3)
    quiet, busy = (benchmark_compare.Row("row", "", [1.0], [1.0], 0.0, others) for others in (0.01, 0.3))
    assert not benchmark.disturbance([quiet]) and "0.30 cores" in benchmark.disturbance([quiet, busy])


@pytest.mark.slow
def test_ours_is_measured_without_peers():
    (row,) = benchmark_speed.pgd_rows(benchmark_speed.SMOKE, 1, NOBODY)
    assert row.ours[0] > 0 and row.peer == [] and row.ratio is None
    assert "—" in benchmark.speed_table([row])


def test_missing_peer_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert 'pip install -e ".[peers]"' in benchmark.find_peers("diffusers", 1).missing


def run_benchmark(*arguments):
    variables = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "experiments" / "benchmark" / "benchmark.py"), *arguments]
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=900)


def test_unknown_part_is_an_error_of_one_line():
    done = run_benchmark("--only=pgd,unit")
    assert done.returncode == 1 and "unknown 'unit'" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.peers
def test_all_rows_agree_with_their_peers(tmp_path):
    """Every row passes the check of equal results (it would stop otherwise) and has times of both sides."""
    for library in ("torch", "diffusers", "torchattacks"):
        pytest.importorskip(library)
    done = run_benchmark("--smoke", "--repeats=1", f"--output={tmp_path / 'out.json'}")
    assert done.returncode == 0, done.stderr[-4000:]
    record = json.loads((tmp_path / "out.json").read_text())
    assert len(record["speed"]) >= ROWS and all(row["ratio"] > 0 for row in record["speed"])
    assert done.stdout.count("holds:") == 2 and "BROKEN" not in done.stdout
