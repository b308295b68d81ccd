"""Tables: victims x cells, every image attacked once, whatever else is asked for; curves, checks, minima, records, files."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from study import linear_stage
from study.linear_stage import LINF, TEST, climb, config

from jaxdiff import attacks, evaluate
from jaxdiff.study import part, planned, run, tasks
from jaxdiff.study.table import run as running

ROOT = Path(__file__).parents[2]


@pytest.fixture
def attacked(monkeypatch):
    """How many images were attacked or judged, by cell, from now on."""
    seen, run_cell = {}, evaluate.run_cell

    def counting(ledger, ids, fetch, attack, size, label, keep):
        def counted(batch):
            seen[label] = seen.get(label, 0) + int(batch["real"].sum())
            return attack(batch)

        return run_cell(ledger, ids, fetch, counted, size, label, keep)

    monkeypatch.setattr(running.evaluate, "run_cell", counting)
    return seen


def records(workdir):
    return {
        (r["defense"], r["attack"]): r for r in json.loads((workdir / "table" / "results.json").read_text())
    }


FIRST = {
    "none, standard": 20, "none, pgd": 20, "none, far": 9, "none, fgsm": 20,
    "noisy, standard": 20, "noisy, pgd": 20, "noisy, far": 9, "noisy, fgsm": 20,
}  # fmt: skip


@pytest.mark.slow
def test_one_more_cell_or_image_and_other_pictures_attack_nothing_again(tmp_path, attacked):
    run(config(), tmp_path)
    assert attacked == FIRST
    before = records(tmp_path)
    assert list(before) == [tuple(name.split(", ")) for name in FIRST]
    asked = [
        (config(), {}),
        (config(show=1, batch_size=16, reference={"none": {"pgd": 0.5}}), {}),
        (config(n=23), {name: 3 for name, n in FIRST.items() if n == 20}),
        (config(cells={**linear_stage.cells(), "more": part(tasks.cell, attack=climb(steps=2), threat=LINF)}),
         {"none, more": 20, "noisy, more": 20}),
        (config(minima=True), {}),
    ]  # fmt: skip
    for study_config, fresh in asked:
        attacked.clear()
        run(study_config, tmp_path)
        assert attacked == fresh
    attacked.clear()
    run(config(scale=5.0), tmp_path)  # another victim is attacked anew
    assert attacked == FIRST
    run(config(), tmp_path)
    assert records(tmp_path) == before  # seconds too: they are from the ledger


def test_a_record_of_every_cell_and_files_for_papers(tmp_path, capsys):
    run(config(reference={"none": {"pgd": 0.5, "paper-only": 0.25}}), tmp_path)
    folder = tmp_path / "table"
    found = records(tmp_path)
    for (_, column), record in found.items():
        assert {"defense", "attack", "accuracy", "low", "high", "n", "seconds"} <= set(record)
        told = {"standard": (None, None), "far": ("l2", 0.5)}.get(column, ("linf", 0.1))
        assert (record.get("threat"), record.get("radius")) == told
    assert found["none", "standard"]["accuracy"] >= found["none", "fgsm"]["accuracy"]
    report, latex = (folder / "report.md").read_text(), (folder / "table.tex").read_text()
    assert "(paper 50.0)" in report and "(paper 25.0)" in report and r"\begin{tabular}" in latex
    assert "commit" in report or "jaxdiff" in report
    lines = list(csv.reader((folder / "per_image.csv").read_text().splitlines()))
    assert len(lines) == 1 + 2 * 20 and lines[0][:4] == ["victim", "id", "label", "right_before"]
    assert (folder / "figures" / "panel.png").exists() and (folder / "table.csv").exists()
    out = capsys.readouterr().out
    assert "none" in out and "report: " in out


@pytest.mark.slow
def test_the_rows_say_what_an_attack_does(tmp_path):
    """Of a victim without a defense: pgd called by hand on the same images with the same keys."""
    run(config(), tmp_path)
    (ledger,) = (tmp_path / "cells").glob("none--fgsm-*/rows.jsonl")
    rows = [json.loads(line) for line in ledger.read_text().splitlines()[1:]]
    plain = planned(config(), "plain").make(tmp_path)["plain"]()
    attack = attacks.untargeted(attacks.pgd(attacks.linf(0.1), steps=1), attacks.cross_entropy())
    batch = TEST.fetch(np.array([row["id"] for row in rows]))
    for row, image, label in zip(rows, batch["image"], batch["label"], strict=True):
        right = int(np.argmax(plain(image, None))) == label
        assert row["correct_before"] == right and row["norm"] <= 0.1 * (1 + 1e-5)
        assert not right or row["norm"] == pytest.approx(0.1, rel=1e-4) or not row["correct_after"]
    assert attack.steps == 2


@pytest.mark.slow
def test_curves_share_the_program_and_the_rows_of_their_cell(tmp_path, attacked):
    curves = {"linf": part(tasks.curve, cells=("*/pgd", "none/fgsm"), radii=(0.0, 0.1, 0.3), n=12)}
    run(config(curves=curves), tmp_path)
    at = {name: n for name, n in attacked.items() if "-at-" in name}
    assert at == {
        f"{v}, {c}-at-{r}": 12
        for v, c in (("none", "pgd"), ("noisy", "pgd"), ("none", "fgsm"))
        for r in ("0", "0.3")
    }
    points = json.loads((tmp_path / "table" / "curves.json").read_text())
    own = [p["accuracy"] for p in points if (p["defense"], p["attack"]) == ("none", "pgd")]
    assert len(points) == 9 and own[0] >= own[1] >= own[2]
    assert (tmp_path / "table" / "figures" / "curve-linf.png").exists()


@pytest.mark.slow
def test_minima_are_within_a_threat_and_their_union_says_so(tmp_path):
    run(config(minima=True), tmp_path)
    found = records(tmp_path)
    linf, union = found["none", "all attacks, linf 0.1"], found["none", "union over threats"]
    assert linf["minimum_over"] == ["pgd", "fgsm"] and linf["threat"] == "linf" and linf["n"] == 20
    assert linf["accuracy"] <= min(found["none", c]["accuracy"] for c in ("pgd", "fgsm"))
    assert union["n"] == 9 and "threat" not in union and union["minimum_over"] == ["pgd", "far", "fgsm"]
    assert found["none", "union over threats: attacks on all images"]["n"] == 20
    assert not any("far" in r["minimum_over"] for (_, c), r in found.items() if c.startswith("all attacks"))


@pytest.mark.slow
def test_a_check_is_made_once(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(linear_stage, "look", lambda classifier, images, labels, key, defense: made.append(
        (images.shape, defense is None)) or "all is well", raising=False)  # fmt: skip
    check = {"look": part(tasks.check, examine={"name": "study.linear_stage.look"}, n=5)}
    for _ in range(2):
        run(config(checks=check), tmp_path)
    assert made == [((5, 8, 8, 1), True), ((5, 8, 8, 1), False)]
    assert "## look: noisy\n\nall is well" in (tmp_path / "table" / "report.md").read_text()


@pytest.mark.slow
def test_a_check_may_draw_and_the_report_shows_it(tmp_path):
    """Of a flow: the numbers of the text are those beside the picture."""
    examine = part(tasks.flows, attack=part(attacks.stadv, bound=0.2, steps=8))
    run(config(checks={"movement": part(tasks.check, examine=examine, n=4, on="none")}), tmp_path)
    (folder,) = (tmp_path / "cells").glob("none--check-movement-*")
    rows = list(csv.DictReader((folder / "flows.csv").read_text().splitlines()))
    moved, fallen = [float(row["movement"]) for row in rows], 0
    for row in rows:
        true, seen = row["label"].split(", seen as ")
        fallen += true != seen
    assert len(rows) == 4 and 0.0 < max(moved) <= 0.2 * 4 * 2**0.5 + 1e-6
    text = (tmp_path / "table" / "report.md").read_text()
    assert f"{fallen} of 4 images fall" in text and f"{max(moved):.2g} at most" in text
    assert f"![movement: none](<../cells/{folder.name}/flows.png>)" in text
    with pytest.raises(ValueError, match="moves pixels"):
        run(
            config(
                checks={
                    "movement": part(
                        tasks.check, examine=part(tasks.flows, attack=climb(steps=1, threat=LINF)), n=4
                    )
                }
            ),
            tmp_path,
        )


@pytest.mark.slow
def test_an_ensemble_says_which_attack_has_won(tmp_path):
    auto = part(attacks.autoattack.standard, steps=4, queries=10)
    run(config(cells={"auto": part(tasks.cell, attack=auto, threat=LINF, on="none")}), tmp_path)
    assert "apgd-ce" in (tmp_path / "table" / "report.md").read_text()
    (ledger,) = (tmp_path / "cells").glob("none--auto-*/rows.jsonl")
    rows = [json.loads(line) for line in ledger.read_text().splitlines()[1:]]
    assert {row["attack"] for row in rows if row["correct_before"] and not row["correct_after"]} <= {
        0,
        1,
        2,
        3,
    }
    assert all(row["attack"] == -1 for row in rows if row["correct_after"] or not row["correct_before"])


@pytest.mark.slow
def test_surrogates_are_products_and_arguments(tmp_path, attacked):
    """The attack is made on another stage, whose weights are arguments: another surrogate is another ledger."""
    transfer = part(attacks.transfer, attack=climb(steps=2), surrogate="@other")
    cells = {"transfer": part(tasks.cell, attack=transfer, threat=LINF, on="none")}
    for scale in (4.0, 1.0):
        attacked.clear()
        run(config(cells=cells, more={"other": part(linear_stage.means, scale=scale)}), tmp_path)
        assert attacked.get("none, transfer") == 20


FLOW = part(attacks.flow_field, radius=0.1)
TARGETED = part(attacks.targeted, ascent=part(attacks.pgd), objective=part(attacks.margin))
WRONG = {
    "no such victim": ({"cells": {"a": part(tasks.cell, on="nobody")}}, "is on 'nobody'.*The victims are"),
    "two of one column": ({"cells": {n: part(tasks.cell, attack=climb(), threat=LINF, column="c") for n in "ab"}}, "Several"),
    "a view of nothing": ({"cells": {"a": part(tasks.cell, attack=climb(), threat=LINF, view="bpda")}}, "has none"),
    "no such view": (
        {"cells": {"a": part(tasks.cell, attack=climb(), threat=LINF, view="bdpa", on="noisy")}}, "Unknown gradient 'bdpa'"),
    "no threat": ({"cells": {"a": part(tasks.cell, attack=climb())}}, "needs 'threat'"),
    "the least of any size": ({"cells": {"a": part(tasks.cell, attack=part(attacks.ddn))}}, "any victory would count"),
    "a targeted attack": ({"cells": {"a": part(tasks.cell, attack=TARGETED, threat=LINF)}}, "gives the true one"),
    "another norm": (
        {"cells": {"a": part(tasks.cell, attack=part(attacks.autoattack.standard), threat=FLOW)}}, "norm 'flow'"),
    "too many images": ({"n": 400}, "360"),
    "no images": ({"n": 0}, "n as a whole number"),
    "too many of a cell": ({"cells": {"a": part(tasks.cell, n=400)}}, "360"),
    "no batch": ({"batch_size": 0}, "batch_size"),
    "no slots": ({"slots": 0}, "slots"),
    "nothing to show": ({"show": 0}, "show"),
    "names of files": ({"cells": {"a/b": part(tasks.cell)}}, "single dashes"),
    "a curve of no cell": ({"curves": {"c": part(tasks.curve, cells="*/pdg", radii=(0.1,))}}, r"'\*/pdg'"),
    "a curve of two threats": ({"curves": {"c": part(tasks.curve, cells="none/*", radii=(0.1,))}}, "no threat|several threats"),
    "an L2 cell on an L-infinity curve": (
        {"curves": {"c": part(tasks.curve, cells=("none/pgd", "none/far"), radii=(0.1,))}}, "several threats"),
    "a radius of 8": ({"curves": {"c": part(tasks.curve, cells="none/pgd", radii=(8.0,))}}, "8 / 255"),
    "a reference in percent": ({"reference": {"none": {"pgd": 50}}}, "reference"),
    "a panel of no cell": ({"panel": ("none/apgd",)}, "The panel names 'none/apgd'"),
    "a check of nobody": ({"checks": {"c": part(tasks.check, examine=part(linear_stage.noisy), on="nobody")}}, "nobody"),
    "no victims": ({"victims": {}}, "at least one victim"),
    "a cell that is none": ({"cells": {"a": part(attacks.linf, radius=0.1)}}, "as a Cell"),
    "a product that there is not": ({"victims": {"none": part(tasks.victim, classifier="@plan")}}, "did you mean 'plain'"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_can_not_run_is_said_before_anything_is_made(tmp_path, name):
    change, words = WRONG[name]
    with pytest.raises(ValueError, match=words):
        run(config(**change), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_the_error_says_which_cell(tmp_path):
    cell = part(tasks.cell, attack=part(attacks.fab_targeted, n=12), threat=LINF)
    with pytest.raises(ValueError) as error:
        planned(config(cells={"fab": cell}))
    assert (
        "in the cell 'fab' on 'none'" in error.value.__notes__
        and "in the stage 'table'" in error.value.__notes__
    )


@pytest.mark.slow
def test_a_table_killed_at_any_moment_ends_with_the_same_rows(tmp_path):
    """A process killed again and again; then nothing is attacked twice, and every row is as without a kill."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    command = [sys.executable, str(Path(linear_stage.__file__)), str(tmp_path / "killed")]
    for delay in np.random.default_rng(0).uniform(5.0, 14.0, 4):
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    run(config(), tmp_path / "whole")

    def rows(folder):
        found = {}
        for ledger in sorted((folder / "cells").glob("*/rows.jsonl")):
            lines = [json.loads(line) for line in ledger.read_text().splitlines()[1:]]
            own = [
                {k: v for k, v in row.items() if k not in ("seconds", "crc")} for row in lines if "id" in row
            ]
            assert len({row["id"] for row in own}) == len(own)
            found[ledger.parent.name] = sorted(own, key=lambda row: row["id"])
        return found

    if jax.device_count() == 1:  # the command has as many
        assert rows(tmp_path / "killed") == rows(tmp_path / "whole")
