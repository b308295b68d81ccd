"""The numbers of a sweep in one place: a tidy table, a summary with intervals over seeds, and plots by axis."""

import itertools
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxdiff.evaluate.atomic import write_text
from jaxdiff.evaluate.axes import against_plot, axis_plot
from jaxdiff.evaluate.report import figure_links
from jaxdiff.evaluate.tidy import csv_text
from jaxdiff.study.stage import Stage

RESULTS, SUMMARY, FIGURES = "results.json", "sweep.md", "figures"
# What tells numbers of a variant apart, and what is told of each.
NAMED = ("stage", "source", "defense", "attack", "metric", "split", "evaluations")
FIELDS = (*NAMED, "step", "value", "low", "high", "n", "seconds")
CONFIDENCE = 0.95
Row = dict[str, Any]


def short_names(paths: Sequence[str]) -> dict[str, str]:
    """Of dotted paths the fewest last parts that tell them apart, and apart from the columns of the table."""
    for parts in itertools.count(1):
        names = {path: ".".join(path.split(".")[-parts:]) for path in paths}
        whole = parts >= max(path.count(".") + 1 for path in paths)
        if whole or (len(set(names.values())) == len(paths) and not set(names.values()) & set(FIELDS)):
            return names


def gathered(
    settings: Sequence[Mapping[str, Any]], variants: Sequence[Mapping[str, Stage]], workdir: Path, made: int
) -> list[Row]:
    """What every stage of the first `made` variants has left in results.json, once, with the axes that it depends on.

    `settings` are those of all variants, `variants` their stages.
    """
    rows, seen = [], set()
    for setting, stages in list(zip(settings, variants, strict=True))[:made]:
        for name, stage in stages.items():
            file = workdir / stage.folder / RESULTS
            if stage.folder in seen or not file.exists():
                continue
            seen.add(stage.folder)
            own = {axis: value for axis, value in setting.items() if _matters(axis, name, settings, variants)}
            for record in json.loads(file.read_text(encoding="utf-8")):
                told = {"metric": "accuracy", "value": record.get("accuracy")} | record
                rows.append({**own, "stage": name, **{f: told[f] for f in FIELDS[1:] if f in told}})
    return rows


def _matters(
    axis: str, name: str, settings: Sequence[Mapping[str, Any]], variants: Sequence[Mapping[str, Stage]]
) -> bool:
    """Whether a stage is another one for another value of an axis, all others equal."""
    folders: dict[str, set[str]] = {}
    for setting, stages in zip(settings, variants, strict=True):
        if name in stages:
            others = repr({path: value for path, value in setting.items() if path != axis})
            folders.setdefault(others, set()).add(stages[name].folder)
    return any(len(found) > 1 for found in folders.values())


def write_results(path: Path, rows: Sequence[Row], axes: Sequence[str]) -> Path:
    """All rows as CSV in long format: a column an axis, then what the number is of, and the number."""
    names = short_names(axes)
    lines = [[row.get(column) for column in (*axes, *FIELDS)] for row in rows]
    return write_text(path, csv_text([*names.values(), *FIELDS], lines))


def summary(rows: Iterable[Row], axes: Sequence[str], seed: str) -> list[Row]:
    """For every setting of the axes but the seed, and everything measured: mean, a t interval over the seeds, their number.

    Of one seed the value stands with its own interval, if it has one.
    """
    groups: dict[tuple, list[Row]] = {}
    columns = [axis for axis in axes if axis != seed] + list(NAMED)
    for row in rows:
        if row.get("value") is not None:
            groups.setdefault(tuple(row.get(c) for c in columns), []).append(row)
    return [dict(zip(columns, key, strict=True)) | _over_seeds(group) for key, group in groups.items()]


def write_summary(workdir: Path, rows: Sequence[Row], axes: Mapping[str, Sequence[Any]], seed: str) -> Path:
    """Markdown tables of the summary, one for each metric of a stage, and a plot of each by every axis but the seed."""
    names, told, figures = short_names(list(axes)), summary(rows, list(axes), seed), {}
    sections = []
    for stage, metric in dict.fromkeys((row["stage"], row["metric"]) for row in told):
        own = [row for row in told if (row["stage"], row["metric"]) == (stage, metric)]
        others = [axis for axis in axes if axis != seed and any(row[axis] is not None for row in own)]
        sections.append(f"## {stage}: {metric}\n\n{_table(own, others, names)}")
        for axis in others:
            path = workdir / FIGURES / _file(stage, metric, names[axis])
            path.parent.mkdir(exist_ok=True)
            series = _series(own, axis, axes[axis], others, names)
            figures[f"{stage}: {metric} by {names[axis]}"] = axis_plot(
                axes[axis], series, path, names[axis], f"{metric} ({stage})"
            )
        asked = [row for row in own if row.get("evaluations")]
        if len({row["evaluations"] for row in asked}) > 1:
            path = workdir / FIGURES / _file(stage, metric, "evaluations")
            path.parent.mkdir(exist_ok=True)
            series = _by_evaluations(asked, others, names)
            figures[f"{stage}: {metric} by evaluations"] = against_plot(
                series, path, "evaluations of the denoiser", f"{metric} ({stage})"
            )
    note = f"Means over seeds with {100 * CONFIDENCE:.0f} % t intervals; of one seed the value with its own interval."
    parts = ["# Sweep", note, *sections, figure_links(figures, workdir)]
    return write_text(workdir / SUMMARY, "\n\n".join(filter(None, parts)) + "\n")


