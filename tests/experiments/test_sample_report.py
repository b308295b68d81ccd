"""Samples that are not finite are counted and seen, not drawn as if they were black."""

from types import SimpleNamespace

import numpy as np
import pytest
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
