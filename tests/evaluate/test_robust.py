import logging
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import jax
import killed_cell
import linear_cell
import numpy as np
import pytest
from rows import slow_but

from jaxdiff.evaluate import Ledger, ledger_path, run_cell, summarise, worst_case
from jaxdiff.evaluate.images import images_path

IDS = list(range(linear_cell.N))


def run(folder, ids=IDS, batch_size=4, attack=linear_cell.attack, fetch=linear_cell.fetch, keep=0):
    ledger = Ledger.open(ledger_path(folder, "none", "step"), "f")
    return ledger, run_cell(ledger, ids, fetch, attack, batch_size, keep=keep)


def timeless(ledger):
    return {i: row | {"seconds": 0} for i, row in ledger.rows.items()}


def attacked(folder):
    return [
        [int(i) for i in line.split()] for line in (Path(folder) / "attacked.txt").read_text().splitlines()
    ]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run: (ledger, pictures of ten)."""
    return run(tmp_path_factory.mktemp("whole"), keep=10)


def test_rows_are_what_the_attack_did(whole):
    ledger, pictures = whole
    one = jax.jit(linear_cell.attack_one)
    for i in IDS:
        expected = one(linear_cell.IMAGES[i], linear_cell.LABELS[i], i)
        row = ledger.rows[i]
        for name in ("before", "after", "finite", "loss", "norm", "linf"):
            assert row[name] == expected[name].item()
        assert row["label"] == linear_cell.LABELS[i]
        assert row["correct_before"] == (row["before"] == row["label"])
        assert row["correct_after"] == (row["after"] == row["label"])
        if i < 10:
            np.testing.assert_array_equal(pictures["adversarial"][i], expected["adversarial"])
    assert (
        0
        < sum(r["correct_after"] for r in ledger.rows.values())
        < sum(r["correct_before"] for r in ledger.rows.values())
    )


@pytest.mark.parametrize("batch_size", slow_but([5, 32], 5))
def test_batch_size_and_order_change_nothing(whole, tmp_path, batch_size):
    order = np.random.default_rng(1).permutation(IDS)
    ledger, _ = run(tmp_path, order, batch_size)
    assert timeless(ledger) == timeless(whole[0])


@pytest.mark.parametrize(
    "where", slow_but(["attack", "before the rows", "within the rows"], "within the rows")
)
def test_killed_and_resumed_equals_uninterrupted(whole, tmp_path, where):
    here = Path(__file__).parent
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(here.parent.parent), str(here)])}
    process = subprocess.run(
        [sys.executable, here / "killed_cell.py", tmp_path, where],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert process.returncode == -9, process.stderr
    first = attacked(tmp_path)
    assert len(first) == 3
    ledger, pictures = run(tmp_path, attack=killed_cell.recorded(tmp_path), keep=10)
    assert timeless(ledger) == timeless(whole[0])
    np.testing.assert_array_equal(pictures["adversarial"], whole[1]["adversarial"])
    assert bool(ledger.problems) == (where == "within the rows")
    twice = first[2][1:] if where == "within the rows" else first[2]  # half of four rows: the second is torn
    counts = Counter(i for batch in attacked(tmp_path) for i in batch)
    assert counts == {i: 2 if i in twice else 1 for i in IDS}


def test_nothing_is_attacked_twice(whole, tmp_path):
    run(tmp_path, IDS[:9], keep=3)
    log = killed_cell.recorded(tmp_path)
    run(tmp_path, attack=log, keep=3)
    assert sorted(i for batch in attacked(tmp_path) for i in batch) == IDS[9:]
    run(tmp_path, attack=pytest.fail, keep=3)


def test_a_damaged_row_is_attacked_again_and_only_that(whole, tmp_path):
    ledger, _ = run(tmp_path, keep=2)
    lines = ledger.path.read_bytes().splitlines(keepends=True)
    lines[8] = lines[8].replace(b'"seconds":', b'"sEconds":')
    ledger.path.write_bytes(b"".join(lines))
    ledger, _ = run(tmp_path, attack=killed_cell.recorded(tmp_path), keep=2)
    assert attacked(tmp_path) == [[7]] and timeless(ledger) == timeless(whole[0])


@pytest.mark.parametrize(
    ("damage", "again"),
    [
        ("missing", [[0, 1, 2, 3], [4, 5]]),
        ("flipped", [[0, 1, 2, 3]]),
        ("stale", [[0, 1, 2, 3], [4, 5]]),
        ("fewer", [[2, 3, 4, 5]]),
    ],
)
def test_lost_pictures_alone_are_made_again(whole, tmp_path, damage, again, caplog):
    ledger, pictures = run(tmp_path, keep=2 if damage == "fewer" else 6)
    folder, rows = images_path(ledger.path), ledger.path.read_bytes()
    if damage == "missing":
        shutil.rmtree(folder)
    elif damage == "flipped":
        data = bytearray((folder / "0.npz").read_bytes())
        data[len(data) // 2] ^= 4
        (folder / "0.npz").write_bytes(data)
    elif damage == "stale":
        other = Ledger.open(tmp_path / "other.jsonl", "another")
        run_cell(other, IDS, linear_cell.fetch, linear_cell.attack, 4, keep=6)
        shutil.rmtree(folder)
        images_path(other.path).replace(folder)
    ledger, pictures = run(tmp_path, attack=killed_cell.recorded(tmp_path), keep=6)
    assert attacked(tmp_path) == again
    assert ledger.path.read_bytes() == rows
    np.testing.assert_array_equal(pictures["adversarial"], whole[1]["adversarial"][:6])
    assert ("is made again" in caplog.text) == (damage in ("flipped", "stale"))


def test_pictures_that_are_there_are_not_written_again(tmp_path):
    """A file a batch; a later one leaves the earlier ones as they are."""
    ledger, _ = run(tmp_path, keep=2)
    first = images_path(ledger.path) / "0.npz"
    before = first.stat().st_mtime_ns, first.read_bytes()
    ledger, _ = run(tmp_path, keep=9)
    assert (first.stat().st_mtime_ns, first.read_bytes()) == before
    assert sorted(path.name for path in first.parent.iterdir()) == ["0.npz", "2.npz", "6.npz"]


def test_further_outputs_become_numbers_and_pictures(tmp_path):
    def attack(batch):
        extra = {"queries": batch["id"] * 10, "purified": 1 - batch["image"]}
        return linear_cell.attack(batch) | extra

    ledger, pictures = run(tmp_path, attack=attack, keep=3)
    assert [ledger.rows[i]["queries"] for i in IDS] == [10 * i for i in IDS]
    assert set(pictures) == {"adversarial", "purified"}
    np.testing.assert_array_equal(pictures["purified"], 1 - linear_cell.IMAGES[:3])


def test_one_trace_for_remainders_resumes_and_restored_pictures(tmp_path):
    run(tmp_path, IDS[:6], keep=3)
    ledger, _ = run(tmp_path, keep=3)
    shutil.rmtree(images_path(ledger.path))
    run(tmp_path, keep=3)
    assert linear_cell.TRACES[4] == 1


@pytest.mark.parametrize("what", ["before", "logits", "loss", "image"])
def test_what_is_not_finite_is_never_robust(tmp_path, caplog, what):
    def poison(x, y, example):
        bad = example % 2 == 0
        hit = lambda v: jax.numpy.where(bad, jax.numpy.nan, v)
        right = jax.nn.one_hot(y, 3)
        # The argmax of NaN is class 0: without a check these would look right.
        values = {"before": right, "logits": right, "loss": jax.numpy.float32(1.0), "image": x}
        values[what] = hit(values[what])
        before, after = values["before"], values["logits"]
        return linear_cell.outcome(x, values["image"], before, after, values["loss"], x.max())

    def fetch(ids):
        return linear_cell.fetch(ids) | {"label": np.zeros(len(ids), np.int32)}

    def attack(batch):
        return jax.vmap(poison)(batch["image"], batch["label"], batch["id"])

    with caplog.at_level(logging.WARNING):
        ledger, _ = run(tmp_path, attack=attack, fetch=fetch)
    summary = summarise(ledger.select(IDS))
    assert summary["nonfinite"] == 12 and summary["accuracy"] == pytest.approx(11 / 23)
    assert summary["accuracy_before"] == (pytest.approx(11 / 23) if what == "before" else 1)
    assert summary["accuracy_after"] == pytest.approx(11 / 23)
    assert ledger.rows[0]["before"] == (-1 if what == "before" else 0)
    assert [ledger.rows[i]["after"] for i in (0, 1)] == [-1 if what == "logits" else 0, 0]
    assert "12 of 23 examples have non-finite" in caplog.text
    assert Ledger.open(ledger.path, "f").rows == ledger.rows


def test_what_is_no_image_with_a_label_is_neither_robust_nor_fallen(tmp_path, caplog):
    """An attack that moves the batch itself, as a traced one may: what a judge then sees is marked, example by example."""

    def judged(x, y, example):
        right = jax.nn.one_hot(y % 3, 3)
        return linear_cell.outcome(x, x, right, right, x.max(), x.max(), y)

    def attack(batch):
        image = np.where(batch["id"][:, None, None, None] % 4 == 1, 2 * batch["image"] - 1, batch["image"])
        label = np.where(batch["id"] % 4 == 2, -1, batch["label"]) + 3 * (batch["id"] % 4 == 3)
        return jax.vmap(judged)(image, label, batch["id"])

    with caplog.at_level(logging.WARNING):
        ledger, _ = run(tmp_path, attack=attack, fetch=bad_fetch(label=lambda y: 0 * y))
    assert all(ledger.rows[i]["valid"] is (i % 4 == 0) for i in IDS)
    assert not any(ledger.rows[i]["correct_before"] or ledger.rows[i]["correct_after"] for i in IDS if i % 4)
    summary = summarise(ledger.select(IDS))
    assert (summary["n"], summary["invalid"], summary["nonfinite"], summary["accuracy"]) == (6, 17, 0, 1.0)
    assert "17 of 23 examples were no images in [0, 1] with a label of the classifier" in caplog.text
    assert "non-finite" not in caplog.text
    assert all("classes" not in row for row in ledger.rows.values())


def test_an_attack_that_has_seen_it_fall_and_a_wrong_image_never_stand(tmp_path):
    """Whatever the judge says: `won` and `wrong` are the attack's own, and of shares too."""

    def attack(batch):
        flags = {
            "won": batch["id"] % 2 == 0,
            "wrong": batch["id"] % 3 == 0,
            "share": np.full(len(batch["id"]), 0.5),
        }
        return linear_cell.attack(batch) | {"before": batch["label"], "after": batch["label"]} | flags

    ledger, _ = run(tmp_path, attack=attack)
    for i in IDS:
        row = ledger.rows[i]
        assert (row["correct_before"], row["correct_after"]) == (i % 3 > 0, i % 2 > 0)
        assert row["share"] == (0.5 if i % 2 and i % 3 else 0.0)
        assert row["won"] is (i % 2 == 0) and "wrong" not in row


