"""The attack experiment: rows that depend on the image alone, AutoAttack on survivors, resumption, errors, and the command."""

import json
import os
import subprocess
import sys
from pathlib import Path

import attack
import attack_figures
import attack_tables
import classifiers
import common
import evaluation
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib import image
from ml_collections import ConfigDict
from sklearn.linear_model import LogisticRegression

import jaxdiff
from jaxdiff import evaluate
from jaxdiff.data import dataset
from jaxdiff.evaluate.summary import robust

ROOT = Path(common.__file__).parents[1]
LINF = {"name": "linf", "radius": 0.06}
CE = {"name": "cross_entropy"}
APGD = {"threat": LINF, "ascent": {"name": "apgd", "steps": 5}, "objective": CE}
AUTOATTACK = {"threat": LINF, "autoattack": {"name": "standard", "steps": 4, "queries": 10}}


@pytest.fixture(scope="module")
def digits():
    return dataset.digits("test")


@pytest.fixture(scope="module")
def victim():
    """Logistic regression from a hundred digits: some are seen wrongly."""
    train = dataset.digits("train")
    batch = train.fetch(np.arange(100))
    fitted = LogisticRegression(max_iter=500).fit(batch["image"].reshape(100, -1), batch["label"])
    weights = {"w": jnp.asarray(fitted.coef_, jnp.float32), "b": jnp.asarray(fitted.intercept_, jnp.float32)}
    return evaluation.Victim("linear", 10, weights, lambda p: lambda x, key: p["w"] @ x.ravel() + p["b"])


def setting(digits, folder, n=40, batch_size=16, slots=3):
    config = ConfigDict({"seed": 0, "data": {"name": "digits"}})
    section = ConfigDict({"n": n, "batch_size": batch_size, "slots": slots})
    return evaluation.Setting.of(config, section, "attack", digits, folder)


def without_seconds(rows):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def margins(victim, batch):
    """The L-infinity margin of a linear model: min over j of (z_y - z_j) / |w_y - w_j|_1."""
    w, b = (np.asarray(victim.weights[k], np.float64) for k in "wb")
    z, y = batch["image"].reshape(len(batch["label"]), -1) @ w.T + b, batch["label"]
    widths = np.abs(w[y][:, None] - w[None]).sum(-1)
    gaps = (z[np.arange(len(y)), y][:, None] - z) / np.maximum(widths, 1e-9)
    return np.where(np.arange(10) == y[:, None], np.inf, gaps).min(1)


@pytest.fixture(scope="module")
def first(digits, victim, tmp_path_factory):
    folder = tmp_path_factory.mktemp("first")
    rows, pictures = evaluation.Evaluation(victim, setting(digits, folder)).run("aa", AUTOATTACK, keep=40)
    return folder, rows, pictures


def test_autoattack_on_a_linear_model(digits, victim, first):
    """Images with a margin within the box below the radius fall (the box protects some); what is left stands."""
    _, rows, pictures = first
    batch = digits.fetch(np.array([row["id"] for row in rows]))
    safe = margins(victim, batch) > LINF["radius"]
    fallen = np.array([row["correct_before"] and not row["correct_after"] for row in rows])
    assert fallen.any() and not fallen[safe].any()
    assert all(row["linf"] <= LINF["radius"] + 1e-6 for row in rows)
    w, b = (np.asarray(victim.weights[k]) for k in "wb")
    seen = (pictures["adversarial"].reshape(len(rows), -1) @ w.T + b).argmax(1)
    np.testing.assert_array_equal(seen, [row["after"] for row in rows])
    np.testing.assert_allclose(
        np.abs(pictures["adversarial"] - batch["image"]).max((1, 2, 3)), [row["linf"] for row in rows]
    )


