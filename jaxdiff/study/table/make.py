"""The table, made: every cell on every victim, then figures, checks and the report."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxdiff import evaluate
from jaxdiff.evaluate.atomic import write_text
from jaxdiff.evaluate.fingerprints import plain
from jaxdiff.study.drawing import Samples
from jaxdiff.study.study import Made
from jaxdiff.study.table.contents import Contents
from jaxdiff.study.table.examine import examined, matching
from jaxdiff.study.table.figures import METRICS, draw_curve, draw_losses, draw_strongest, draw_worst
from jaxdiff.study.table.records import records_of
from jaxdiff.study.table.run import Evaluation, Setting
from jaxdiff.study.table.writing import write_table
from jaxdiff.train.jsonl import read_jsonl

CELLS = "cells"  # of a workdir: the ledgers of all its tables


def make_table(
    told: Contents,
    setting: Setting,
    folder: Path,
    made: Mapping[str, Made],
    pictures: Sequence[Samples],
    config: Any,
    seed: int,
) -> list[dict[str, Any]]:
    """Attacks what is missing, writes report, tables and figures into a folder, prints the table; returns its records."""
    evaluation, rows, kept = Evaluation(told.places, setting), {}, {}
    keep = len(setting.ids) if told.panel else told.show
    for place in told.places:
        rows[place.key], kept[place.key] = evaluation.run(place, keep=keep)
    records = records_of(told.places, rows, told.minima)
    figures = _figures(told, setting, folder, made, evaluation, rows, kept)
    sections, drawn = _examinations(told, setting, evaluation, rows)
    figures |= drawn
    for each in pictures:
        figures = dict(each.pictures) | figures
    report = write_table(
        folder,
        f"Robustness on {setting.data.name}",
        records,
        rows,
        {place.key: place.attacks for place in told.places},
        reference=told.reference,
        figures=figures,
        sections=sections,
        stages=_seconds(made, records),
        ledgers={path.parent.name: path for path in evaluation.ledgers},
        config=config,
        seed=seed,
    )
    print(evaluate.terminal_table(records, told.reference))
    for heading, text in sections.items():
        print(f"\n{heading}\n{text}")
    print(f"\nreport: {report}")
    return records


def _figures(
    told: Contents,
    setting: Setting,
    folder: Path,
    made: Mapping[str, Made],
    evaluation: Evaluation,
    rows: Mapping[tuple[str, str], list[dict]],
    kept: Mapping[tuple[str, str], Mapping[str, Any]],
) -> dict[str, Path]:
    """{caption: file} of every figure, in the order of the report; the numbers of the curves beside them."""
    drawn, data = folder / "figures", setting.data
    drawn.mkdir(exist_ok=True)
    cells = {place.key: place.cell for place in told.places}
    figures = {}
    if told.panel:
        for victim in dict.fromkeys(v for v, _ in told.panel):
            columns = {column: cells[v, column] for v, column in told.panel if v == victim}
            path = draw_worst(drawn / f"worst-{victim}.png", victim, columns, rows, kept, data, told.show)
            if path:
                caption = "of the images that all attacks have, those that fell to the most; prediction below"
                figures[f"{victim}: {caption}, green if right"] = path
    else:
        show = min(told.show, *map(len, rows.values()))
        caption = (
            "The strongest attack on each victim, on the same images: prediction below each, green if right"
        )
        figures[caption] = draw_strongest(drawn / "panel.png", cells, rows, kept, data, show)
    points = []
    for name, (curve, places) in told.curves.items():
        path, found = draw_curve(drawn / f"curve-{name}.png", curve, places, evaluation)
        figures[f"{name}: accuracy against the radius, with 95 % intervals"] = path
        points += [{"curve": name, **record} for record in found]
    if points:
        write_text(folder / "curves.json", json.dumps(plain(points), indent=2) + "\n")
    losses = draw_losses(drawn / "losses.png", made)
    return figures | ({"Training losses": losses} if losses else {})


def _examinations(
    told: Contents,
    setting: Setting,
    evaluation: Evaluation,
    rows: Mapping[tuple[str, str], list[dict]],
) -> tuple[dict[str, str], dict[str, Path]]:
    """{heading: Markdown} of every check of every victim, and {caption: file} of what they have drawn."""
    texts, pictures = {}, {}
    for name, check in told.checks.items():
        for victim in matching(check, list(told.victims)):
            own = next(found for (v, _), found in rows.items() if v == victim)
            text, drawn = examined(name, check, victim, told.victims[victim], evaluation, own, setting.key)
            texts[f"{name}: {victim}"] = text
            pictures |= {f"{name}: {victim}" + f", {p.stem}" * (len(drawn) > 1): p for p in drawn}
    return texts, pictures


def _seconds(made: Mapping[str, Made], records: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Wall time of each stage, time before a kill included: training from its metrics, attacks from their ledgers."""
    seconds = {}
    for name, stage in made.items():
        told = [row.get("seconds") for row in read_jsonl(stage.folder / METRICS)]
        if told := [s for s in told if isinstance(s, int | float)]:
            seconds[f"training: {name}"] = max(told)
    cells = [record for record in records if "minimum_over" not in record]
    return seconds | {f"attack: {r['defense']}, {r['attack']}": r["seconds"] for r in cells}
