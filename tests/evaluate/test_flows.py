"""Arrows of a flow point where content went, on the image and in its pixels."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import imread

from jaxdiff.evaluate.canvas import as_tiles
from jaxdiff.evaluate.flows import ARROW, arrows, flow_figure
from jaxdiff.evaluate.flows import _draw as draw
from jaxdiff.evaluate.flows import _lengths as lengths


def _looks(rows, columns, right, down):
    """A flow of a rows x columns image that looks so many pixels to the right and down, everywhere."""
    return np.broadcast_to(np.array([2 * right / columns, 2 * down / rows]), (rows, columns, 2)).copy()


def test_content_moves_against_the_flow_in_pixels():
    """Who looks 1.5 pixels to the right and 0.5 up sees content that came 1.5 to the left and 0.5 down."""
    field = arrows(_looks(6, 10, 1.5, -0.5), most=10)
    assert field.factor == 1.0 and len(field.rows) == 60
    np.testing.assert_allclose(field.right, -1.5)
    np.testing.assert_allclose(field.down, 0.5)
    assert set(zip(field.rows, field.columns, strict=True)) == {(i, j) for i in range(6) for j in range(10)}


def test_every_arrow_stands_where_its_flow_is():
    flow = np.random.default_rng(0).normal(size=(33, 20, 2))
    field = arrows(flow, most=8)
    assert len(field.rows) <= 8 * 8 and field.rows.max() < 33 and field.columns.max() < 20
    np.testing.assert_allclose(field.right, -field.factor * 10 * flow[field.rows, field.columns, 0])
    np.testing.assert_allclose(field.down, -field.factor * 16.5 * flow[field.rows, field.columns, 1])


@pytest.mark.parametrize("length", [0.004, 0.1, 0.8, 3.0, 20.0])
def test_short_arrows_are_magnified_to_about_their_distance(length):
    """By a power of two: never shrunk, and never longer than one and a half distances if they are magnified."""
    field = arrows(_looks(32, 32, length, 0.0), most=16)
    assert np.log2(field.factor) % 1 == 0 and field.factor >= 1
    drawn = np.abs(field.right)
    assert np.allclose(drawn, length * field.factor)
    assert field.factor == 1 or 1.5 < drawn[0] <= 3.0


def test_no_movement_has_no_arrows_and_nan_is_none():
    assert len(arrows(np.zeros((8, 8, 2))).rows) == 0
    one = np.zeros((8, 8, 2))
    one[2, 3] = np.nan
    one[4, 1] = np.inf
    one[5, 6, 0] = 0.5
    assert [arrows(one).rows.tolist(), arrows(one).columns.tolist()] == [[5], [6]]
    assert lengths(one, arrows(one)) == "up to 2 px, 2 not finite"


def test_quiver_keeps_lengths_and_directions():
    """In data units, tips at the pixels that look, on axes whose rows run downwards."""
    field = arrows(_looks(6, 6, -2.0, 1.0))
    quiver = draw(Figure().add_subplot(), field)
    np.testing.assert_array_equal(quiver.U, field.right)
    np.testing.assert_array_equal(quiver.V, field.down)
    assert (quiver.angles, quiver.scale_units, quiver.scale, quiver.pivot) == ("xy", "xy", 1, "tip")
    np.testing.assert_array_equal([quiver.X, quiver.Y], [field.columns, field.rows])


@pytest.mark.parametrize("channels", [1, 3])
def test_figure_shows_the_images_and_an_arrow_that_ends_at_its_pixel(tmp_path, channels):
    """One pixel looks 5 to the right and 3 below: the arrow comes from there."""
    rng = np.random.default_rng(1)
    images, attacked = rng.random((2, 2, 16, 16, channels), np.float32)
    flows = np.zeros((2, 16, 16, 2), np.float32)
    flows[0, 4, 8] = 2 * 5 / 16, 2 * 3 / 16
    path = flow_figure(images, attacked, flows, tmp_path / "f.png", ["one", "two"], title="Two", size=64)
    png = np.round(255 * imread(path)[..., :3]).astype(int)
    tiles = {name: as_tiles(x, 64).astype(int) for name, x in (("images", images), ("attacked", attacked))}
    tops = {}
    for name, two in tiles.items():
        found = [_find(png, tile) for tile in two]
        assert found[0][1] == found[1][1] and found[0][0] < found[1][0]
        tops[name] = found
    assert tops["images"][0][1] + 64 < tops["attacked"][0][1]

    arrow = np.argwhere((np.abs(png - 255 * np.array(to_rgb(ARROW))) < 3).all(-1))
    top = tops["images"][0][0]
    left = tops["images"][0][1] + 3 * (tops["attacked"][0][1] - tops["images"][0][1])
    rows, columns = ((arrow - [top, left]) / 4 - 0.5).T
    assert rows.min() == pytest.approx(4, abs=0.8) and columns.min() == pytest.approx(8, abs=0.8)
    assert rows.max() == pytest.approx(7, abs=0.8) and columns.max() == pytest.approx(13, abs=0.8)
    assert np.corrcoef(rows, columns)[0, 1] > 0.8


def test_a_broken_example_is_magenta_in_image_and_difference(tmp_path):
    rng = np.random.default_rng(1)
    images = rng.random((2, 8, 8, 3), np.float32)
    attacked = images.copy()
    attacked[1, 2, 2] = np.nan
    path = flow_figure(images, attacked, np.zeros((2, 8, 8, 2)), tmp_path / "f.png", size=64)
    png = np.round(255 * imread(path)[..., :3]).astype(int)
    assert (png == [255, 0, 255]).all(-1).sum() == 2 * 8 * 8


def _find(png, tile):
    height, width = tile.shape[:2]
    starts = np.argwhere((png[: -height + 1, : -width + 1] == tile[0, 0]).all(-1))
    places = [(y, x) for y, x in starts if (png[y : y + height, x : x + width] == tile).all()]
    assert len(places) == 1
    return places[0]


@pytest.mark.parametrize(
    ("attacked", "flows", "labels", "message"),
    [
        ((2, 8, 8, 3), (2, 8, 8, 2), ["a", "b"], "need attacked images"),
        ((2, 8, 8, 1), (2, 8, 7, 2), ["a", "b"], "need attacked images"),
        ((2, 8, 8, 1), (2, 8, 8, 2), ["a"], "2 labels"),
    ],
)
def test_wrong_shapes_fail_with_a_message(tmp_path, attacked, flows, labels, message):
    with pytest.raises(ValueError, match=message):
        flow_figure(np.zeros((2, 8, 8, 1)), np.zeros(attacked), np.zeros(flows), tmp_path / "x.png", labels)
