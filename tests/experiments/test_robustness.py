"""The main job end to end, as a user runs it: the table, the pictures, resumption, and errors for people."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import common
import numpy as np
import pytest
from matplotlib import image

ROOT = Path(common.__file__).parents[1]
pytestmark = pytest.mark.slow
CELLS = {
    "none": ["standard", "fgsm", "pgd"],
    "adversarial_training": ["standard", "fgsm", "pgd"],
    "diffpure": ["standard", "fgsm", "pgd", "blind_pgd", "bpda", "adaptive_pgd"],
}


@pytest.fixture(scope="session")
def environment(tmp_path_factory):
    """Compiled functions are kept between the runs of this file."""
    cache = {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("cache")),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
    }
    return os.environ | cache | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


def command(workdir, *options, script="robustness.py", config="digits.py:smoke"):
    path = str(ROOT / "experiments" / script)
    return [sys.executable, path, f"--config={ROOT / 'configs' / config}", f"--workdir={workdir}", *options]


def run(arguments, environment):
    return subprocess.run(arguments, env=environment, capture_output=True, text=True)


def numbers(workdir):
    """Everything in results.json and the ledgers but for times."""
    records = json.loads((workdir / "results.json").read_text())
    ledgers = {
        path.name: sorted(
            (
                {k: v for k, v in json.loads(line).items() if k not in ("seconds", "crc")}
                for line in path.read_text().splitlines()[1:]
            ),
            key=lambda row: row["id"],
        )
        for path in (workdir / "ledger").glob("*.jsonl")
    }
    return [{k: v for k, v in r.items() if k != "seconds"} for r in records], ledgers


@pytest.fixture(scope="session")
def finished(tmp_path_factory, environment):
    workdir = tmp_path_factory.mktemp("runs") / "digits"
    done = run(command(workdir), environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return workdir, done


def test_one_record_a_cell(finished):
    workdir, done = finished
    records = json.loads((workdir / "results.json").read_text())
    found = {d: [r["attack"] for r in records if r["defense"] == d] for d in CELLS}
    assert found == CELLS
    for r in records:
        assert 0 <= r["low"] <= r["accuracy"] <= r["high"] <= 1 and r["n"] in (2, 4) and r["seconds"] > 0
        assert r["max_linf"] <= 0.2 + 1e-6
        assert (r["max_linf"] == 0) is (r["attack"] == "standard")
    assert "adaptive_pgd" in done.stdout and "100%" in done.stderr


def test_transfer_attacks_the_undefended_classifier(finished):
    """The blind attack on DiffPure moves every image exactly as PGD on the classifier alone does."""
    workdir, _ = finished
    norms = []
    for name in ("none--pgd", "diffpure--blind_pgd"):
        rows = [
            json.loads(line) for line in (workdir / "ledger" / f"{name}.jsonl").read_text().splitlines()[1:]
        ]
        norms.append([(row["id"], row["norm"]) for row in rows])
    assert norms[0] == norms[1]


@pytest.mark.parametrize("name", ["samples", "trajectory", "panel", "radius", "losses"])
def test_figures_are_not_blank(finished, name):
    pixels = image.imread(finished[0] / "figures" / f"{name}.png")[..., :3]
    assert min(pixels.shape[:2]) > 100 and np.std(pixels) > 0.05
    assert f"{name}.png>)" in (finished[0] / "report.md").read_text()


def test_report_is_whole(finished):
    text = (finished[0] / "report.md").read_text()
    for words in (
        "| diffpure |",
        "the number that counts",
        "On the same 2 images",
        '"radius": 0.2',
        "| jax |",
        "Seed: 0",
    ):
        assert words in text


def test_a_finished_run_is_not_run_again(finished, environment):
    workdir, _ = finished
    before = {
        p: p.stat().st_mtime_ns for p in workdir.rglob("*") if "checkpoints" in p.parts or "ledger" in p.parts
    }
    numbers_before = numbers(workdir)
    done = run(command(workdir), environment)
    assert done.returncode == 0, done.stderr[-3000:]
    files = {p: t for p, t in before.items() if p.is_file()}
    assert {p: p.stat().st_mtime_ns for p in files} == files
    assert numbers(workdir) == numbers_before


@pytest.mark.parametrize("moment", ["training", "attacking"])
def test_killed_and_started_again_gives_the_same_numbers(finished, environment, tmp_path, moment):
    """kill -9 in the middle of training, or between attacked batches, changes nothing."""
    workdir = tmp_path / "run"
    process = subprocess.Popen(
        command(workdir), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    awaited = {
        "training": lambda: any((workdir / "classifier" / "checkpoints").glob("2")),
        "attacking": lambda: any((workdir / "ledger").glob("diffpure--fgsm.jsonl")),
    }[moment]
    while not awaited():
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (workdir / "results.json").exists()
    done = run(command(workdir), environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert numbers(workdir) == numbers(finished[0])


def test_samples_do_not_depend_on_how_many_are_drawn(finished, environment):
    workdir, _ = finished
    drawn = []
    for n in (3, 6):
        done = run(command(workdir, f"--n={n}", script="sample.py"), environment)
        assert done.returncode == 0, done.stderr[-3000:]
        drawn.append(np.load(workdir / "samples" / "samples.npy"))
    assert drawn[0].shape == (3, 8, 8, 1) and drawn[1].shape == (6, 8, 8, 1)
    np.testing.assert_array_equal(drawn[1][:3], drawn[0])
    assert np.std(drawn[1] - drawn[1][:1]) > 0.01


def test_classifier_script_reports_its_accuracy(finished, environment):
    done = run(command(finished[0], script="train_classifier.py"), environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "classifier: test accuracy" in done.stdout and "n = 360" in done.stdout


@pytest.mark.parametrize(
    ("options", "config", "script", "words"),
    [
        (["--config.score.model.name=UNett"], "digits.py:smoke", "train_score.py", ["'UNett'", "'UNet'"]),
        (["--config.score.train.stepz=3"], "digits.py:smoke", "train_score.py", ["stepz"]),
        (["--config.robustness.n=99999"], "digits.py:smoke", "robustness.py", ["99999", "360"]),
        ([], "digits.py:smoke", "sample.py", ["no checkpoint", "train_score.py"]),
        ([], "digits.py:smokey", "robustness.py", ["smokey", "smoke"]),
        (["--section=score"], "digits.py:smoke", "train_classifier.py", ["'score'", "adversarial_training"]),
        (
            ["--config.data.dataset=cifar11"],
            "cifar10.py:smoke",
            "train_score.py",
            ["cifar11", "download_and_prepare"],
        ),
    ],
)
def test_errors_are_for_people(tmp_path, environment, options, config, script, words):
    done = run(command(tmp_path / "run", *options, script=script, config=config), environment)
    assert done.returncode != 0
    assert all(word in done.stderr for word in words), done.stderr[-3000:]


def test_another_architecture_is_refused(finished, environment, tmp_path):
    """A checkpoint that does not fit is named, leaf and shapes, and stays as it is."""
    workdir = tmp_path / "run"
    (workdir / "score").mkdir(parents=True)
    (workdir / "score" / "checkpoints").symlink_to(finished[0] / "score" / "checkpoints")
    done = run(command(workdir, "--config.score.model.channels=12", script="train_score.py"), environment)
    assert done.returncode != 0
    assert "another architecture" in done.stderr and "float32[" in done.stderr
    done = run(command(finished[0], "--config.score.model.channels=12", script="train_score.py"), environment)
    assert done.returncode != 0
    assert "belongs to another config" in done.stderr and "config.score.model.channels" in done.stderr


@pytest.mark.parametrize("name", ["cifar10", "fashion_mnist"])
def test_other_data_sets_run_too(name, tfds_dir, tmp_path, environment):
    done = run(command(tmp_path / "run", config=f"{name}.py:smoke"), environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(json.loads((tmp_path / "run" / "results.json").read_text())) == 12
