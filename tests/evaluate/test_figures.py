import json
import logging
import os
from contextlib import contextmanager

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread
from sklearn.datasets import load_digits

from jaxdiff.evaluate import (
    Attacked,
    accuracy_curve,
    attack_panel,
    image_grid,
    loss_curves,
    read_metrics,
    trajectory_strip,
)
from jaxdiff.evaluate.canvas import PALETTE, RIGHT, WRONG, as_tiles, canvas, place
from jaxdiff.evaluate.differences import difference, signed_colours
from jaxdiff.evaluate.metrics import smooth


@pytest.fixture
def noise():
    """Twelve images of which no pixel repeats another by chance in all channels."""
    return np.random.default_rng(0).random((12, 8, 8, 3), np.float32)


def pixels(path):
    return np.round(255 * imread(path)[..., :3]).astype(np.uint8)


def find(png, tile):
    """(top, left) of every place where `tile` stands pixel for pixel."""
    height, width = tile.shape[:2]
    start = (png[: -height + 1, : -width + 1] == tile[0, 0]).all(-1)
    return [(y, x) for y, x in np.argwhere(start) if (png[y : y + height, x : x + width] == tile).all()]


def holds(png, colour):
    return (png == np.round(255 * np.array(to_rgb(colour))).astype(np.uint8)).all(-1).any()


def test_grid_shows_every_image_exactly_and_row_by_row(noise, tmp_path):
    labels = [str(i) for i in range(12)]
    png = pixels(image_grid(noise, tmp_path / "g.png", columns=5, labels=labels, title="Twelve"))
    places = [find(png, tile) for tile in as_tiles(noise, 96)]
    assert all(len(place) == 1 for place in places)
    tops, lefts = np.array(places)[:, 0].T
    assert len(set(tops)) == 3 and len(set(lefts)) == 5
    assert [tuple(p[0]) for p in places] == sorted(tuple(p[0]) for p in places)
    assert os.listdir(tmp_path) == ["g.png"]


def test_grid_of_digits_is_grey_and_defaults_to_a_square(tmp_path):
    images = (load_digits().images[:9] / 16).astype(np.float32)[..., None]
    png = pixels(image_grid(images, tmp_path / "g.png"))
    assert png.shape[0] == png.shape[1] and (np.ptp(png, axis=-1) == 0).all() and png.std() > 50
    assert all(len(find(png, tile)) == 1 for tile in as_tiles(images, 96))


def test_black_white_and_what_lies_outside(tmp_path):
    values = np.array([0.0, 1.0, -3.0, 7.0], np.float32)
    tiles = as_tiles(np.broadcast_to(values[:, None, None, None], (4, 4, 4, 1)), 1)
    assert [int(t.mean()) for t in tiles] == [0, 255, 0, 255]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_that_are_not_finite_are_magenta_and_counted(noise, caplog, value, channels):
    """Neither black nor white, which images have of their own; the pixels beside them stay as they are."""
    images = noise[:3, ..., :channels].copy()
    images[1, 2, 5, 0] = value
    images[2, 0, :4, 0] = value
    with caplog.at_level(logging.WARNING):
        tiles = as_tiles(images, 1)
    assert "5 pixels in 2 of 3 pictures are not finite" in caplog.text
    magenta = (tiles == [255, 0, 255]).all(-1)
    assert magenta.sum() == 5 and magenta[1, 2, 5] and magenta[2, 0, :4].all()
    sound = as_tiles(noise[:3, ..., :channels], 1)
    np.testing.assert_array_equal(tiles[~magenta], sound[~magenta])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_broken_attack_is_magenta_in_its_panel(noise, tmp_path, caplog, value):
    """In the picture and in its perturbation, and the scale is that of the other pixels."""
    clean, adversarial = noise[:1], noise[:1] + np.float32(0.1)
    adversarial[0, 3, 3] = value
    png = pixels(attack_panel(clean, {"pgd": Attacked(adversarial, [1])}, [0], tmp_path / "p.png"))
    assert ((png == [255, 0, 255]).all(-1)).sum() == 2 * 14**2  # a pixel is 14 x 14 of them, in two columns
    delta, bound = difference(clean, adversarial)
    assert bound == pytest.approx(0.1, rel=1e-5) and not np.isfinite(delta[0, 3, 3])
    assert caplog.text.count("1 pixels in 1 of 1") == 2