def test_survivors_alone_go_on(first):
    """The ledger of each attack holds what stood after the one before; who stands in the end has met all four."""
    folder, rows, _ = first
    stages = ["apgd-ce", "apgd-t", "fab-t", "square"]
    standing = {row["id"] for row in rows}
    for stage in stages:
        path = folder / "ledger" / f"linear--aa.{stage}.jsonl"
        found = [json.loads(line) for line in path.read_text().splitlines()[1:]]
        assert {row["id"] for row in found} == standing
        standing = {row["id"] for row in found if robust(row)}
    assert standing == {row["id"] for row in rows if robust(row)}
    assert {row["stage"] for row in rows if robust(row)} == {"square"}
    wrong = [row for row in rows if not row["correct_before"]]
    assert wrong and all(row["queries"] == 0 and row["linf"] == 0 for row in wrong)


@pytest.mark.slow
def test_rows_do_not_depend_on_batches_or_slots(digits, victim, first, tmp_path):
    other = setting(digits, tmp_path, batch_size=40, slots=7)
    rows, _ = evaluation.Evaluation(victim, other).run("aa", AUTOATTACK)
    for a, b in zip(without_seconds(rows), without_seconds(first[1]), strict=True):
        assert {k: v for k, v in a.items() if not isinstance(v, float)} == {
            k: v for k, v in b.items() if not isinstance(v, float)
        }
        np.testing.assert_allclose(a["loss"], b["loss"], atol=1e-4)


@pytest.mark.slow
def test_a_broken_run_goes_on_to_the_same_rows(digits, victim, first, tmp_path):
    """Half of the second attack's rows are gone, and all of the later ones: they come back as they were."""
    source, rows, _ = first
    (tmp_path / "ledger").mkdir()
    for stage, keep in (("apgd-ce", None), ("apgd-t", 9)):
        name = f"linear--aa.{stage}.jsonl"
        lines = (source / "ledger" / name).read_text().splitlines(keepends=True)[:keep]
        (tmp_path / "ledger" / name).write_text("".join(lines))
    again, _ = evaluation.Evaluation(victim, setting(digits, tmp_path)).run("aa", AUTOATTACK)
    assert without_seconds(again) == without_seconds(rows)


def test_rows_of_another_version_are_not_gone_on_with(digits, victim, first, monkeypatch):
    monkeypatch.setattr(jaxdiff, "__version__", "0.0.9")
    with pytest.raises(ValueError, match="another configuration, version or classifier"):
        evaluation.Evaluation(victim, setting(digits, first[0])).run("aa", AUTOATTACK)


def test_minimum_norm_attacks_count_within_the_radius_alone(digits, victim, tmp_path):
    """DDN moves every image as far as it must; the row knows how far, and stands if that is beyond the radius."""
    cell = {
        "threat": {"name": "l2", "radius": 0.3},
        "attack": {"name": "ddn", "steps": 30, "levels": None},
    }
    rows, _ = evaluation.Evaluation(victim, setting(digits, tmp_path)).run("ddn", cell)
    right = [row for row in rows if row["correct_before"]]
    assert {row["found"] > 0.3 for row in right} == {True, False}
    for row in right:
        assert row["correct_after"] is (row["found"] > 0.3 * (1 + 1e-5))
        assert row["norm"] <= 0.3 * (1 + 1e-5)


