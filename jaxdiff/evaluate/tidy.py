"""Numbers as CSV, for whoever plots or reads them again: a header, a line per value, floats to the last digit."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from jaxdiff.evaluate.atomic import write_text


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A header and rows as CSV: None is an empty field, a float its shortest text that reads back as itself."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_plain(value) for value in row] for row in rows)
    return text.getvalue()


def write_beside(figure: str | Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Path:
    """The numbers of a figure as CSV beside it: `losses.csv` for `losses.png`; returns the path."""
    return write_text(Path(figure).with_suffix(".csv"), csv_text(columns, rows))


def _plain(value: Any) -> Any:
    """Scalars of arrays as Python's own numbers, whose text is the shortest."""
    return value.item() if getattr(value, "ndim", None) == 0 else value
