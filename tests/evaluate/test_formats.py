"""Figures in every format: valid, the same bytes for the same numbers, no text cut, and the numbers beside them."""

import base64
import csv
import io
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from matplotlib.image import imread
from matplotlib.text import Text
from rows import slow_but

from jaxdiff.evaluate import (
    Attacked,
    accuracy_curve,
    attack_panel,
    canvas,
    flow_figure,
    image_grid,
    loss_curves,
    trajectory_strip,
)
from jaxdiff.evaluate.canvas import as_tiles

RNG = np.random.default_rng(0)
IMAGES, ADVERSARIAL = RNG.random((2, 2, 8, 8, 3), np.float32)
FLOWS = RNG.normal(0, 0.1, (2, 8, 8, 2))
LONG = (
    "Words that no sheet holds in a line, $\\ell_\\infty$ and Donaudampfschifffahrtsgesellschaftskapitänsmütze "
    * 2
)
NAMES = ["a cat", "a golden retriever that has a long name"]
RADII, STEPS = np.array([0.0, 1 / 3, 8 / 255]), np.arange(40)
ACCURACIES = {LONG: tuple(RNG.random((3, 3))), "b": tuple(RNG.random((3, 3)))}
LOSSES = {
    "denoising loss": {"score": (STEPS, RNG.random(40))},
    LONG: {LONG: (STEPS[:7], -RNG.random(7)), "c": (STEPS, RNG.random(40))},
}
NORMS = np.array([0.1, 1 / 3])
ATTACKED = {
    LONG: Attacked(ADVERSARIAL, [1, 1], confidences=[0.7, np.nan], norms=NORMS, norm=r"$\ell_\infty$"),
    "purified": Attacked(
        ADVERSARIAL, None, IMAGES, [0, -1], purified_confidences=[1, 0], norms=[None, 2.0],
        clean_predictions=[1, 0], clean_confidences=[0.25, 0.5],
    ),
}  # fmt: skip


def panel(path, **more):
    given = {"names": NAMES, "clean_predictions": [0, 0], "clean_confidences": [0.9, 1 / 3], "title": LONG}
    return attack_panel(IMAGES, ATTACKED, [0, 1], path, **(given | more))


