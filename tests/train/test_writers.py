"""Metrics for other tools: numbers alone, under the run that was killed, and a word where a tool is not installed."""

from types import SimpleNamespace

import pytest
from train.test_records import play

from jaxdiff.train.writers import TensorBoard, tensorboard, wandb


def test_tensorboard_drops_what_a_killed_run_left_and_gets_numbers(tmp_path):
    calls = []

    class Writer:
        def __init__(self, directory, purge_step):
            calls.append((directory, purge_step))

        def add_scalar(self, name, value, step):
            calls.append((name, value, step))

        def close(self):
            calls.append("closed")

    hook = TensorBoard(Writer, tmp_path / "runs", 32, 2, None)
    play(hook, [5, 6])
    assert calls[0] == (str(tmp_path / "runs"), 5) and calls[-1] == "closed"
    assert ("grad_norm", 6.0, 6) in calls and {c[2] for c in calls[1:-1]} == {6}


def test_a_bucket_is_the_writers_to_know(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: True)
    monkeypatch.setattr("importlib.import_module", lambda name: SimpleNamespace(SummaryWriter=None))
    assert tensorboard("gs://bucket/run", 2)._directory == "gs://bucket/run"
    assert tensorboard("here", 2)._directory == str(tmp_path / "here")
    assert not list(tmp_path.iterdir())


def test_a_tool_that_is_not_installed_gets_no_hook_and_that_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for make, tool, package in (
        (tensorboard, "TensorBoard", "tensorboardX"),
        (wandb, "Weights & Biases", "wandb"),
    ):
        with pytest.warns(UserWarning, match=rf"{tool} gets no metrics.*pip install {package}"):
            assert make(tmp_path, 32) is None


def test_a_run_goes_on_under_its_own_name(tmp_path, monkeypatch):
    """Of Weights & Biases; only numbers are sent, and the run is ended."""
    begun, sent = [], []

    def init(**settings):
        begun.append(settings)
        log = lambda row, step: sent.append((step, row))
        return SimpleNamespace(id="abc", log=log, finish=lambda: sent.append("finished"))

    monkeypatch.setattr("importlib.util.find_spec", lambda name: True)
    monkeypatch.setattr("importlib.import_module", lambda name: SimpleNamespace(init=init))
    for steps in ([1, 2], [3, 4]):
        play(wandb(tmp_path / "w", 32, 2), steps)
    assert [settings["id"] for settings in begun] == [None, "abc"]
    assert {settings["resume"] for settings in begun} == {"allow"}
    (step, row), ended = sent[:2]
    assert step == 2 and row["loss"] == 0.5 and all(isinstance(v, int | float) for v in row.values())
    assert ended == "finished" and sent[2][0] == 4
