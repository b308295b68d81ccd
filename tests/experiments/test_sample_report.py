"""Reports of samples and runs: what is not finite is counted and seen, what is damaged is left out."""

from types import SimpleNamespace

import numpy as np
import pytest
import report
import sample
from matplotlib.image import imread
from ml_collections import ConfigDict


@pytest.mark.parametrize("broken", [0, 2])
def test_samples_that_are_not_finite_are_reported(tmp_path, monkeypatch, capsys, broken):
    images = np.full((5, 8, 8, 1), 0.5, np.float32)
    images[:broken, 3, 4] = np.nan
    monkeypatch.setattr(sample, "N", SimpleNamespace(value=5))
    monkeypatch.setattr(sample, "load_score", lambda config, workdir: (None, None, (8, 8, 1)))
    monkeypatch.setattr(sample, "draw", lambda config, score, params, shape, n: images[:n])
    monkeypatch.setattr(sample, "draw_trajectory", lambda *args: args[-1])
    sample.main(ConfigDict({"score": {}}), tmp_path)
    told = capsys.readouterr().out
    assert ("2 of 5 samples are not finite" in told) == bool(broken)
    png = np.round(255 * imread(tmp_path / "samples" / "samples.png")[..., :3])
    assert ((png == [255, 0, 255]).all(-1)).any() == bool(broken)


GOOD = '{"step": 10, "loss": 0.5, "seconds": 3.5}\n'


@pytest.mark.parametrize(
    ("log", "seconds"),
    [(GOOD, 3.5), ("", None), (GOOD + '{"ste', 3.5), ('{"step": 10}\n', None), ("no\n", None)],
)
def test_a_damaged_log_does_not_end_a_report(tmp_path, log, seconds):
    """Training that is finished is not touched again, so nothing has mended it."""
    (tmp_path / "score").mkdir()
    (tmp_path / "score" / "metrics.jsonl").write_text(log)
    assert report.stage_seconds(tmp_path, []) == ({} if seconds is None else {"training: score": seconds})
