"""report.md: table, figures, configuration, versions and times of one run on one page."""

import json
import os
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from jaxdiff import checks
from jaxdiff.evaluate.atomic import write_text
from jaxdiff.evaluate.checkout import commit
from jaxdiff.evaluate.fingerprints import plain
from jaxdiff.evaluate.ledger import machines_of
from jaxdiff.evaluate.machine import this_machine
from jaxdiff.evaluate.results import Reference
from jaxdiff.evaluate.tables import markdown_table

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def versions() -> dict[str, str]:
    """What ran: jaxdiff, its commit where it is a git checkout, Python, the packages numbers depend on, the platform and the
    accelerators.
    """
    import jax

    import jaxdiff

    devices = jax.devices()
    hash_ = commit()
    return (
        {"jaxdiff": jaxdiff.__version__}
        | ({"commit": hash_} if hash_ else {})
        | {"python": platform.python_version()}
        | {name: _version(name) for name in PACKAGES}
        | {
            "platform": platform.platform(),
            "device": f"{len(devices)} x {devices[0].device_kind} ({devices[0].platform})",
            "machine": this_machine(),
        }
    )


def machine_notes(ledgers: Mapping[str, str | Path]) -> list[str]:
    """A note for a report if the rows of its ledgers {name: path} were not all made on a machine like this one; else none.

    It says which machine has made how many rows, and which ledgers hold rows of several.
    """
    cells = {name: machines_of(path) for name, path in sorted(ledgers.items())}
    total = sum((Counter(cell) for cell in cells.values()), Counter())
    if set(total) <= {this_machine()}:
        return []
    made = lambda counts: "; ".join(f"{n} on {machine}" for machine, n in counts.items())
    mixed = [f"{name}: {made(cell)}" for name, cell in cells.items() if len(cell) > 1]
    note = f"**Machines**: attacked images agree to the last bit on one kind of machine only. Rows were made: {made(total)}."
    return [f"{note} Of several machines are: {'. '.join(mixed)}." if mixed else note]


def write_report(
    path: str | Path,
    title: str,
    *,
    config: Any,
    seed: int,
    date: str,
    versions: Mapping[str, str],
    records: Sequence[Mapping[str, Any]] = (),
    reference: Reference | None = None,
    figures: Mapping[str, str | Path] | None = None,
    stages: Mapping[str, float | int] | None = None,
    notes: Sequence[str] = (),
    sections: Mapping[str, str] | None = None,
) -> Path:
    """Writes one run as Markdown, atomically; the same arguments give the same bytes. Returns the path.

    `figures` {caption: file} are linked relative to the report, `stages` {name: seconds}, `notes` paragraphs,
    `sections` {heading: Markdown} come before the configuration. FileNotFoundError for a figure that does not
    exist.
    """
    checks.count("A report", least=0, seed=seed)
    checks.number("A stage of a report", "[0, inf)", **(stages or {}))
    path = Path(path)
    parts = {
        "Results": markdown_table(records, reference) if records else "",
        "Notes": "\n\n".join(notes),
        **(sections or {}),
        "Figures": figure_links(figures or {}, path.parent),
        "Wall time": stage_table(stages or {}),
        "Configuration": config_block(config),
        "Versions": two_columns("part", "version", versions),
    }
    body = [f"## {heading}\n\n{text}" for heading, text in parts.items() if text]
    return write_text(path, "\n\n".join([f"# {title}", f"Date: {date}. Seed: {seed}.", *body]) + "\n")


def figure_links(figures: Mapping[str, str | Path], folder: str | Path) -> str:
    """Markdown images (of a PDF a link) for {caption: file}, relative to `folder`, and links to what lies beside each: its
    numbers, other formats. FileNotFoundError for a file that is not there.
    """
    absent = [str(file) for file in figures.values() if not Path(file).is_file()]
    if absent:
        raise FileNotFoundError(f"A report links figures that exist; draw these first: {absent}.")
    link = lambda name, file: f"[{_alt(name)}](<{Path(os.path.relpath(file, folder)).as_posix()}>)"
    parts = []
    for caption, file in figures.items():
        beside = [Path(file).with_suffix(suffix) for suffix in (".csv", ".pdf", ".svg")]
        more = [link(other.name, other) for other in beside if other != Path(file) and other.is_file()]
        picture = ("" if Path(file).suffix == ".pdf" else "!") + link(caption, file)
        parts += [f"**{caption}**", picture, *([", ".join(more)] if more else [])]
    return "\n\n".join(parts)


def config_block(config: Any) -> str:
    """The exact configuration (mapping, ConfigDict, nested values) as a fenced JSON block."""
    return f"```json\n{json.dumps(plain(config), indent=2, sort_keys=True, ensure_ascii=False)}\n```"


def stage_table(stages: Mapping[str, float | int]) -> str:
    """{stage: seconds} as a Markdown table with a total; empty for no stages."""
    if not stages:
        return ""
    rows = {name: clock(seconds) for name, seconds in stages.items()}
    return two_columns("stage", "wall time", rows | {"**total**": clock(sum(stages.values()))})


def clock(seconds: float | int) -> str:
    """Seconds for humans: `12.3 s`, `4 min 05 s`, `2 h 03 min`."""
    whole = round(seconds)
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def two_columns(left: str, right: str, rows: Mapping[str, Any]) -> str:
    """A Markdown table of two columns."""
    lines = [f"| {_cell(name)} | {_cell(value)} |" for name, value in rows.items()]
    return "\n".join([f"| {left} | {right} |", "|:--|:--|", *lines])


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")


def _alt(caption: str) -> str:
    return caption.replace("[", "(").replace("]", ")").replace("\n", " ")


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