def _over_seeds(group: Sequence[Row]) -> Row:
    values = np.asarray([row["value"] for row in group], float)
    if len(values) == 1:
        return {"mean": values[0], "low": group[0].get("low"), "high": group[0].get("high"), "seeds": 1}
    from scipy.stats import t

    half = t.ppf(0.5 + CONFIDENCE / 2, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
    mean = float(values.mean())
    return {"mean": mean, "low": mean - half, "high": mean + half, "seeds": len(values)}


def _table(rows: Sequence[Row], axes: Sequence[str], names: Mapping[str, str]) -> str:
    more = [
        f for f in ("source", "defense", "attack", "split") if any(row.get(f) is not None for row in rows)
    ]
    lines = [
        [
            *(str(row[axis]) for axis in axes),
            *(str(row.get(f) or "—") for f in more),
            _number(row),
            str(row["seeds"]),
        ]
        for row in rows
    ]
    head = [*(names[axis] for axis in axes), *more, "mean", "seeds"]
    rule = "|" + ":--|" * (len(head) - 2) + "--:|--:|"
    return (
        "\n".join("| " + " | ".join(line) + " |" for line in [head])
        + f"\n{rule}\n"
        + "\n".join("| " + " | ".join(line) + " |" for line in lines)
    )


def _number(row: Row) -> str:
    text = f"{row['mean']:.4g}"
    return text if row["low"] is None else f"{text} [{row['low']:.4g}, {row['high']:.4g}]"


def _series(
    rows: Sequence[Row], axis: str, values: Sequence[Any], others: Sequence[str], names: Mapping[str, str]
) -> dict[str, tuple]:
    """{the other axes and what is measured: (mean, low, high) along the axis}."""
    lines: dict[str, dict[str, Row]] = {}
    for row in rows:
        parts = [f"{names[other]} = {row[other]}" for other in others if other != axis]
        parts += [str(row[f]) for f in ("source", "defense", "attack") if row.get(f) is not None]
        lines.setdefault(", ".join(parts) or "all", {})[repr(row[axis])] = row
    nothing = {"mean": None, "low": None, "high": None}
    return {
        name: tuple(
            [_float(found.get(repr(value), nothing)[part]) for value in values]
            for part in ("mean", "low", "high")
        )
        for name, found in lines.items()
    }


def _by_evaluations(rows: Sequence[Row], axes: Sequence[str], names: Mapping[str, str]) -> dict[str, tuple]:
    """{the other axes, and what is measured: (evaluations, mean, low, high)}, along the axes of numbers that say how many."""
    fixed = [axis for axis in axes if not _counts(rows, axis, axes)]
    lines: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: row["evaluations"]):
        parts = [f"{names[axis]} = {row[axis]}" for axis in fixed]
        parts += [str(row["source"])] if row.get("source") is not None else []
        lines.setdefault(", ".join(parts) or "all", []).append(row)
    columns = ("evaluations", "mean", "low", "high")
    return {name: tuple([_float(r[c]) for r in found] for c in columns) for name, found in lines.items()}


def _counts(rows: Sequence[Row], axis: str, axes: Sequence[str]) -> bool:
    """Whether an axis is of numbers, and the evaluations change along it, all others equal."""
    groups: dict[str, set[Any]] = {}
    for row in rows:
        others = repr([row[other] for other in axes if other != axis])
        groups.setdefault(others, set()).add(row["evaluations"])
    numbers = all(isinstance(row[axis], int | float) for row in rows)
    return numbers and any(len(found) > 1 for found in groups.values())


def _file(*parts: str) -> str:
    """The name of a picture, whatever a metric is called."""
    return re.sub(r"[^\w.-]+", "_", "-".join(parts)) + ".png"


def _float(value: Any) -> float:
    return math.nan if value is None else float(value)