def test_curves_count_what_they_cannot_draw(tmp_path, monkeypatch):
    names = []
    monkeypatch.setattr("jaxdiff.evaluate.curves.canvas", _recording(names))
    gap = np.array([1.0, np.nan, np.inf, 0.5])
    loss_curves({"loss": {"eps": (np.arange(4), gap), "v": (np.arange(2), [1.0, 2.0])}}, tmp_path / "l.png")
    whole = np.ones(4)
    accuracy_curve(np.arange(4), {"pgd": (gap, whole, np.roll(gap, 1))}, tmp_path / "a.png")
    assert names == [
        ["eps (2 of 4 not finite)", "v"],
        ["pgd (3 of 4 not finite)", "95 % Clopper-Pearson interval"],
    ]


def _recording(names):
    """`canvas`, which appends the legends of its figures to `names`."""

    @contextmanager
    def recorded(*args, **kwargs):
        with canvas(*args, **kwargs) as figure:
            yield figure
            names.append([text.get_text() for text in figure.legends[0].get_texts()])

    return recorded


@pytest.mark.parametrize("size", [1, 5, 28, 32, 224])
def test_enlarging_repeats_whole_pixels(size):
    tiles = as_tiles(np.random.default_rng(1).random((2, size, size, 1), np.float32), 96)
    scale = tiles.shape[1] // size
    assert tiles.shape[1] >= 96 and (scale == 1 or size * (scale - 1) < 96)
    np.testing.assert_array_equal(tiles, tiles[:, ::scale, ::scale].repeat(scale, 1).repeat(scale, 2))


@pytest.mark.parametrize(("width", "height"), [(50, 40), (333, 101), (1046, 777), (29, 1501)])
def test_a_tile_lies_where_it_is_placed(noise, tmp_path, width, height):
    tile = as_tiles(noise[:1], 8)[0]
    with canvas(tmp_path / "c.png", width, height) as figure:
        place(figure, tile, 7, 11)
    png = pixels(tmp_path / "c.png")
    assert png.shape == (height, width, 3) and find(png, tile) == [(11, 7)]


def test_trajectory_runs_from_left_to_right(noise, tmp_path):
    png = pixels(
        trajectory_strip(noise.reshape(3, 4, 8, 8, 3), [1.0, 0.5, 0.25, 0.0], tmp_path / "t.png", "Denoising")
    )
    places = np.array([find(png, tile) for tile in as_tiles(noise, 96)]).reshape(3, 4, 2)
    assert (np.diff(places[..., 0], axis=0) > 0).all() and (np.diff(places[..., 0], axis=1) == 0).all()
    assert (np.diff(places[..., 1], axis=1) > 0).all() and (np.diff(places[..., 1], axis=0) == 0).all()
    above = png[places[0, 0, 0] - 22 : places[0, 0, 0] - 2]
    assert all((above[:, x : x + 96] < 128).any() for x in places[0, :, 1])  # a time above every column


def test_panel_shows_images_and_signs(noise, tmp_path):
    clean, adversarial, purified = noise[:2], noise[2:4], noise[4:6]
    attacked = {
        "pgd": Attacked(adversarial, [1, 1]),
        "purified": Attacked(adversarial, [0, 0], purified, [0, 1]),
    }
    png = pixels(attack_panel(clean, attacked, [0, 1], tmp_path / "p.png", ["cat", "dog"], [0, 1], "Two"))
    for images, count in ((clean, 1), (adversarial, 2), (purified, 1)):
        places = [find(png, tile) for tile in as_tiles(images, 112)]
        assert [len(place) for place in places] == [count, count]
        assert places[0][0][0] < places[1][0][0] and places[0][0][1] == places[1][0][1]
    delta = (adversarial - clean).mean(-1)
    colours = as_tiles(signed_colours(delta, float(np.abs(delta).max())) / np.float32(255), 112)
    assert [len(find(png, tile)) for tile in colours] == [2, 2]


def test_signed_colours():
    red, white, blue = signed_colours(np.array([[[0.1, 0.0, -0.1]]]), 0.1)[0, 0].astype(int)
    assert red[0] > red[2] + 50 and blue[2] > blue[0] + 50
    assert white.min() > 240
    assert (signed_colours(np.zeros((1, 2, 2)), 0.0) == white).all()


@pytest.mark.parametrize(
    ("predictions", "colours"), [([0, 1], {RIGHT}), ([1, 0], {WRONG}), ([0, -1], {RIGHT, WRONG})]
)
def test_predictions_are_green_when_right_and_red_when_wrong(tmp_path, predictions, colours):
    grey = np.full((2, 8, 8, 1), 0.5, np.float32)
    png = pixels(attack_panel(grey, {"a": Attacked(grey, predictions)}, [0, 1], tmp_path / "p.png"))
    assert {c for c in (RIGHT, WRONG) if holds(png, c)} == colours