FIGURES = {
    "curve": lambda path, **k: accuracy_curve(RADII, ACCURACIES, path, LONG, LONG, interval=LONG, **k),
    "losses": lambda path, **k: loss_curves(LOSSES, path, LONG, **k),
    "panel": panel,
    "flow": lambda path, **k: flow_figure(IMAGES, ADVERSARIAL, FLOWS, path, [LONG, "x"], LONG, 64, **k),
    "grid": lambda path, **k: image_grid(IMAGES, path, labels=["x", LONG], title=LONG, **k),
    "strip": lambda path, **k: trajectory_strip(IMAGES[None], [1.25, 0.125], path, LONG, size=8, **k),
}
NUMBERED = ("curve", "losses", "panel", "flow")
KINDS = ("png", "pdf", "svg")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Every figure in every format, (folder, {name: whether something does not lie on its sheet})."""
    folder, cut, saved = tmp_path_factory.mktemp("figures"), {}, canvas._saved

    def measured(figure, kind):
        whole, sheet = figure.get_tightbbox(figure.canvas.get_renderer()), figure.bbox_inches
        ends = np.array([whole.x0, whole.y0, sheet.x1 - whole.x1, sheet.y1 - whole.y1])
        cut[name] = (ends < -1e-3).any()
        return saved(figure, kind)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(canvas, "_saved", measured)
        for name, draw in FIGURES.items():
            assert draw(folder / f"{name}.png", formats=("pdf", "svg")) == folder / f"{name}.png"
    return folder, cut


@pytest.mark.parametrize("name", FIGURES)
def test_nothing_is_cut(drawn, name):
    assert not drawn[1][name]


@pytest.mark.parametrize("name", FIGURES)
def test_every_format_is_one(drawn, name):
    png, pdf, svg = ((drawn[0] / f"{name}.{kind}").read_bytes() for kind in KINDS)
    assert imread(io.BytesIO(png)).std() > 0
    assert pdf.startswith(b"%PDF-1.") and pdf.rstrip().endswith(b"%%EOF") and b"/CreationDate" not in pdf
    assert ET.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg" and b"<dc:date>" not in svg
    assert (drawn[0] / f"{name}.csv").exists() == (name in NUMBERED)


@pytest.mark.parametrize("name", slow_but(FIGURES, "curve"))
def test_the_same_numbers_are_the_same_bytes_and_the_suffix_says_the_format(drawn, tmp_path, name):
    for kind in KINDS:
        path = FIGURES[name](tmp_path / f"{name}.{kind.upper()}")
        assert path.read_bytes() == (drawn[0] / f"{name}.{kind}").read_bytes(), kind
    for path in tmp_path.glob("*.csv"):
        assert path.read_bytes() == (drawn[0] / path.name).read_bytes()


def test_a_vector_format_holds_pictures_pixel_for_pixel(drawn):
    svg = (drawn[0] / "grid.svg").read_text()
    found = [base64.b64decode(data) for data in re.findall(r"data:image/png;base64,([^\"]+)", svg)]
    pictures = [np.round(255 * imread(io.BytesIO(data))[..., :3]).astype(int) for data in found]
    tiles = as_tiles(IMAGES, 96)
    assert len(pictures) == 2
    for tile in tiles:
        assert any(p.shape == tile.shape and (p == tile).all() for p in pictures)


def numbers(drawn, name):
    with open(drawn[0] / f"{name}.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_numbers_of_a_curve_are_those_that_were_given(drawn):
    rows = numbers(drawn, "curve")
    assert list(rows[0]) == ["series", "x", "y", "low", "high"] and len(rows) == 6
    for name, values in ACCURACIES.items():
        own = [[float(row[c]) for c in ("x", "y", "low", "high")] for row in rows if row["series"] == name]
        np.testing.assert_array_equal(np.transpose(own), [RADII, *values])


def test_the_numbers_of_losses_are_those_that_were_given(drawn):
    rows = numbers(drawn, "losses")
    assert list(rows[0]) == ["kind", "series", "step", "value", "average"]
    for kind, series in LOSSES.items():
        for name, values in series.items():
            own = [row for row in rows if (row["kind"], row["series"]) == (kind, name)]
            told = [[float(row[c]) for c in ("step", "value")] for row in own]
            np.testing.assert_array_equal(np.transpose(told), values)
            assert np.mean([float(row["average"]) for row in own]) == pytest.approx(
                np.mean(values[1]), rel=0.2
            )


def test_every_kind_of_loss_has_an_axis_of_its_own(tmp_path, monkeypatch):
    axes, saved = [], canvas._saved
    monkeypatch.setattr(canvas, "_saved", lambda f, kind: axes.extend(f.axes) or saved(f, kind))
    loss_curves(
        {"large": {"a": ([1, 2], [1e3, 2e3])}, "small": {"b": ([1, 2], [-1e-3, 1e-3])}}, tmp_path / "l.png"
    )
    assert [a.get_ylabel() for a in axes] == ["large", "small"]
    assert [a.get_yscale() for a in axes] == ["log", "linear"]
    assert axes[0].get_ylim()[0] > 500 and axes[1].get_ylim()[1] < 0.01


def test_the_numbers_of_a_panel_are_those_that_were_given(drawn):
    rows = numbers(drawn, "panel")
    assert list(rows[0]) == ["row", "image", "label", "prediction", "confidence", "norm", "scale"]
    told = {
        (int(r["row"]), r["image"]): [r[c] for c in ("label", "prediction", "confidence", "norm")]
        for r in rows
    }
    assert len(told) == len(rows) == 2 * 7
    assert told[0, "clean"] == ["0", "0", "0.9", ""] and told[1, "clean"] == ["1", "0", repr(1 / 3), ""]
    assert told[0, f"{LONG}: adversarial"] == ["0", "1", "0.7", "0.1"]
    assert told[1, f"{LONG}: adversarial"] == ["1", "1", "nan", repr(1 / 3)]
    assert told[0, "purified: adversarial"] == ["0", "", "", "nan"]
    assert told[1, "purified: purified"] == ["1", "-1", "0", ""]
    assert told[0, "purified: clean"] == ["0", "1", "0.25", ""]
    scales = {float(r["scale"]) for r in rows if r["scale"]}
    assert scales == {float(np.abs((ADVERSARIAL - IMAGES).mean(-1)).max())}


def test_a_panel_says_prediction_confidence_and_norm(tmp_path, monkeypatch):
    told, saved = [], canvas._saved
    texts = lambda f: [t.get_text().replace("\n", " ").replace("\u00a0", " ") for t in f.findobj(Text)]
    monkeypatch.setattr(canvas, "_saved", lambda f, kind: told.extend(texts(f)) or saved(f, kind))
    panel(tmp_path / "p.png")
    for text in (
        "✓ a cat 90 %", "✗ a cat 33 %", r"$\ell_\infty$ 0.1", "norm nan", "norm 2", "✓ a cat 100 %", "✗ not finite 0 %",
        "clean: ✗ a golden retriever that has a long name 25 %", "✓ a golden retriever that has a long name",
    ):  # fmt: skip
        assert text in told, text
    told.clear()
    attack_panel(IMAGES, {"pgd": Attacked(ADVERSARIAL)}, [0, 1], tmp_path / "p.png")
    assert not [text for text in told if "✓" in text or "✗" in text or "norm" in text or "%" in text]


def test_the_numbers_of_flows_are_those_of_the_picture(drawn):
    rows = numbers(drawn, "flow")
    assert [row["label"] for row in rows] == [LONG, "x"]
    largest = np.abs((ADVERSARIAL - IMAGES).mean(-1)).max((1, 2))
    np.testing.assert_array_equal([float(row["difference"]) for row in rows], largest)
    longest = 4 * np.hypot(*np.moveaxis(FLOWS, -1, 0)).max((1, 2))
    np.testing.assert_allclose([float(row["movement"]) for row in rows], longest)