@pytest.mark.slow
def test_a_surrogate_is_attacked_in_place_of_the_victim(digits, victim, tmp_path):
    """From its equal the victim falls as to a white-box attack, from its opposite not at all; it is asked once an image."""
    opposite = victim._replace(weights={k: -v for k, v in victim.weights.items()})
    fgsm = {"threat": LINF, "ascent": {"name": "fgsm", "lr": 0.06}, "objective": {"name": "margin"}}
    others = {"equal": victim, "opposite": opposite}
    found = evaluation.Evaluation(victim, setting(digits, tmp_path), others)
    direct, _ = found.run("direct", fgsm)
    after = {"direct": [row["correct_after"] for row in direct]}
    for name in others:
        rows, _ = found.run(name, {**fgsm, "surrogates": (name,)})
        after[name] = [row["correct_after"] for row in rows]
        assert {row["queries"] for row in rows if row["correct_before"]} == {1}
    before = [row["correct_before"] for row in direct]
    assert after["equal"] == after["direct"] != before and after["opposite"] == before
    # Both at once climb nothing: their mean is 0 everywhere.
    rows, _ = found.run("both", {**fgsm, "surrogates": ("equal", "opposite")})
    assert [row["correct_after"] for row in rows] == before
    # Of an AutoAttack every stage asks once; an attacker who knows the three draws of the judge asks for all of them.
    whole = {
        **AUTOATTACK,
        "autoattack": {"name": "rand", "steps": 2, "draws": 1},
        "surrogates": ("opposite",),
    }
    rows, _ = found.run("whole", {**whole, "stop": True})
    assert {row["queries"] for row in rows if row["correct_before"]} == {2}
    known = {**fgsm, "surrogates": ("equal",), "judge": {"name": "worst_of", "n": 3, "known": True}}
    rows, _ = found.run("known", known)
    assert {row["queries"] for row in rows} == {3}
    # Rows of one surrogate are none of another's.
    with pytest.raises(ValueError, match="other"):
        swapped = {"equal": opposite, "opposite": victim}
        evaluation.Evaluation(victim, setting(digits, tmp_path), swapped).run(
            "equal", {**fgsm, "surrogates": ("equal",)}
        )


def test_a_classifier_of_other_classes_is_refused(digits):
    spec = {"name": "untrained", "model": {"name": "CNN", "channels": (4,), "classes": 7}}
    with pytest.raises(ValueError, match=r"'seven' has the output \(7,\); digits has 10 classes"):
        attack.build_victim("seven", spec, digits)


def test_random_victims_are_judged_by_a_protocol(digits, victim, tmp_path):
    """With noise on the logits, worst of 5 is below one shot, and the verdict decides the row."""
    noisy = victim._replace(
        classifier=lambda p: lambda x, key: p["w"] @ x.ravel() + p["b"] + 3.0 * jax.random.normal(key, (10,))
    )
    right = {}
    for name, judge in (("one", {"name": "one_shot"}), ("worst", {"name": "worst_of", "n": 5})):
        rows, _ = evaluation.Evaluation(noisy, setting(digits, tmp_path)).run(name, {"judge": judge})
        assert all(row["correct_after"] is (row["verdict"] == 1.0) for row in rows)
        assert {row["final"] for row in rows} == {True, False}
        right[name] = sum(row["correct_after"] for row in rows)
    assert right["worst"] < right["one"]


def test_the_minimum_over_attacks_is_per_image():
    rows = lambda *robust: [
        {
            "id": i, "correct_before": True, "correct_after": r, "finite": True, "norm": 0.1, "linf": 0.1, "seconds": 1.0
        }
        for i, r in enumerate(robust)
    ]  # fmt: skip
    cells = {"a": rows(True, False, True), "b": rows(True, True, False, False)}
    assert attack_tables.worst_over(cells)["accuracy"] == pytest.approx(1 / 3)


def test_worst_images_are_right_before_and_everywhere():
    """Non-finite first, then by the attacks they fell to, whatever loss these climb; then by the id."""

    def row(i, after, finite=True):
        loss = 1000.0 * after if finite else None  # cells have losses of other kinds: they must not matter
        return {"id": i, "loss": loss, "correct_before": i != 4, "correct_after": after, "finite": finite}

    fell, stood = False, True
    rows = {
        "ce": [
            row(0, stood),
            row(1, fell),
            row(2, fell),
            row(3, fell, finite=False),
            row(4, fell),
            row(5, fell),
        ],
        "dlr": [row(5, fell), row(4, fell), row(3, stood), row(2, stood), row(1, fell), row(0, stood)],
        "few": [row(i, stood) for i in range(5)],
    }
    assert attack_figures.worst_images(rows, 9) == [3, 1, 2, 0]
    assert attack_figures.worst_images({k: rows[k] for k in ("ce", "dlr")}, 3) == [3, 1, 5]


