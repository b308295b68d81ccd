import json
import logging
import os

import numpy as np
import pytest

from jaxdiff.evaluate import Ledger, ledger_path


def missing(ledger, ids):
    return [i for i in ids if i not in ledger.rows]


def row(example, **changes):
    values = {
        "id": example,
        "label": 1,
        "before": 1,
        "after": 2,
        "correct_before": True,
        "correct_after": False,
    }
    return values | {"finite": True, "norm": 0.1, "linf": 1 / 3, "loss": 2.5, "seconds": 0.25} | changes


@pytest.fixture
def hasty(monkeypatch):
    """Without the wait for the disk: hundreds of files."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def path(tmp_path):
    """A ledger of four rows."""
    ledger = Ledger.open(tmp_path / "cell.jsonl", "mine")
    ledger.append([row(3), row(1, loss=float("nan"))])
    ledger.append([row(4, norm=np.float32(0.1), label=np.int64(7)), row(2)])
    return ledger.path


def test_what_is_written_is_what_is_read(path):
    ledger = Ledger.open(path, "mine")
    assert list(ledger.rows) == [3, 1, 4, 2] and ledger.problems == []
    assert ledger.rows[3] == row(3)
    assert ledger.rows[1] == row(1, loss=None)  # strict JSON has no NaN
    assert ledger.rows[4] == row(4, norm=float(np.float32(0.1)), label=7)
    assert missing(ledger, [5, 4, 0, 1]) == [5, 0]
    assert [r["id"] for r in ledger.select([2, 3])] == [2, 3]
    for line in path.read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)


def test_memory_equals_disk(tmp_path):
    ledger = Ledger.open(tmp_path / "l", "f")
    ledger.append([row(0, loss=np.float32(np.inf), norm=np.float64(0.1))])
    assert ledger.rows == Ledger.open(tmp_path / "l", "f").rows


@pytest.mark.usefixtures("hasty")
def test_cut_anywhere_keeps_every_whole_line(path, tmp_path):
    data, rows = path.read_bytes(), list(Ledger.open(path, "mine").rows.values())
    header = data.index(b"\n") + 1
    cut_path = tmp_path / "cut.jsonl"
    for cut in [*range(header, len(data) - 350, 7), *range(len(data) - 350, len(data))]:
        cut_path.write_bytes(data[:cut])
        ledger = Ledger.open(cut_path, "mine")
        whole = data[header:cut].count(b"\n")
        torn = not data[:cut].endswith(b"\n")
        assert list(ledger.rows.values()) == rows[:whole]
        assert [p.line for p in ledger.problems] == ([whole + 2] if torn else [])
        assert cut_path.read_bytes() == data[: data.rindex(b"\n", 0, cut) + 1]  # the file is clean again


@pytest.mark.usefixtures("hasty")
def test_no_flipped_bit_passes(path, tmp_path):
    data, rows = path.read_bytes(), Ledger.open(path, "mine").rows
    flipped_path = tmp_path / "flipped.jsonl"
    for k in range(0, len(data), 3):  # 3 meets every bit of a byte
        flipped = bytearray(data)
        flipped[k] ^= 1 << k % 8
        flipped_path.write_bytes(flipped)
        ledger = Ledger.open(flipped_path, "mine")
        assert ledger.problems, k
        assert ledger.rows.items() <= rows.items(), k
        assert len(ledger.rows) >= len(rows) - 2, k  # a lost line end joins two rows
        if k % 16 == 0:
            again = Ledger.open(flipped_path, "mine")
            assert again.rows == ledger.rows and again.problems == []


def test_problems_are_reported_with_line_and_reason(path, caplog):
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b'"label":1', b'"label":0')
    lines[3] = b"\xff\x00 nonsense\n"
    path.write_bytes(b"".join(lines) + b"[1]\n" + b'{"torn":')
    with caplog.at_level(logging.WARNING):
        ledger = Ledger.open(path, "mine")
    assert [p.line for p in ledger.problems] == [3, 4, 6, 7]
    assert [p.reason.split(":")[0] for p in ledger.problems] == [
        "wrong checksum",
        "not JSON",
        "wrong checksum",
        "torn",
    ]
    assert "line 3 dropped: wrong checksum" in caplog.text
    assert missing(ledger, [3, 1, 4, 2]) == [1, 4]
    ledger.append([row(1), row(4)])
    assert missing(Ledger.open(path, "mine"), [3, 1, 4, 2]) == []


def test_a_repeated_row_counts_once_and_a_contradicted_one_not_at_all(path, tmp_path):
    other = Ledger.open(tmp_path / "other.jsonl", "mine")
    other.append([row(3, seconds=9.0), row(2, after=1, correct_after=True)])
    path.write_bytes(path.read_bytes() + b"".join(other.path.read_bytes().splitlines(keepends=True)[1:]))
    ledger = Ledger.open(path, "mine")
    assert [p.line for p in ledger.problems] == [6, 7]
    assert ledger.rows[3] == row(3) and missing(ledger, [3, 2]) == [2]


def test_another_configuration_is_refused_and_untouched(path):
    before = path.read_bytes()
    with pytest.raises(
        ValueError,
        match=r"belongs to another configuration, version or classifier.*'mine'.*'yours'.*Nothing was changed",
    ):
        Ledger.open(path, "yours")
    assert path.read_bytes() == before


def test_rows_of_another_configuration_do_not_pass_under_our_header(path, tmp_path):
    theirs = Ledger.open(tmp_path / "theirs.jsonl", "yours")
    theirs.append([row(9)])
    path.write_bytes(path.read_bytes() + theirs.path.read_bytes().splitlines(keepends=True)[1])
    ledger = Ledger.open(path, "mine")
    assert missing(ledger, [9]) == [9] and ledger.problems[0].reason == "wrong checksum"


def test_a_file_that_is_no_ledger_is_refused_and_untouched(tmp_path):
    path = tmp_path / "thesis.txt"
    path.write_text("years of work")
    with pytest.raises(ValueError, match="not a readable ledger"):
        Ledger.open(path, "mine")
    assert path.read_text() == "years of work"


def test_an_empty_file_becomes_a_ledger(tmp_path):
    (tmp_path / "l").touch()
    Ledger.open(tmp_path / "l", "f").append([row(1)])
    assert list(Ledger.open(tmp_path / "l", "f").rows) == [1]


def test_append_refuses_second_rows_and_missing_fields(path):
    ledger, before = Ledger.open(path, "mine"), path.read_bytes()
    with pytest.raises(ValueError, match=r"second one for \[3\]"):
        ledger.append([row(8), row(3)])
    with pytest.raises(ValueError, match=r"second one for \[8\]"):
        ledger.append([row(8), row(8)])
    with pytest.raises(ValueError, match=r"\['norm'\] are missing"):
        ledger.append([{k: v for k, v in row(8).items() if k != "norm"}])
    assert path.read_bytes() == before and 8 not in ledger.rows


def test_paths_tell_every_cell_apart(tmp_path):
    cells = [("a-b", "c"), ("a", "b-c"), ("a", "b"), ("pgd+eot", "linf_8.255")]
    assert len({ledger_path(tmp_path, *cell) for cell in cells}) == 4
    for name in ("a--b", "a/b", "", "-a", "a b"):
        with pytest.raises(ValueError, match="words joined by single dashes"):
            ledger_path(tmp_path, name, "pgd")
