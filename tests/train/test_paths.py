"""Paths: "~" is a home, what is relative starts here, and what does not exist yet is fine."""

import pytest

from jaxdiff.train import Checkpoints, jsonl, paths


def test_a_tilde_is_the_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert paths.folder("who", "~/run/a") == tmp_path / "run" / "a"
    with Checkpoints("~/run/checkpoints") as checkpoints:
        assert checkpoints.directory == str(tmp_path / "run" / "checkpoints")
    assert (tmp_path / "run" / "checkpoints").is_dir()
    hook = jsonl("~/run/m.jsonl", 8, every=1)
    hook.open(1)
    hook.write(1, {})
    assert (tmp_path / "run" / "m.jsonl").is_file()


def test_what_is_relative_starts_here_and_stays_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = paths.file("who", "run/m.jsonl")
    assert path == tmp_path / "run" / "m.jsonl" == paths.writable("who", path)
    assert not path.parent.exists()


def test_a_link_to_nowhere_is_no_folder(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="link' is a file"):
        paths.folder("who", tmp_path / "link" / "run")
