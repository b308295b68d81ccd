"""What every command does before and around its work: the workdir, the terminal, the disk, the devices."""

import errno
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import common
import jax
import pytest
from test_configs import load

from jaxdiff.evaluate import atomic

ROOT = Path(common.__file__).parents[1]


def told(call):
    """The one line that a program ends with."""
    with pytest.raises(SystemExit) as end, common.in_words():
        call()
    text = str(end.value)
    first, hint = text.split("\n", 1) if "\n(set" in text else (text, "")
    assert (
        first.startswith("error: ")
        and "Traceback" not in text
        and hint.startswith("(set JAXDIFF_TRACEBACK=1")
    )
    return first


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_terminal_without_a_letter_shows_another(encoding, monkeypatch):
    """A dash and a dagger of the tables: success stays success, and what can be shown is."""
    buffer = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(buffer, encoding=encoding))
    with common.in_words():
        print("60.0 † —")
        sys.stdout.flush()
    assert buffer.getvalue().decode(encoding) == ("60.0 † —\n" if encoding == "utf-8" else "60.0 ? ?\n")


def test_a_home_folder_is_one_and_no_folder_is_none(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert common.workdir_of("~/runs/digits") == tmp_path / "runs" / "digits"
    assert common.workdir_of("runs") == Path("runs") and not (tmp_path / "runs").exists()
    for nothing in ("", "  "):
        with pytest.raises(ValueError, match="--workdir is a folder, for example runs/digits; got"):
            common.workdir_of(nothing)
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match=r"--workdir is a folder; .*thesis\.txt is a file"):
        common.workdir_of("~/thesis.txt")


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, ["No space left on device", "config.json", "Make room; the same command goes on"]),
        (errno.EDQUOT, ["quota", "Make room"]),
        (errno.EACCES, ["Permission denied", "config.json", "--workdir that you may write to"]),
        (errno.EROFS, ["Read-only file system", "config.json", "--workdir that you may write to"]),
        (errno.EIO, ["config.json", "The disk can not be read or written"]),
    ],
)
def test_what_the_disk_refuses_is_one_line_with_the_file(number, words, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    line = told(lambda: common.claim(tmp_path / "run", load("digits")))
    assert all(word.lower() in line.lower() for word in words), line
    assert list((tmp_path / "run").iterdir()) == []


def test_a_full_disk_in_the_middle_of_a_ledger_names_it(tmp_path):
    """/dev/full is one."""
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    line = told(lambda: atomic.append_bytes("/dev/full", b"x" * 10))
    assert "No space left on device: /dev/full" in line


def test_folders_that_cannot_be(tmp_path):
    (tmp_path / "file").touch()
    line = told(lambda: common.claim(tmp_path / "file" / "run", load("digits")))
    assert "Not a directory" in line and "A --workdir is a folder, and so is all above it" in line
    line = told(lambda: common.claim(tmp_path / ("x" * 300), load("digits")))
    assert "Choose a shorter --workdir" in line


def test_errors_of_other_kinds_keep_their_traceback():
    """A broken pipe, a bug: nothing is known of these, so all of it is shown."""
    for error in (BrokenPipeError(errno.EPIPE, "Broken pipe"), KeyError("x"), TypeError("x")):
        with pytest.raises(type(error)), common.in_words():
            raise error


def test_the_traceback_can_be_had(monkeypatch):
    monkeypatch.setenv("JAXDIFF_TRACEBACK", "1")
    for error in (ValueError("x"), OSError(errno.ENOSPC, "full", "file")):
        with pytest.raises(type(error)), common.in_words():
            raise error


@pytest.mark.parametrize("damage", [b"{", '{"é": 1}'.encode("latin-1"), b"\xff\xfe{\x00}\x00", b""])
def test_a_config_of_before_that_cannot_be_read_is_left_alone(damage, tmp_path):
    (tmp_path / "config.json").write_bytes(damage)
    line = told(lambda: common.claim(tmp_path, load("digits")))
    assert "config.json is unreadable; restore it, or choose another --workdir" in line
    assert (tmp_path / "config.json").read_bytes() == damage


@pytest.mark.parametrize("other", [1, 1.0, "1", None])
def test_a_workdir_tells_types_apart(other, tmp_path):
    """True is stored as 1 by nobody's wish."""
    config = load("digits").unlock()
    config.robustness.cells.none.pgd.ascent.keep_best = True
    common.claim(tmp_path, config)
    with config.ignore_type():
        config.robustness.cells.none.pgd.ascent.keep_best = other
    with pytest.raises(ValueError, match=rf"keep_best: True there, {other!r} here"):
        common.claim(tmp_path, config)


def test_a_run_that_fails_at_once_leaves_nothing_that_blocks_the_next(tmp_path):
    """The folder is as it was; what has been made, or was there before, stays."""
    config = load("digits")

    def run(workdir, make=None):
        with pytest.raises(ValueError, match="typo"), common.claimed(workdir, config):
            assert json.loads((workdir / "config.json").read_text())["seed"] == 0
            if make:
                (workdir / make).mkdir()
            raise ValueError("typo")

    run(tmp_path / "new")
    assert not (tmp_path / "new").exists()
    (tmp_path / "empty").mkdir()
    run(tmp_path / "empty")
    assert list((tmp_path / "empty").iterdir()) == []
    run(tmp_path / "begun", "score")
    assert {p.name for p in (tmp_path / "begun").iterdir()} == {"config.json", "score"}
    common.claim(tmp_path / "owned", config)
    run(tmp_path / "owned")
    assert (tmp_path / "owned" / "config.json").exists()


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
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    config = type("config", (), {"jax_num_cpu_devices": devices, "update": lambda *a: asked.append(a[-2:])})()
    monkeypatch.setattr(jax, "config", config)
    common.use_all_cores()
    assert [name for name, _ in asked] == ["jax_num_cpu_devices"] * expected
    assert all(1 <= n <= 8 for _, n in asked)


@pytest.mark.parametrize(
    "variables",
    [
        {"XLA_FLAGS": "--xla_force_host_platform_device_count=3"},
        pytest.param({"JAX_NUM_CPU_DEVICES": "3"}, marks=pytest.mark.slow),
    ],
)
def test_as_many_devices_as_asked_for(variables):
    code = "import common, jax; common.use_all_cores(); print(jax.device_count())"
    paths = os.pathsep.join([str(ROOT), str(ROOT / "experiments")])
    environment = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES")}
    environment |= {"PYTHONPATH": paths, "JAX_PLATFORMS": "cpu"} | variables
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout == "3\n", done.stderr


def test_flags_that_cannot_be_read_are_one_line(tmp_path):
    digits = f"--config={ROOT / 'configs' / 'digits.py'}"
    broken = tmp_path / "broken.py"
    broken.write_text("def get_config():\n    return {}['nothing']\n")
    cases = [
        ([f"{digits}:smokey"], ["smokey", "'smoke'"]),
        ([digits, "--config.score.trian.steps=3"], ["'trian'", "train"]),
        ([digits, "--config.score.train.steps=None"], ["config.score.train.steps", "None"]),
        ([digits, "--config.data=None"], ["config.data", "None"]),
        ([digits, "--wokdir=x"], ["wokdir", "workdir"]),
        ([f"--config={tmp_path / 'nope.py'}", "--config.seed=3"], ["nope.py"]),
        ([f"--config={broken}"], ["KeyError", "'nothing'"]),  # of the user's own file: not ours to sum up
    ]
    code = """
import json, sys, common
def said(arguments):
    common.flags.FLAGS.unparse_flags()
    try:
        sys.argv = ["x", *arguments]  # where overrides are looked for
        return common.parse(sys.argv)
    except BaseException as error:
        return [type(error).__name__, str(error)]
cases = json.loads(sys.argv[1])
print(json.dumps([said(arguments) for arguments in cases]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps([arguments for arguments, _ in cases])],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "experiments")])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for (_, words), (kind, message) in zip(cases, json.loads(done.stdout), strict=True):
        assert all(word in f"{kind}: {message}" for word in words), message
        if kind != "KeyError":
            first, *rest = message.splitlines()
            assert kind == "SystemExit" and first.startswith("error: ") and len(rest) == 1, message
