"""The command: what is wrong is one line before anything is made, what a user's function raises keeps its traceback."""

import errno
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from jaxdiff.evaluate import atomic
from jaxdiff.study import command, machine, words

ROOT = Path(__file__).parents[2]
CONFIG = """
from jaxdiff import data
from jaxdiff.study import part, study
import own_tasks

def get_config(variant=""):
    return study(variant, seed=0, data=part(data.dataset.digits), axes={"seed": (0, 1), "stages.first.size": (1, 2)},
                 stages={"first": part(own_tasks.first, size=1), "second": part(own_tasks.second, first="@first")})
"""
TASKS = """
import json
from jaxdiff.study import Plan

def first(data, size: int, broken: bool = False):
    if broken:
        raise ValueError("of my own")
    def make(run):
        with open(run.workdir / "made.txt", "a") as log:
            log.write(f"first {size} {run.seed}\\n")
        records = [{"metric": "loss", "value": size + 10.0 * run.seed, "n": 5}]
        (run.folder / "results.json").write_text(json.dumps(records))
        return size
    return Plan(0, make)

def second(first: int):
    def make(run):
        print("the sum — † of", first, run.seed)
        return first
    return Plan(0, make)
"""


@pytest.fixture
def project(tmp_path):
    """A user's own folder: a config, and a package of tasks."""
    (tmp_path / "my_config.py").write_text(CONFIG)
    (tmp_path / "own_tasks.py").write_text(TASKS)
    return tmp_path


def call(project, *arguments, workdir="runs", **environment):
    command_line = [sys.executable, "-m", "jaxdiff.study", f"--config={project / 'my_config.py'}"]
    command_line += [f"--workdir={project / workdir}", *arguments] if workdir else arguments
    own = {"PYTHONPATH": str(ROOT), "JAXDIFF_CACHE_DIR": str(project / "cache"), **environment}
    return subprocess.run(
        command_line,
        env=os.environ | own,
        cwd=project,
        capture_output=True,
        text=True,
        encoding="latin-1",
        timeout=300,
    )


def refused(done):
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    first, hint = done.stderr.strip().rsplit("\n", 1)
    assert first.startswith("error: ") and hint == words.HINT
    return first


def test_a_study_of_a_users_own_package(project):
    done = call(project, "--config.stages.first.size=7", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert (
        "the sum ? ? of 7 0" in done.stdout
    )  # a terminal without a letter shows another, and success stays success
    assert json.loads((project / "runs" / "config.json").read_text())["stages"]["first"]["size"] == 7
    assert (project / "runs" / "made.txt").read_text() == "first 7 0\n"
    assert (project / "cache" / "programs").exists() or not (project / "cache").exists()


def test_what_is_wrong_is_one_line_and_leaves_nothing(project):
    cases = [
        (["--config.stages.first.sise=7"], ["'sise', did you mean 'size'"]),
        (["--config.stages.first.size=large"], ["config.stages.first.size", "a whole number"]),
        (["--only=frist"], ["'frist', did you mean 'first'"]),
        (["--wokdir=x"], ["'--wokdir=x', did you mean '--workdir'"]),
        (["--n=3"], ["Unknown argument '--n=3'"]),
        (["more"], ["Unknown argument 'more'"]),
        (["--config.seed"], ["--config.seed needs a value"]),
    ]
    for arguments, told in cases[:3]:
        line = refused(call(project, *arguments))
        assert all(word in line for word in told), line
    for arguments, told in cases[3:]:
        with pytest.raises(ValueError) as error:
            command.parsed(["--config=c.py", "--workdir=w", *arguments])
        assert all(word in str(error.value) for word in told), error.value
    assert not (project / "runs").exists()


def test_an_error_of_the_users_own_keeps_its_traceback(project):
    done = call(project, "--config.stages.first.broken=True")
    assert done.returncode == 1 and "Traceback" in done.stderr and "of my own" in done.stderr
    assert "in the stage 'first'" in done.stderr and not (project / "runs").exists()


def test_a_sweep_makes_what_variants_share_once_and_one_table_of_all(project):
    done = call(project, "--sweep")
    assert done.returncode == 0, done.stderr
    made = (project / "runs" / "made.txt").read_text().splitlines()
    assert sorted(made) == ["first 1 0", "first 1 1", "first 2 0", "first 2 1"]
    lines = (project / "runs" / "results.csv").read_text().splitlines()
    assert lines[0].startswith("seed,size,stage,") and len(lines) == 5
    told = (project / "runs" / "sweep.md").read_text()
    assert (
        "| 1 | 6 [" in told
        and "| 2 | 7 [" in told
        and (project / "runs" / "figures" / "first-loss-size.png").exists()
    )
    again = call(project, "--sweep")
    assert again.returncode == 0
    assert (project / "runs" / "results.csv").read_text().splitlines() == lines


def told(run):
    """The one line that a program ends with."""
    with pytest.raises(SystemExit) as end, words.in_words():
        run()
    first, hint = str(end.value).split("\n", 1)
    assert first.startswith("error: ") and "Traceback" not in first and hint == words.HINT
    return first


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_terminal_without_a_letter_shows_another(encoding, monkeypatch):
    buffer = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(buffer, encoding=encoding))
    with words.in_words():
        print("60.0 † —")
        sys.stdout.flush()
    assert buffer.getvalue().decode(encoding) == ("60.0 † —\n" if encoding == "utf-8" else "60.0 ? ?\n")