def test_a_prediction_from_nan_is_no_class():
    x, nan, good = jax.numpy.zeros(1), jax.numpy.full(3, jax.numpy.nan), jax.numpy.arange(3.0)
    assert linear_cell.outcome(x, x, nan, good, x[0], x[0])["before"] == -1
    assert linear_cell.outcome(x, x, good, nan, x[0], x[0])["after"] == -1
    assert linear_cell.outcome(x, x, good, good, x[0], x[0])["before"] == 2


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_outcome_is_finite_if_all_of_it_is(value):
    x, logits, number = jax.numpy.zeros(4), jax.numpy.arange(3.0), jax.numpy.float32(1)
    good = {"x": x, "x_adv": x, "before": logits, "after": logits, "loss": number, "norm": number}
    assert linear_cell.outcome(**good)["finite"]
    for name in set(good) - {"x"}:
        bad = good | {name: good[name].at[..., :1].set(value) if good[name].ndim else number * value}
        assert not linear_cell.outcome(**bad)["finite"], name


def test_summary_counts_by_hand(whole):
    rows = [
        {"id": 0, "correct_before": True, "correct_after": True, "finite": True, "norm": 0.5, "linf": 0.1},
        {"id": 1, "correct_before": True, "correct_after": False, "finite": True, "norm": 0.7, "linf": 0.2},
        {"id": 2, "correct_before": False, "correct_after": True, "finite": True, "norm": 0.1, "linf": 0.3},
        {"id": 3, "correct_before": True, "correct_after": False, "finite": False, "norm": None, "linf": 0.0},
    ]
    value = summarise([row | {"seconds": 0.5} for row in rows])
    assert value["accuracy"] == 0.25 and value["n"] == 4  # a clean mistake does not stand
    assert (value["accuracy_before"], value["accuracy_after"], value["nonfinite"]) == (0.75, 0.5, 1)
    assert (value["max_norm"], value["max_linf"], value["seconds"]) == (0.7, 0.3, 2.0)
    assert summarise(whole[0].select(IDS))["max_norm"] <= linear_cell.RADIUS


