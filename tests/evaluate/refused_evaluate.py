"""Bad input of `jaxdiff.evaluate`, and the words that refuse it."""

import tempfile
from pathlib import Path

import linear_cell
import numpy as np

from jaxdiff import evaluate
from jaxdiff.evaluate import accuracy, atomic

FOLDER = Path(tempfile.mkdtemp())
RECORD = {
    "defense": "none",
    "attack": "pgd",
    "accuracy": 0.5,
    "low": 0.4,
    "high": 0.6,
    "n": 8,
    "seconds": 1.0,
}
ROW = {
    "id": 0, "label": 1, "before": 1, "after": 1, "correct_before": True, "correct_after": True, "finite": True, "norm": 0.1,
    "linf": 0.1, "loss": 0.5, "seconds": 0.1,
}  # fmt: skip
REPORT = {"config": {}, "seed": 0, "date": "2026-01-31", "versions": {}}


def ledger():
    return evaluate.Ledger.open(FOLDER / f"{np.random.default_rng().integers(1 << 60)}.jsonl", "mine")


def cell(**more):
    given = {
        "ledger": ledger(), "ids": [0, 1], "fetch": linear_cell.fetch, "attack": linear_cell.attack, "batch_size": 2
    } | more  # fmt: skip
    return evaluate.run_cell(**given)


def images(function):
    return lambda: cell(
        fetch=lambda ids: linear_cell.fetch(ids) | {"image": function(linear_cell.IMAGES[ids])}
    )


def labels(function):
    return lambda: cell(
        fetch=lambda ids: linear_cell.fetch(ids) | {"label": function(linear_cell.LABELS[ids])}
    )


def outcome(**changes):
    image, logits, number = np.zeros((4, 4, 1)), np.zeros(3), np.float32(0)
    given = {"x": image, "x_adv": image, "before": logits, "after": logits, "loss": number, "norm": number}
    return lambda: evaluate.outcome(**(given | changes))


def records(**changes):
    return lambda: evaluate.markdown_table([RECORD | changes])


def write(**changes):
    return lambda: evaluate.write_results(FOLDER / "r.json", [RECORD | changes])


def curve(**changes):
    given = {"radii": [0.0, 0.1], "series": {"pgd": ([0.5, 0.4],) * 3}, "path": FOLDER / "x.png"}
    return lambda: evaluate.accuracy_curve(**(given | changes))


def losses(kinds):
    return lambda: evaluate.loss_curves(kinds, FOLDER / "x.png")


def panel(**changes):
    image = np.zeros((1, 4, 4, 1), np.float32)
    attacked = {"pgd": evaluate.Attacked(image, **changes)}
    return lambda: evaluate.attack_panel(image, attacked, [0], FOLDER / "x.png", ["cat", "dog"])


def report(**changes):
    return lambda: evaluate.write_report(FOLDER / "r.md", "A run", **(REPORT | changes))


def rows(**changes):
    return lambda: evaluate.summarise([ROW | changes])


def without(name):
    return {k: v for k, v in ROW.items() if k != name}


