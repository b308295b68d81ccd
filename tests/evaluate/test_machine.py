"""What a ledger says of the machines that made its rows: a note, never a refusal."""

import json
import logging

import jax
import jaxlib
import pytest
from test_ledger import row
from test_report import FACTS

from jaxdiff.evaluate import Ledger, machine, machine_notes, report, write_report
from jaxdiff.evaluate import ledger as ledgers
from jaxdiff.evaluate.ledger import UNKNOWN, machines_of

CPUINFO = """processor\t: 0
vendor_id\t: AuthenticAMD
model name\t: AMD EPYC 7B13
flags\t\t: fpu sse2 fma sse4_1 sse4_2 avx avx2 avx512fake
"""
ARM = "processor\t: 0\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd sve\n"


@pytest.fixture
def on(monkeypatch):
    """on("A"): from now on this is the machine A."""

    def move(name):
        for module in (ledgers, machine, report):
            monkeypatch.setattr(module, "this_machine", lambda: name)

    move("A")
    return move


@pytest.fixture
def path(tmp_path, on):
    """Four rows: two made on A, two on B."""
    Ledger.open(tmp_path / "none--pgd.jsonl", "mine").append([row(3), row(1)])
    on("B")
    ledger = Ledger.open(tmp_path / "none--pgd.jsonl", "mine")
    ledger.append([row(4)])
    ledger.append([row(2)])
    return ledger.path


def missing(ledger, ids):
    return [i for i in ids if i not in ledger.rows]


def test_processors_are_told_apart_by_model_and_instruction_sets():
    assert machine.described(CPUINFO.splitlines()) == "AMD EPYC 7B13 (sse4_2, avx, avx2, fma)"
    assert machine.described(ARM.splitlines()).endswith(" (asimd, sve)")
    assert machine.described([]) == machine.platform.machine()


def test_flags_of_xla_count_unless_they_change_no_number():
    flags = "--xla_dump_to=/x --xla_cpu_max_isa=AVX --xla_force_host_platform_device_count=8 --b=1 --xla_cpu_max_isa=AVX2"
    assert machine.xla_settings(flags) == ["--b=1", "--xla_cpu_max_isa=AVX2"]


def test_a_machine_is_its_processor_its_versions_and_its_settings(monkeypatch):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    here = machine.this_machine()
    assert machine.processor() in here and f"jax {jax.__version__}, jaxlib {jaxlib.__version__}" in here
    assert "\n" not in here and str(jax.device_count()) + " x" not in here
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=8")
    assert machine.this_machine() == here
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_max_isa=SSE4_2")
    assert machine.this_machine() == f"{here}; --xla_cpu_max_isa=SSE4_2"
    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        assert machine.this_machine().endswith("SSE4_2 matmul precision highest x64")


def test_every_row_knows_its_machine_and_the_file_says_it_where_it_changes(path):
    ledger = Ledger.open(path, "mine")
    assert ledger.makers == {3: "A", 1: "A", 4: "B", 2: "B"} and ledger.problems == []
    assert ledger.machines() == machines_of(path) == {"A": 2, "B": 2}
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line.get("machine") for line in lines] == ["A", None, None, "B", None, None]


def test_another_machine_goes_on_with_one_line_of_warning(path, on, caplog):
    with caplog.at_level(logging.WARNING):
        Ledger.open(path, "mine")
    assert [r.getMessage() for r in caplog.records] == [
        f"{path}: 2 rows were made on A; this is B: the last bits may differ."
    ]
    on("C")
    ledger, before = Ledger.open(path, "mine"), path.read_bytes()
    assert missing(ledger, [1, 2, 3, 4, 5]) == [5] and path.read_bytes() == before  # looking is not writing
    ledger.append([row(5)])
    assert Ledger.open(path, "mine").machines() == {"A": 2, "B": 2, "C": 1}
    caplog.clear()
    on("A")
    alone = Ledger.open(path.with_name("alone.jsonl"), "mine")
    alone.append([row(1)])
    Ledger.open(alone.path, "mine")
    assert caplog.text == ""


def test_mending_a_file_keeps_who_made_what(path, on):
    """A damaged line may have told another machine: until the next that does, nobody is said to have made the rows."""
    lines = path.read_bytes().splitlines(keepends=True)
    torn = b"".join([*lines[:5], lines[5][:-9]])
    cases = {
        b"".join([lines[0], b"torn\n", *lines[2:]]): {1: UNKNOWN, 4: "B", 2: "B"},
        b"".join([*lines[:3], b"torn\n", *lines[4:]]): {3: "A", 1: "A", 4: UNKNOWN, 2: UNKNOWN},
        b"".join(lines[1:]): {
            1: UNKNOWN,
            4: "B",
            2: "B",
        },  # without its header, the first row is taken for it
        torn: {3: "A", 1: "A", 4: "B"},
    }
    on("B")
    for data, makers in cases.items():
        path.write_bytes(data)
        ledger = Ledger.open(path, "mine")
        assert ledger.problems and ledger.makers == makers
        ledger.append([row(7)])
        again = Ledger.open(path, "mine")
        assert again.problems == [] and again.makers == makers | {7: "B"}
    assert path.read_bytes() == b"".join(lines[:5]) + ledgers._encode(
        row(7), "mine"
    )  # no line for the same machine


def test_a_ledger_of_before_is_read_and_gone_on_with(tmp_path, on, caplog):
    """As they were written before machines were noted: a header of version and fingerprint, and rows."""
    encode = lambda row: ledgers._encode(row, "mine")
    path = tmp_path / "old.jsonl"
    path.write_bytes(encode({"ledger": 1, "fingerprint": "mine"}) + encode(row(3)))
    with caplog.at_level(logging.WARNING):
        ledger = Ledger.open(path, "mine")
    assert ledger.rows == {3: row(3)} and ledger.problems == [] and ledger.machines() == {UNKNOWN: 1}
    assert f"1 rows were made on {UNKNOWN}" in caplog.text
    ledger.append([row(1)])
    assert Ledger.open(path, "mine").makers == {3: UNKNOWN, 1: "A"}


def test_a_machine_is_no_part_of_the_fingerprint(path, on):
    on("C")
    with pytest.raises(ValueError, match=r"another configuration.*'mine'.*'yours'"):
        Ledger.open(path, "yours")


def test_the_report_says_which_rows_were_made_elsewhere(path, on, tmp_path):
    other = Ledger.open(path.with_name("none--fgsm.jsonl"), "mine")
    other.append([row(1)])
    (note,) = machine_notes({p.stem: p for p in tmp_path.glob("*.jsonl")})
    assert "Rows were made: 3 on B; 2 on A" in note or "Rows were made: 2 on A; 3 on B" in note
    assert "Of several machines are: none--pgd: 2 on A; 2 on B." in note and "none--fgsm:" not in note
    assert note in write_report(tmp_path / "r.md", "A run", notes=[note], **FACTS).read_text()
    assert machine_notes({other.path.stem: other.path}) == []
    on("A")
    (note,) = machine_notes({other.path.stem: other.path})
    assert "1 on B" in note and "Of several" not in note


def test_what_is_no_ledger_has_no_machines(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="not a readable ledger"):
        machines_of(tmp_path / "thesis.txt")