def test_worst_case_is_per_example(whole):
    def cell(stands):
        return [
            whole[0].rows[0] | {"id": i, "correct_before": True, "correct_after": s}
            for i, s in enumerate(stands)
        ]

    first, second = cell([True, True, False]), cell([True, False, True])
    assert worst_case([first, second])["accuracy"] == pytest.approx(1 / 3)  # each alone: 2 / 3
    assert worst_case([first])["accuracy"] == summarise(first)["accuracy"]
    with pytest.raises(ValueError, match="same ids"):
        worst_case([first, second[::-1]])


def test_progress_shows_the_running_accuracy(tmp_path, capsys, whole):
    ledger = Ledger.open(tmp_path / "l", "f")
    run_cell(ledger, IDS, linear_cell.fetch, linear_cell.attack, 4, "none/step")
    robust = 100 * summarise(ledger.select(IDS))["accuracy"]
    shown = capsys.readouterr().err
    assert "none/step: 100%" in shown and f"robust {robust:.1f} %" in shown and "23/23" in shown


def test_progress_shows_no_accuracy_of_what_is_no_image(tmp_path, capsys):
    """Half of the examples are none; of the others all stand."""

    def attack(batch):
        right = {"before": batch["label"], "after": batch["label"], "valid": batch["id"] % 2 == 0}
        return linear_cell.attack(batch) | right

    run_cell(Ledger.open(tmp_path / "l", "f"), IDS, linear_cell.fetch, attack, 4, "none/step")
    assert "robust 100.0 %" in capsys.readouterr().err.splitlines()[-1]


def bad_fetch(**changes):
    return lambda ids: linear_cell.fetch(ids) | {k: f(linear_cell.fetch(ids)[k]) for k, f in changes.items()}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fetch": bad_fetch(image=lambda x: 2 * x + 1)}, r"images lie in \[0, 1\]; got min 1.*max 3"),
        ({"fetch": bad_fetch(label=lambda y: y + 1)}, "labels are between 0 and 2; got 3.*Use y - 1"),
        ({"attack": lambda b: linear_cell.attack(b) | {"after": b["label"][:2]}}, "leading axis of 4"),
    ],
)
def test_bad_parts_fail_with_a_message_and_leave_no_rows(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        run(tmp_path, **arguments)
    assert Ledger.open(ledger_path(tmp_path, "none", "step"), "f").rows == {}
