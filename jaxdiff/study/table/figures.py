"""Figures of a table: images under attack, accuracy against the radius, and the losses of the stages that it needs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxdiff import evaluate
from jaxdiff.evaluate.summary import share
from jaxdiff.study.study import Made
from jaxdiff.study.table.cell import CLEAN, Cell, Curve
from jaxdiff.study.table.place import Places
from jaxdiff.study.table.records import Rows, on_common_images
from jaxdiff.study.table.run import Evaluation

Pictures = Mapping[tuple[str, str], Mapping[str, np.ndarray]]
METRICS = "metrics.jsonl"


def draw_strongest(
    path: Path, cells: Mapping[tuple[str, str], Cell], rows: Rows, pictures: Pictures, data: Any, show: int
) -> Path:
    """The first images, and what the strongest attack on each victim made of them."""
    attacked = {}
    for victim in dict.fromkeys(v for v, _ in cells):
        own = [column for v, column in cells if v == victim and cells[v, column].attack is not None] or [
            CLEAN
        ]
        column = min(own, key=lambda c: evaluate.summarise(rows[victim, c])["accuracy"])
        place = victim, column
        attacked[f"{victim}: {column}"] = shown(cells[place], rows[place], pictures[place], range(show))
    ids = [row["id"] for row in next(iter(rows.values()))[:show]]
    clean = data.fetch(np.asarray(ids))
    return evaluate.attack_panel(clean["image"], attacked, clean["label"], path, data.label_names)


def draw_worst(
    path: Path, victim: str, columns: Mapping[str, Cell], rows: Rows, pictures: Pictures, data: Any, show: int
) -> Path | None:
    """Of the images that all attacks on a victim have, those that fell to the most, and what some attacks made of them."""
    own = {column: found for (v, column), found in rows.items() if v == victim}
    ids = worst_images(own, show)
    if not ids:
        return None
    attacked = {}
    for column, cell in columns.items():
        places = {row["id"]: place for place, row in enumerate(own[column])}
        attacked[column] = shown(cell, own[column], pictures[victim, column], [places[i] for i in ids])
    clean = data.fetch(np.asarray(ids))
    return evaluate.attack_panel(clean["image"], attacked, clean["label"], path, data.label_names)


def shown(
    cell: Cell, rows: Sequence[Mapping[str, Any]], pictures: Mapping[str, np.ndarray], places: Sequence[int]
) -> evaluate.Attacked:
    """Some of the images of a cell, with what was seen in them before and after, how surely, and how far they were moved."""
    chosen, places = [rows[place] for place in places], list(places)
    after, confidence = ([row.get(name) for row in chosen] for name in ("after", "confidence"))
    purified = pictures["purified"][places] if "purified" in pictures else None
    limits = cell.limits()
    return evaluate.Attacked(
        adversarial=pictures["adversarial"][places],
        predictions=None if purified is not None else after,
        confidences=None if purified is not None else confidence,
        purified=None if purified is None else np.clip(purified, 0.0, 1.0),
        purified_predictions=None if purified is None else after,
        purified_confidences=None if purified is None else confidence,
        norms=[row["norm"] for row in chosen],
        norm=r"$\ell_2$" if limits is None or limits.measure is None else limits.symbol,
        clean_predictions=[row["before"] for row in chosen],
        clean_confidences=[row.get("confidence_before") for row in chosen],
    )


def worst_images(rows: Mapping[str, list[dict]], n: int) -> list[int]:
    """The n ids that fell to the most attacks, of those right before that all attacks have.

    Those that any attack made non-finite come first; ties go to the smaller id.
    """
    ranks: dict[int, tuple] = {}
    for row in (row for cell in on_common_images(rows).values() for row in cell if row["correct_before"]):
        broken, fallen, _ = ranks.get(row["id"], (0, 0, 0))
        ranks[row["id"]] = min(broken, -(not row["finite"])), fallen - (1 - share(row)), row["id"]
    return sorted(ranks, key=ranks.__getitem__)[:n]


def draw_curve(
    path: Path, curve: Curve, places: Places, evaluation: Evaluation
) -> tuple[Path, list[dict[str, Any]]]:
    """Accuracy of some cells of one threat against its radius, and the numbers as records."""
    series, records = {}, []
    for place in places:
        found = [evaluate.summarise(evaluation.run(place, radius, curve.n)[0]) for radius in curve.radii]
        series[", ".join(place.key)] = tuple([s[k] for s in found] for k in ("accuracy", "low", "high"))
        records += [
            evaluate.record(*place.key, summary, radius=radius)
            for radius, summary in zip(curve.radii, found, strict=True)
        ]
    limits = places[0].cell.limits()
    counts = sorted({record["n"] for record in records})
    evaluate.accuracy_curve(
        list(curve.radii),
        series,
        path,
        xlabel=f"radius ({limits.symbol})",
        title=f"Accuracy under attack, n = {' or '.join(map(str, counts))}",
    )
    return path, records


def draw_losses(path: Path, made: Mapping[str, Made]) -> Path | None:
    """The losses of the stages that were trained, those of one task on one axis; None if there are none."""
    kinds: dict[str, dict[str, Any]] = {}
    for name, stage in made.items():
        log = stage.folder / METRICS
        metrics = evaluate.read_metrics(log) if log.exists() and log.stat().st_size else {}
        if "loss" in metrics:
            task = stage.stage.spec["name"].rpartition(".")[2].replace("_", " ")
            kinds.setdefault(f"loss ({task})", {})[name] = metrics["loss"]
    return evaluate.loss_curves(kinds, path) if kinds else None