def test_a_home_folder_is_one_and_no_folder_is_none(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert command.workdir_of("~/runs/digits") == tmp_path / "runs" / "digits"
    assert command.workdir_of("runs") == Path("runs") and not (tmp_path / "runs").exists()
    for nothing in ("", "  "):
        with pytest.raises(ValueError, match="--workdir is a folder, for example runs/digits; got"):
            command.workdir_of(nothing)
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match=r"--workdir is a folder; .*thesis\.txt is a file"):
        command.workdir_of("~/thesis.txt")


@pytest.mark.parametrize(
    ("number", "parts"),
    [
        (errno.ENOSPC, ["No space left on device", "a.txt", "Make room; the same command goes on"]),
        (errno.EACCES, ["Permission denied", "a.txt", "--workdir that you may write to"]),
        (errno.EIO, ["a.txt", "The disk can not be read or written"]),
    ],
)
def test_what_the_disk_refuses_is_one_line_with_the_file(number, parts, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    line = told(lambda: atomic.write_text(tmp_path / "a.txt", "x"))
    assert all(part.lower() in line.lower() for part in parts), line


def test_errors_of_other_kinds_keep_their_traceback(monkeypatch):
    def raising(error):
        raise error

    for error in (BrokenPipeError(errno.EPIPE, "Broken pipe"), KeyError("x"), ValueError("of a user's own")):
        with pytest.raises(type(error)), words.in_words():
            raising(error)
    monkeypatch.setenv("JAXDIFF_TRACEBACK", "1")
    with pytest.raises(ValueError), words.in_words():
        command.workdir_of("")


@pytest.mark.parametrize(
    ("variables", "devices", "expected"),
    [
        ({}, -1, True),
        ({"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}, -1, False),
        ({"XLA_FLAGS": "--xla_cpu_max_isa=AVX2"}, -1, True),
        ({}, 3, False),
    ],
)
def test_a_number_of_devices_that_is_asked_for_counts(variables, devices, expected, monkeypatch):
    asked = []
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)  # macOS has none
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    config = type("config", (), {"jax_num_cpu_devices": devices, "update": lambda *a: asked.append(a[-2:])})()
    monkeypatch.setattr(jax, "config", config)
    machine.use_all_cores()
    assert [name for name, _ in asked] == ["jax_num_cpu_devices"] * expected
    assert all(1 <= n <= 8 for _, n in asked)


def test_programs_are_kept_by_kind_of_machine_unless_it_is_switched_off(monkeypatch, tmp_path):
    asked = {}
    monkeypatch.setenv("JAXDIFF_CACHE_DIR", str(tmp_path))
    config = type(
        "config", (), {"jax_compilation_cache_dir": None, "update": lambda _, k, v: asked.update({k: v})}
    )()
    monkeypatch.setattr(machine.jax, "config", config)
    monkeypatch.setattr(machine, "this_machine", lambda: "cpu one")
    machine.cache_programs()
    first = asked.pop("jax_compilation_cache_dir")
    monkeypatch.setattr(machine, "this_machine", lambda: "cpu two")
    machine.cache_programs()
    assert Path(first).parent == tmp_path / "programs" and asked["jax_compilation_cache_dir"] != first
    asked.clear()
    monkeypatch.setenv(machine.SWITCH, "off")
    machine.cache_programs()
    assert not asked