ROWS = {
    # Cells.
    "no ledger": (lambda: cell(ledger=FOLDER / "x"), "ledger as a Ledger", "Ledger.open"),
    "no fetch": (lambda: cell(fetch=None), "fetch as a function"),
    "a name for an attack": (lambda: cell(attack="pgd"), "attack as a function", "'pgd'"),
    "a batch of none": (lambda: cell(batch_size=0), "batch_size as a whole number >= 1", "got 0"),
    "a batch of half": (lambda: cell(batch_size=2.5), "batch_size as a whole number", "2.5"),
    "a batch of True": (lambda: cell(batch_size=True), "batch_size as a whole number", "True"),
    "a batch of words": (lambda: cell(batch_size="8"), "batch_size as a whole number", "'8'"),
    "pictures below none": (lambda: cell(keep=-1), "keep as a whole number >= 0"),
    "pictures of None": (lambda: cell(keep=None), "keep as a whole number"),
    "ids twice": (lambda: cell(ids=[1, 1]), "unique"),
    "ids with fractions": (lambda: cell(ids=[0.5, 1.0]), "ids are whole numbers"),
    "ids as words": (lambda: cell(ids=["0"]), "ids are whole numbers"),
    "one id": (lambda: cell(ids=3), "ids are whole numbers"),
    "ids in rows": (lambda: cell(ids=np.zeros((2, 2), int)), "ids are whole numbers"),
    "images in [-1, 1]": (images(lambda x: 2 * x - 1), "images lie in [0, 1]; got min -1", "(images + 1) / 2"),
    "images in 0..255": (images(lambda x: 255 * x), "images lie in [0, 1]", "max 251", "divide by 255"),
    "bytes": (images(lambda x: (255 * x).astype(np.uint8)), "float32 in [0, 1]", "uint8"),
    "float64": (images(lambda x: x.astype(np.float64)), "float32 in [0, 1]", "float64"),
    "NaN in images": (images(lambda x: x * np.nan), "images lie in [0, 1]; got min nan", "finite"),
    "infinity in images": (images(lambda x: x + np.inf), "images lie in [0, 1]", "finite"),
    "one image for two": (images(lambda x: x[0]), "one image and label for each id"),
    "labels from 1": (labels(lambda y: y + 1), "labels are between 0 and 2", "got 3"),
    "labels of -1": (labels(lambda y: 0 * y - 1), "labels are at least 0", "got -1"),
    "labels of 255": (labels(lambda y: 0 * y + 255), "labels are between 0 and 2", "got 255"),
    "labels with fractions": (labels(lambda y: y * 1.0), "labels are integers; got float32", "astype('int32')"),
    "labels as words": (labels(lambda y: y.astype(str)), "labels are arrays of numbers"),
    "one-hot labels": (labels(lambda y: np.eye(3, dtype=int)[y]), "shape (2,); got (2, 3)", "argmax"),
    "labels in a column": (labels(lambda y: y[:, None]), "shape (2,)", "y[:, 0]"),
    "one label": (labels(lambda y: y[0]), "shape (2,); got ()"),
    "a batch without labels": (lambda: cell(fetch=lambda ids: {"image": linear_cell.IMAGES[ids], "id": ids}), "['label']"),
    "ids of others": (lambda: cell(fetch=lambda ids: linear_cell.fetch(ids) | {"id": ids + 1}), "in order"),
    "an attack of nothing": (lambda: cell(attack=lambda batch: {}), "returns", "['adversarial', 'before'", "are missing"),
    "an output too short": (
        lambda: cell(attack=lambda b: linear_cell.attack(b) | {"loss": b["label"][:1]}), "leading axis of 2"
    ),
    "a class for logits": (outcome(before=np.int32(1)), "logits [classes] of one image", "()"),
    "logits of a batch": (outcome(before=np.zeros((2, 3)), after=np.zeros((2, 3))), "jax.vmap"),
    "logits of other classes": (outcome(after=np.zeros(4)), "(3,) and (4,)"),
    "logits of no class": (outcome(before=np.zeros(0), after=np.zeros(0)), "logits [classes]"),
    "an attacked image of another shape": (outcome(x_adv=np.zeros((2, 2, 1))), "the shape of the image", "(2, 2, 1)"),
    # Ledgers.
    "a ledger that is a folder": (lambda: evaluate.Ledger.open(FOLDER, "mine"), "is a folder"),
    "a ledger nowhere": (lambda: evaluate.Ledger.open(None, "mine"), "a path and a fingerprint", "None"),
    "a fingerprint of bytes": (lambda: evaluate.Ledger.open(FOLDER / "l", b"mine"), "a path and a fingerprint"),
    "a row without a field": (lambda: ledger().append([without("norm")]), "['norm'] are missing"),
    "a row twice": (lambda: ledger().append([ROW, ROW]), "one row per example"),
    "a row of a list": (lambda: ledger().append([[1]]), "row as a Mapping"),
    "an id of a word": (lambda: ledger().append([ROW | {"id": "0"}]), "id as a whole number"),
    "an id with a fraction": (lambda: ledger().append([ROW | {"id": 0.5}]), "id as a whole number"),
    "an array in a row": (lambda: ledger().append([ROW | {"loss": np.zeros(2)}]), "numbers, words and yes or no", "loss"),
    "a dash in a name": (lambda: evaluate.ledger_path(FOLDER, "a--b", "pgd"), "single dashes", "'a--b'"),
    "a folder in a name": (lambda: evaluate.ledger_path(FOLDER, "none", "../pgd"), "single dashes"),
    "a number for a name": (lambda: evaluate.ledger_path(FOLDER, "none", 3), "single dashes", "3"),
    "a ledger that is none": (lambda: evaluate.machine_notes({"a": __file__}), "not a readable ledger"),
    # Proportions.
    "more right than there are": (lambda: evaluate.clopper_pearson(3, 2), "successes <= n", "3 successes of 2"),
    "right below none": (lambda: evaluate.clopper_pearson(-1, 2), "successes as a number in [0, inf)"),
    "of none": (lambda: evaluate.clopper_pearson(0, 0), "n >= 1"),
    "of half": (lambda: evaluate.clopper_pearson(0, 0.5), "n as a whole number", "0.5"),
    "of True": (lambda: evaluate.clopper_pearson(0, True), "n as a whole number"),
    "NaN right": (lambda: evaluate.clopper_pearson(float("nan"), 2), "successes as a number", "nan"),
    "right as a word": (lambda: evaluate.clopper_pearson("1", 2), "successes as a number", "'1'"),
    "a confidence in per cent": (lambda: evaluate.clopper_pearson(1, 2, 95), "confidence as a number in (0, 1)", "95"),
    "a confidence of 1": (lambda: evaluate.clopper_pearson(1, 2, 1.0), "confidence as a number in (0, 1)"),
    "a confidence of NaN": (lambda: evaluate.clopper_pearson(1, 2, float("nan")), "confidence"),
    "a confidence of None": (lambda: evaluate.proportion([True], None), "confidence", "None"),
    "outcomes of none": (lambda: evaluate.proportion([]), "0 successes of 0"),
    "outcomes in per cent": (lambda: evaluate.proportion([71.0, 0.0]), "a share in [0, 1]", "71"),
    "outcomes that cancel": (lambda: evaluate.proportion([2, -1]), "a share in [0, 1]", "-1"),
    "an outcome below none": (lambda: evaluate.proportion([-0.5, 1.0]), "a share in [0, 1]", "-0.5"),
    "NaN among outcomes": (lambda: evaluate.proportion([1.0, float("nan")]), "a share in [0, 1]", "nan"),
    "words as outcomes": (lambda: evaluate.proportion(["yes"]), "yes or no, or of shares"),
    "None among outcomes": (lambda: evaluate.proportion([True, None]), "yes or no, or of shares"),
    "outcomes in rows": (lambda: evaluate.proportion(np.ones((2, 2))), "[2, 2]"),
    "one outcome": (lambda: accuracy.proportion(True), "a sequence"),
    # Summaries.
    "a summary of nothing": (lambda: evaluate.summarise([]), "at least one image"),
    "a summary of what is invalid": (rows(valid=False), "1 of them invalid"),
    "a summary of a row without a field": (lambda: evaluate.summarise([without("finite")]), "with the fields"),
    "a summary of numbers": (lambda: evaluate.summarise([1.0]), "with the fields"),
    "a summary with a share of 2": (rows(share=2.0, verdict=1.0), "a share in [0, 1]"),
    "a worst case of nothing": (lambda: evaluate.worst_case([]), "same ids"),
    "a worst case over other images": (lambda: evaluate.worst_case([[ROW], [ROW | {"id": 1}]]), "same ids"),
    "a worst case of numbers": (lambda: evaluate.worst_case([[1.0]]), "with the fields"),
    # Records and tables.
    "a table of nothing": (lambda: evaluate.markdown_table([]), "at least one record"),
    "a table of one record": (lambda: evaluate.terminal_table(RECORD), "a list of mappings"),
    "a table of numbers": (lambda: evaluate.terminal_table([0.5]), "entry as a Mapping"),
    "a table of words": (lambda: evaluate.terminal_table("none"), "a list of mappings"),
    "an accuracy in per cent": (records(accuracy=50.0), "none under pgd", "accuracy as a number in [0, 1]"),
    "an accuracy of NaN": (records(accuracy=float("nan")), "accuracy as a number"),
    "an accuracy of None": (records(accuracy=None), "accuracy as a number", "None"),
    "an accuracy beside its interval": (records(low=0.55), "low <= accuracy <= high"),
    "an n of 0": (records(n=0), "n as a whole number >= 1"),
    "an n with a fraction": (records(n=8.0), "n as a whole number"),
    "time below none": (write(seconds=-1.0), "seconds as a number in [0, inf)"),
    "time of a word": (write(seconds="1"), "seconds as a number"),
    "a record without a field": (lambda: evaluate.write_results(FOLDER / "r", [{"defense": "none"}]), "are missing"),
    "a cell twice": (lambda: evaluate.write_results(FOLDER / "r", [RECORD, RECORD]), "one record"),
    "a reference in per cent": (
        lambda: evaluate.markdown_table([RECORD], {"none": {"pgd": 70.6}}), "pgd as a number in [0, 1]", "70.6"
    ),
    "results that are none": (lambda: evaluate.read_results(__file__), "holds no results"),
    "a table in LaTeX of nothing": (lambda: evaluate.latex_table([]), "at least one record"),
    "a table in CSV of nothing": (lambda: evaluate.csv_table([]), "at least one record"),
    "a table in CSV of numbers": (lambda: evaluate.csv_table([0.5]), "entry as a Mapping"),
    # Figures.
    "a figure as JPEG": (curve(path=FOLDER / "x.jpg"), ".png, .pdf or .svg", "'x.jpg'"),
    "a figure of no kind": (curve(path=FOLDER / "x"), ".png, .pdf or .svg", "'x'"),
    "a figure in Word": (curve(formats=("docx",)), ".png, .pdf or .svg", "docx"),
    "one format": (curve(formats="pdf"), "a sequence", "'pdf'"),
    "a curve of nothing": (curve(series={}), "at least one series"),
    "a curve in per cent": (curve(series={"pgd": ([93.0, 9.0],) * 3}), "pgd", "fractions in [0, 1]", "93"),
    "a curve without a band": (curve(series={"pgd": ([0.5, 0.4],)}), "accuracy, low and high"),
    "a curve of other radii": (curve(series={"pgd": ([0.5],) * 3}), "2 radii"),
    "losses of no kind": (losses({"eps": ([1], [2.0])}), "eps as a Mapping", "denoising loss"),
    "losses of nothing": (losses({}), "at least one series"),
    "a kind of loss of nothing": (losses({"denoising loss": {}}), "at least one series of every kind"),
    "losses without steps": (losses({"loss": {"eps": ([1, 2], [2.0])}}), "eps", "its step", "(2,)"),
    "confidences of nothing": (panel(confidences=[0.5]), "confidences are those of predictions"),
    "confidences in per cent": (panel(predictions=[1], confidences=[98.0]), "fractions in [0, 1]", "98"),
    "confidences below none": (panel(predictions=[1], confidences=[-0.1]), "fractions in [0, 1]", "-0.1"),
    "a prediction without a name": (panel(predictions=[2]), "below 2, the number of names", "got 2"),
    "a norm for two": (panel(norms=[0.1, 0.2]), "1 examples need 1 norms", "got 2"),
    "two clean predictions for one": (panel(clean_predictions=[0, 1]), "1 clean_predictions"),
    # Reports, files, fingerprints.
    "a seed of a word": (report(seed="0"), "seed as a whole number"),
    "a stage below no time": (report(stages={"train": -1.0}), "train as a number in [0, inf)"),
    "a stage of NaN": (report(stages={"train": float("nan")}), "train as a number"),
    "a figure that is not there": (report(figures={"x": FOLDER / "missing.png"}), "missing.png"),
    "a config of functions": (report(config={"f": print}), "plain values and arrays"),
    "a fingerprint of a function": (lambda: evaluate.fingerprint(print), "plain values and arrays"),
    "a fingerprint of objects": (lambda: evaluate.fingerprint(np.array([None])), "plain values and arrays"),
    "an append to nothing": (lambda: atomic.append_bytes(FOLDER / "none", b"x"), "none"),
}  # fmt: skip
