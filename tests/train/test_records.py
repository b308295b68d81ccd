"""Records of training: lines without duplicates after a kill, rates, a bar that starts where the run does."""

import io
import json
import time

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdiff.train.jsonl import append_jsonl, cut_jsonl, read_jsonl
from jaxdiff.train.records import jsonl, plain, progress
from jaxdiff.train.state import init_state

STATE = init_state(jnp.ones(1), optax.sgd(0.1))


def play(hook, steps, pause=0.0):
    for n in steps:
        time.sleep(pause)
        hook(n, STATE, {"loss": jnp.array(1.0 / n), "grad_norm": jnp.array(float(n))})
    getattr(hook, "close", lambda: None)()


def test_a_line_holds_the_metrics_of_its_step(tmp_path):
    path = tmp_path / "run" / "metrics.jsonl"
    play(jsonl(path, 32, every=4, last=10), range(1, 11), pause=0.01)
    rows = read_jsonl(path)
    assert [r["step"] for r in rows] == [4, 8, 10]
    assert [r["grad_norm"] for r in rows] == [4, 8, 10]
    np.testing.assert_allclose([r["loss"] for r in rows], [1 / 4, 1 / 8, 1 / 10], rtol=1e-6)
    assert sorted(rows[0]) == ["grad_norm", "images_per_second", "loss", "seconds", "step"]


def test_the_rate_is_images_over_seconds(tmp_path):
    play(jsonl(tmp_path / "m.jsonl", 32, every=5), range(1, 11), pause=0.02)
    for row in read_jsonl(tmp_path / "m.jsonl"):
        assert 32 / 0.06 < row["images_per_second"] < 32 / 0.02


def test_the_first_step_has_no_rate(tmp_path):
    play(jsonl(tmp_path / "m.jsonl", 32, every=1), [1, 2])
    first, second = read_jsonl(tmp_path / "m.jsonl")
    assert first["images_per_second"] is None and second["images_per_second"] > 0


def test_a_resumed_run_has_no_line_twice_and_its_clock_goes_on(tmp_path):
    path = tmp_path / "m.jsonl"
    play(
        jsonl(path, 32, every=2), range(1, 10), pause=0.01
    )  # killed after step 9, its checkpoint is of step 5
    with path.open("a") as file:
        file.write('{"step": 10, "lo')
    before = read_jsonl(path)
    play(jsonl(path, 32, every=2), range(6, 13))
    rows = read_jsonl(path)
    assert [r["step"] for r in rows] == [2, 4, 6, 8, 10, 12]
    assert rows[:2] == before[:2]
    seconds = [r["seconds"] for r in rows]
    assert seconds == sorted(seconds) and seconds[2] < before[2]["seconds"]
    assert [p.name for p in tmp_path.iterdir()] == ["m.jsonl"]


GOOD = [json.dumps({"step": n, "loss": 0.5, "seconds": float(n)}).encode() for n in (2, 4)]
TORN = {
    "torn in the middle": b'{"step": 3, "lo{"step": 4, "loss": 0.5}',
    "not UTF-8": b'{"step": 3, "loss": "\xff\xfe"}',
    "NUL bytes": bytes(40),
    "a list": b"[3]",
    "a number": b"3",
    "no step": b'{"loss": 0.5}',
    "step true": b'{"step": true}',
    "step in words": b'{"step": "three"}',
    "nested without end": b"[" * 100_000,
    "an empty line": b"",
}


@pytest.mark.parametrize("name", TORN)
def test_a_line_that_cannot_be_read_is_set_aside_and_decides_nothing(tmp_path, name):
    path, content = tmp_path / "m.jsonl", b"\n".join([GOOD[0], TORN[name], GOOD[1], b""])
    path.write_bytes(content)
    assert [r["step"] for r in read_jsonl(path)] == [2, 4]
    with pytest.warns(UserWarning, match="first is line 2.*m.jsonl.damaged"):
        play(jsonl(path, 32, every=1), [5, 6])
    assert [r["step"] for r in read_jsonl(path)] == [2, 4, 5, 6]
    assert read_jsonl(path)[2]["seconds"] >= 4
    assert (tmp_path / "m.jsonl.damaged").read_bytes() == content


def test_a_file_without_a_line_is_set_aside(tmp_path):
    (tmp_path / "m.jsonl").write_bytes(b"\xff\x00 no line at all")
    with pytest.warns(UserWarning, match="first is line 1"):
        play(jsonl(tmp_path / "m.jsonl", 32, every=1), [1])
    assert [r["step"] for r in read_jsonl(tmp_path / "m.jsonl")] == [1]


@pytest.mark.parametrize("seconds", ["1.0", "null", '"long"', "NaN", "-1", "true", "1e999"])
def test_a_clock_that_is_no_clock_starts_again(tmp_path, seconds):
    (tmp_path / "m.jsonl").write_text(f'{{"step": 1, "seconds": {seconds}}}\n{{"step": 2}}\n')
    play(jsonl(tmp_path / "m.jsonl", 32, every=1), [3])
    assert int(read_jsonl(tmp_path / "m.jsonl")[2]["seconds"]) == (seconds == "1.0")


def test_a_log_that_cannot_be_written_does_not_stop_training(tmp_path):
    hook = jsonl(tmp_path / "m.jsonl", 32, every=1)
    (tmp_path / "m.jsonl").mkdir()  # as good as a full disk
    with pytest.warns(UserWarning, match="Metrics are missing from") as told:
        play(hook, [1, 2, 3])
    assert len(told) == 1


def test_a_new_run_starts_an_empty_file(tmp_path):
    append_jsonl(tmp_path / "m.jsonl", {"step": 1, "seconds": 1.0})
    play(jsonl(tmp_path / "m.jsonl", 32, every=2), range(1, 3))
    assert [r["step"] for r in read_jsonl(tmp_path / "m.jsonl")] == [2]


def test_cutting_keeps_up_to_the_step(tmp_path):
    for step in (1, 2, 3):
        append_jsonl(tmp_path / "m.jsonl", {"step": step})
    assert cut_jsonl(tmp_path / "m.jsonl", 2) == [{"step": 1}, {"step": 2}]
    assert read_jsonl(tmp_path / "m.jsonl") == [{"step": 1}, {"step": 2}]
    assert cut_jsonl(tmp_path / "none.jsonl", 2) == []


def test_values_become_plain_json(tmp_path):
    metrics = {
        "a": jnp.array([1.0, jnp.inf]),
        "b": jnp.array(3),
        "c": np.float32(0.5),
        "d": jnp.nan,
        "e": True,
    }
    assert plain(metrics) == {"a": [1.0, None], "b": 3, "c": 0.5, "d": None, "e": True}
    json.dumps(plain(metrics), allow_nan=False)
    with pytest.raises(ValueError, match="not JSON compliant"):
        append_jsonl(tmp_path / "m.jsonl", {"x": float("nan")})
    assert not (tmp_path / "m.jsonl").exists()


def test_the_bar_shows_a_resumed_run_where_it_is():
    screen = io.StringIO()
    play(progress(100, 32, every=10, file=screen, ascii=True, mininterval=0, ncols=100), range(51, 101))
    frames = [f for f in screen.getvalue().split("\r") if "/100" in f]
    assert "51/100" in frames[0] and "100/100" in frames[-1]
    assert "loss=0.01" in frames[-1] and "images/s" in frames[-1]
    assert "60/100" in "".join(frames) and "<" in frames[2]  # elapsed<left
