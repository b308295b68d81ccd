"""Speed and memory of jaxdiff beside PyTorch's libraries: on this machine, in one run.

    python experiments/benchmark/benchmark.py [--only=pgd,attacks,unet,sampling,memory] [--repeats=5] [--weights=resnet20.npz]

PGD, APGD, FAB, Square and AutoAttack against torchattacks; a UNet's forward pass, input gradients and
training step, and sampling with it, against diffusers (one attention head on both sides). Both sides have the
same weights and inputs; a row is timed only after their results agree. Repeats are interleaved; a row holds
medians; the ratio is the peer's time over ours: above 1 we are faster. Memory is what XLA plans for the
gradient through a sampler.

Run it on an otherwise idle machine. --smoke tries everything at tiny sizes.
"""

import json
import os
import statistics
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import benchmark_attacks as attacks
import benchmark_memory as memory
import benchmark_speed as speed
from absl import app, flags
from benchmark_compare import Row, table
from benchmark_memory import Memory
from peers import LIBRARIES, find_peers, library_versions

from jaxdiff.evaluate.atomic import write_text
from jaxdiff.study.machine import cores as available_cores
from jaxdiff.study.machine import use_all_cores

GROUPS = ("pgd", "attacks", "unet", "sampling", "memory")

ONLY = flags.DEFINE_list("only", list(GROUPS), f"Which parts to run, of {', '.join(GROUPS)}.")
REPEATS = flags.DEFINE_integer("repeats", 5, "Interleaved measurements of each row.", lower_bound=1)
SMOKE = flags.DEFINE_bool("smoke", False, "Tiny sizes: whether it works, not how fast it is.")
OUTPUT = flags.DEFINE_string("output", None, "A JSON file for every measurement.")
WEIGHTS = flags.DEFINE_string(
    "weights", None, "Weights of ResNet-20 as npz; how long attacks take depends on them."
)


def speed_table(rows: Sequence[Row]) -> str:
    """What, shape, medians, ratio, compilation, and the ratio of a single run that compiles first."""
    milliseconds = lambda seconds: f"{1000 * statistics.median(seconds):.1f}" if seconds else "—"
    cells = [
        [
            row.what,
            row.shape,
            milliseconds(row.ours),
            milliseconds(row.peer),
            f"{row.ratio:.2f}" if row.ratio else "—",
            f"{row.compile:.1f}",
            f"{row.with_compilation:.2f}" if row.ratio else "—",
        ]
        for row in rows
    ]
    header = ["what", "shape", "ours, ms", "peer, ms", "peer / ours", "compile, s", "with compilation"]
    return table(header, cells, left=2)


def memory_table(rows: Sequence[Memory]) -> str:
    """MiB for each remat and number of steps, their growth, and what it should be."""
    groups = memory.by_remat(rows)
    steps = [f"{r.steps} steps, MiB" for r in next(iter(groups.values()))]
    cells = [
        [remat, *(f"{r.bytes / 2**20:.2f}" for r in group), f"{g.states:.3f}", f"{g.exponent:.2f}"]
        for remat, group in groups.items()
        for g in [memory.growth(group)]
    ]
    return table(["remat", *steps, "image states a step", "exponent"], cells, left=1)


def disturbance(rows: Sequence[Row]) -> str:
    """A warning if other programs ran while a row was timed, or nothing.

    PyTorch's threads wait for each other in a loop: one busy program can make it a hundred times slower.
    """
    known = [row for row in rows if row.others is not None]
    worst = max(known, key=lambda row: row.others, default=None)
    if worst is None or worst.others <= 0.1:
        return ""
    cores = f"{worst.others:.2f} cores during {worst.what!r}"
    return f"NOT QUIET: other programs used up to {cores}; these times are not to be quoted."


def measure(
    only: Sequence[str], repeats: int, smoke: bool, weights: str | None, cores: int
) -> tuple[list[Row], list[Memory]]:
    """The rows of speed, and those of memory."""
    sizes = speed.SMOKE if smoke else speed.Sizes()
    rows = []
    for group in [g for g in GROUPS if g in only and g in LIBRARIES]:
        peers = find_peers(LIBRARIES[group], cores)
        if peers.missing:
            print(f"no peer for {group}: {peers.missing}")
        if group == "attacks":
            rows += attacks.attack_rows(
                attacks.SMOKE if smoke else attacks.Sizes(), repeats, peers, None if smoke else weights
            )
            continue
        options = {"weights": weights} if group == "pgd" and not smoke else {}
        rows += getattr(speed, f"{group}_rows")(sizes, repeats, peers, **options)
    planned = memory.measure(memory.SMOKE if smoke else memory.Sizes()) if "memory" in only else []
    return rows, planned


def summary(rows: Sequence[Row], planned: Sequence[Memory], repeats: int) -> str:
    """Both tables, what they mean, and what ran."""
    parts = []
    if rows:
        parts += [speed_table(rows), f"Medians of {repeats} interleaved repeats, without compilation."]
        parts += [warning] if (warning := disturbance(rows)) else []
    if planned:
        parts += [memory_table(planned), "\n".join(memory.verdicts(planned))]
    return "\n\n".join(parts)


def main(argv: Sequence[str]) -> None:
    """Measures what --only names; prints, and writes --output."""
    unknown = sorted(set(ONLY.value) - set(GROUPS)) + list(argv[1:])
    if unknown:
        sys.exit(f"error: unknown {unknown[0]!r}; --only takes {', '.join(GROUPS)}.")
    # A GPU is shared with PyTorch; without effect on CPU.
    os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.45")
    use_all_cores()
    cores = available_cores()
    try:
        rows, planned = measure(ONLY.value, REPEATS.value, SMOKE.value, WEIGHTS.value, cores)
    except (ValueError, FileNotFoundError) as error:
        if os.environ.get("JAXDIFF_TRACEBACK"):
            raise
        sys.exit(f"error: {error}\n(set JAXDIFF_TRACEBACK=1 for the traceback)")
    print(f"\n{summary(rows, planned, REPEATS.value)}")
    ran = library_versions() | {"cores": str(cores)}
    print(f"\n{date.today().isoformat()}; " + ", ".join(f"{name} {value}" for name, value in ran.items()))
    if OUTPUT.value:
        record = {
            "date": date.today().isoformat(),
            "versions": ran,
            "warning": disturbance(rows),
            "smoke": SMOKE.value,
            "weights": WEIGHTS.value,
            "speed": [
                row._asdict() | {"ratio": row.ratio, "with_compilation": row.with_compilation} for row in rows
            ],
            "memory": [row._asdict() for row in planned],
        }
        write_text(Path(OUTPUT.value), json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    app.run(main)