def test_accuracy_curve_draws_every_series_and_its_band(tmp_path):
    radii, acc = np.arange(5), np.linspace(0.9, 0.3, 5)
    narrow = pixels(
        accuracy_curve(radii, {"a": (acc, acc, acc), "b": (acc / 2, acc / 2, acc / 2)}, tmp_path / "n.png")
    )
    wide = pixels(
        accuracy_curve(
            radii, {"a": (acc, acc - 0.1, acc + 0.1), "b": (acc / 2, acc / 2, acc / 2)}, tmp_path / "w.png"
        )
    )
    assert holds(narrow, PALETTE[0]) and holds(narrow, PALETTE[1]) and not holds(narrow, PALETTE[2])
    tinted = [
        ((png[..., 2] > png[..., 0].astype(int) + 20) & (png[..., 0] > 180)).sum() for png in (narrow, wide)
    ]
    assert tinted[1] > tinted[0] + 20_000


def test_loss_curves_draw_gaps_and_negative_losses(tmp_path):
    steps = np.arange(200)
    losses = np.exp(-steps / 50)
    losses[50:60] = np.nan
    series = {"eps": (steps, losses), "v": (steps, 2 * losses)}
    png = pixels(loss_curves({"loss": series}, tmp_path / "l.png"))
    assert holds(png, PALETTE[0]) and holds(png, PALETTE[1])
    assert holds(pixels(loss_curves({"elbo": {"elbo": (steps, -losses)}}, tmp_path / "m.png")), PALETTE[0])
    loss_curves({"loss": {"none yet": ([], []), "all lost": ([1, 2], [np.nan, np.nan])}}, tmp_path / "e.png")


def test_smoothing_is_an_average_that_keeps_lines_and_bridges_gaps():
    rng = np.random.default_rng(2)
    line = 3 - 0.1 * np.arange(100)
    np.testing.assert_allclose(smooth(np.full(100, 2.5), 5.0), 2.5)
    np.testing.assert_allclose(smooth(line, 3.0)[12:-12], line[12:-12], atol=1e-12)
    gap = np.full(100, 2.5)
    gap[40:50] = np.inf
    np.testing.assert_allclose(smooth(gap, 5.0), 2.5)
    # Gaussian weights of width w average 2 w sqrt(pi) independent values.
    assert smooth(rng.normal(size=20_000), 10.0).var() == pytest.approx(1 / (20 * np.sqrt(np.pi)), rel=0.2)
    assert smooth(np.array([1.0])) == [1.0] and smooth(np.array([])).size == 0


def test_metrics_survive_a_torn_line_and_a_resumed_run(tmp_path, caplog):
    rows = [{"step": s, "loss": s / 10, "note": "x", "ok": True} for s in (10, 20, 30)]
    rows += [{"step": 20, "loss": 7.0, "lr": 1}]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "m.jsonl").write_text(text + '{"step": 40, "lo')
    with caplog.at_level(logging.WARNING):
        metrics = read_metrics(tmp_path / "m.jsonl")
    assert set(metrics) == {"loss", "lr"} and "line 5 skipped" in caplog.text
    assert metrics["loss"][0].tolist() == [10, 20, 30] and metrics["loss"][1].tolist() == [1.0, 7.0, 3.0]
    (tmp_path / "m.jsonl").write_text("nothing\n")
    with pytest.raises(ValueError, match="holds no line"):
        read_metrics(tmp_path / "m.jsonl")


def test_an_error_while_drawing_leaves_no_file(tmp_path):
    with pytest.raises(RuntimeError), canvas(tmp_path / "x.png", 50, 50):
        raise RuntimeError
    assert os.listdir(tmp_path) == []


def test_global_matplotlib_settings_stay(noise, tmp_path):
    from matplotlib import rcParams

    def settings():
        return {name: rcParams[name] for name in rcParams if name != "backend"}  # resolved when first read

    before = settings()
    image_grid(noise, tmp_path / "g.png")
    assert settings() == before


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda x, p: image_grid(x, p, labels=[1]), "12 labels"),
        (lambda x, p: image_grid(x[..., :2], p), "1 or 3"),
        (lambda x, p: image_grid(x[:0], p), "got shape"),
        (lambda x, p: trajectory_strip(x[None], [1.0], p), "12 times"),
        (lambda x, p: attack_panel(x, {"a": Attacked(x[:3])}, [0] * 12, p), "do not match"),
        (lambda x, p: attack_panel(x, {"a": Attacked(x, [1])}, [0] * 12, p), "12 predictions"),
        (lambda x, p: attack_panel(x, {}, [0], p), "12 labels"),
        (lambda x, p: accuracy_curve([0, 1], {"a": ([1.0], [1.0], [1.0])}, p), "2 radii"),
    ],
)
def test_wrong_shapes_fail_with_a_message(noise, tmp_path, draw, message):
    with pytest.raises(ValueError, match=message):
        draw(noise, tmp_path / "x.png")
