"""The commit of a checkout; None, never an error, where there is none."""

import shutil
import subprocess

import pytest

from jaxdiff.evaluate import commit

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")


def git(folder, *arguments):
    identity = ("-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false")
    run = subprocess.run(
        ["git", "-C", folder, *identity, *arguments], check=True, capture_output=True, text=True
    )
    return run.stdout.strip()


@pytest.fixture
def module(tmp_path):
    """A file of a package in a checkout, which ignores `venv`."""
    path = tmp_path / "package" / "module.py"
    path.parent.mkdir()
    path.write_text("x = 1\n")
    (tmp_path / ".gitignore").write_text("venv\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    return path


def test_the_commit_and_whether_a_file_has_changed_since(module, tmp_path):
    head = git(tmp_path, "rev-parse", "HEAD")
    assert commit(module) == head
    git(tmp_path, "tag", "-a", "v1", "-m", "a tag is no commit")
    (tmp_path / "results.json").write_text("not tracked")
    assert commit(module) == head
    module.write_text("x = 2\n")
    assert commit(module) == f"{head}-dirty"


def test_a_package_installed_into_the_checkout_of_another_project_has_none(module, tmp_path):
    installed = tmp_path / "venv" / "module.py"
    installed.parent.mkdir()
    installed.write_text("x = 1\n")
    assert commit(installed) is None


def test_no_failure_of_git_is_an_error(module, tmp_path, tmp_path_factory, monkeypatch):
    outside = tmp_path_factory.mktemp("outside") / "module.py"
    assert commit(outside) is None and commit(outside / "nowhere" / "x.py") is None
    (tmp_path / ".git" / "HEAD").write_text("damaged")
    assert commit(module) is None
    for error in (FileNotFoundError("git"), PermissionError("git"), subprocess.TimeoutExpired("git", 10)):
        monkeypatch.setattr(subprocess, "run", lambda *a, error=error, **k: (_ for _ in ()).throw(error))
        assert commit(module) is None
