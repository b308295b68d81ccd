import os

import pytest

from jaxdiff.evaluate.atomic import append_bytes, write_bytes, write_text


def test_writes_into_new_folders_and_replaces(tmp_path):
    path = tmp_path / "a" / "b.txt"
    assert write_text(path, "é") == path and path.read_bytes() == "é".encode()
    assert write_bytes(path, b"new").read_bytes() == b"new"
    assert os.listdir(path.parent) == ["b.txt"]


@pytest.mark.parametrize("function", ["replace", "fsync"])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, function):
    path = write_bytes(tmp_path / "file", b"old")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, function, fail)
    with pytest.raises(OSError, match="disk full"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["file"]


def test_append_needs_a_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        append_bytes(tmp_path / "none", b"x")
    path = write_bytes(tmp_path / "file", b"a")
    append_bytes(path, b"b")
    assert path.read_bytes() == b"ab"
