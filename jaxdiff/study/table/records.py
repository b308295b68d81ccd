"""From the rows of all cells to the records of a table: every cell, the minima over attacks within a threat, their union.

A minimum is image by image: an image stands if it stands under every attack, on the images that all of them have. Attacks
within one threat are one question; over several threats the minimum is their union, and says so.
"""

from collections.abc import Mapping
from typing import Any

from jaxdiff import evaluate
from jaxdiff.attacks import Threat
from jaxdiff.study.table.place import Places

Rows = Mapping[tuple[str, str], list[dict]]
ALL, WHOLE, UNION = "all attacks", "attacks on all images", "union over threats"


def records_of(places: Places, rows: Rows, minima: bool) -> list[dict[str, Any]]:
    """The records of every cell and, with `minima`, those of the last columns, victim after victim."""
    records = [
        evaluate.record(*place.key, evaluate.summarise(rows[place.key]), **_threat(place.cell.limits()))
        for place in places
    ]
    for victim in dict.fromkeys(place.name for place in places) if minima else ():
        limits = {p.column: p.cell.limits() for p in places if p.name == victim and p.cell.attack}
        records += minimal(victim, {column: rows[victim, column] for column in limits}, limits)
    return records


def minimal(
    victim: str, cells: Mapping[str, list[dict]], limits: Mapping[str, Threat | None]
) -> list[dict[str, Any]]:
    """The minima of one victim: within each threat that has several attacks, and their union where there are several threats.

    Attacks without a threat are in the union alone. Where some attacks have fewer images, there is also the minimum over those
    that have all.
    """
    kinds: dict[Any, dict[str, list[dict]]] = {}
    for column, rows in cells.items():
        kinds.setdefault(_kind(limits[column]), {})[column] = rows
    records = []
    for kind, own in kinds.items():
        if kind is not None and len(own) > 1:
            several = len(kinds) > 1
            records += _minimum(victim, f"{ALL}, {_named(kind)}" if several else ALL, own, _threat_of(kind))
    if len(kinds) > 1:
        records += _minimum(victim, UNION, dict(cells), {})
    return records


def on_common_images(cells: Mapping[str, list[dict]]) -> dict[str, list[dict]]:
    """The rows of the images that all cells have."""
    common = set.intersection(*({row["id"] for row in rows} for rows in cells.values()))
    return {column: [row for row in rows if row["id"] in common] for column, rows in cells.items()}


def _minimum(victim: str, name: str, cells: dict[str, list[dict]], more: dict[str, Any]) -> list[dict]:
    records = [evaluate.record(victim, name, _worst(cells), **more)]
    most = max(map(len, cells.values()))
    whole = {column: rows for column, rows in cells.items() if len(rows) == most}
    if len(whole) < len(cells):
        records.insert(0, evaluate.record(victim, f"{name}: {WHOLE}", _worst(whole), **more))
    return records


def _worst(cells: Mapping[str, list[dict]]) -> dict[str, Any]:
    """No largest norm: those of several attacks may be in different norms."""
    summary = evaluate.worst_case(list(on_common_images(cells).values()))
    return {k: v for k, v in summary.items() if k != "max_norm"} | {"minimum_over": list(cells)}


def _kind(limits: Threat | None) -> tuple[str, float, str] | None:
    return None if limits is None else (limits.name, float(limits.radius), limits.symbol)


def _threat(limits: Threat | None) -> dict[str, Any]:
    return _threat_of(_kind(limits))


def _threat_of(kind: tuple[str, float, str] | None) -> dict[str, Any]:
    return {} if kind is None else {"threat": kind[0], "radius": kind[1], "symbol": kind[2]}


def _named(kind: tuple[str, float, str]) -> str:
    return f"{kind[0]} {kind[1]:.4g}"