def test_dealt_batches_come_back_in_order():
    """Four devices get the examples in turn, and the caller gets them back as they were."""
    seen = []

    def f(_, batch):
        seen.extend(batch["id"].tolist())
        return {"id": batch["id"]}

    out = evaluation.dealt(f, 4)(None, {"id": np.arange(8)})
    assert seen == [0, 4, 1, 5, 2, 6, 3, 7] and out["id"].tolist() == list(range(8))


def run_smoke(config, workdir, **variables):
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | variables
    arguments = [
        sys.executable, str(ROOT / "experiments" / "attack.py"),
        f"--config={ROOT / 'configs' / config}:smoke", f"--workdir={workdir}",
    ]  # fmt: skip
    return subprocess.run(arguments, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_the_command_and_what_it_leaves(tmp_path):
    """Table, figures, ledgers and report of the smoke variant; a second run attacks nothing."""
    done = run_smoke("attack_digits.py", tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    records = evaluate.read_results(tmp_path / "results.json")
    assert records[-1]["attack"] == attack_tables.ALL
    singles = [r for r in records if "minimum_over" not in r]
    assert len(singles) == 18 and any(0 < r["accuracy"] < 1 for r in singles)
    for minimum in (r for r in records if "minimum_over" in r):
        assert minimum["accuracy"] <= min(r["accuracy"] for r in singles if r["n"] == minimum["n"])
    report = (tmp_path / "report.md").read_text()
    names = [path.name for path in (tmp_path / "figures").iterdir()]
    assert {"worst-fitted.png", "flow-fitted-stadv.png", "radius-fitted-linf.png"} <= set(names)
    for figure in (name for name in names if name.endswith(".png")):
        pixels = image.imread(tmp_path / "figures" / figure)[..., :3]
        assert np.std(pixels) > 0.05 and figure in report
    for numbers in (name for name in names if name.endswith(".csv")):
        assert numbers in report and numbers.replace(".csv", ".png") in names
        assert len((tmp_path / "figures" / numbers).read_text().splitlines()) > 1
    assert "Gradient masking: fitted" in report and "gets no image right" not in report
    assert len((tmp_path / "per_image.csv").read_text().splitlines()) == 17
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "ledger").iterdir()}
    assert run_smoke("attack_digits.py", tmp_path).returncode == 0
    assert times == {p: p.stat().st_mtime_ns for p in (tmp_path / "ledger").iterdir()}


@pytest.mark.slow
def test_cifar10_runs_too(tfds_dir, tmp_path):
    done = run_smoke("attack_cifar10.py", tmp_path, TFDS_DATA_DIR=tfds_dir)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "report: " in done.stdout


@pytest.mark.slow
def test_a_converted_classifier_is_as_good_as_it_was(tfds_dir, weights_dir, monkeypatch):
    """Weights by an environment variable; another model or an unset variable is an error in words."""
    spec = {
        "model": {"name": "ResNetCIFAR", "depth": 20},
        "weights": "$SOME_FOLDER/resnet20-12fca82f.npz",
        "converter": "resnet_cifar_from_torch",
    }
    with pytest.raises(ValueError, match="SOME_FOLDER, which is not set"):
        classifiers.converted(**spec, image_shape=(32, 32, 3))
    monkeypatch.setenv("SOME_FOLDER", str(weights_dir))
    model, variables = classifiers.converted(**spec, image_shape=(32, 32, 3))
    batch = dataset.tfds("cifar10", "test", tfds_dir).fetch(np.arange(200))
    right = jax.jit(model.apply)(variables, batch["image"]).argmax(-1) == batch["label"]
    assert 0.87 < right.mean() < 0.96  # 91.7 % of all
    with pytest.raises(ValueError, match="do not belong to the model"):
        classifiers.converted(
            **spec | {"model": {"name": "ResNetCIFAR", "depth": 56}}, image_shape=(32, 32, 3)
        )
