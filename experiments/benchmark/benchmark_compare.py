"""How two sides are compared: equal results first, then interleaved times, and who else was running."""

import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np


class Row(NamedTuple):
    """One line of the table: seconds of every repeat, a call that compiles not among them.

    `others` is how many cores other programs used meanwhile, where that is known.
    """

    what: str
    shape: str
    ours: list[float]
    peer: list[float]
    compile: float
    others: float | None

    @property
    def ratio(self) -> float | None:
        """The peer's median time over ours."""
        return statistics.median(self.peer) / statistics.median(self.ours) if self.peer else None

    @property
    def with_compilation(self) -> float | None:
        """The same where ours compiles first, as in a single run."""
        ours = statistics.median(self.ours) + self.compile
        return statistics.median(self.peer) / ours if self.peer else None


def compare(
    what: str,
    shape: str,
    ours: Callable[[], Any],
    peer: Callable[[], Any] | None,
    check: Callable[..., None],
    repeats: int,
    per: int = 1,
    long: bool = False,
) -> Row:
    """Times both sides in turn, `per` units of work a call, once `check` accepts our first result.

    `long` calls take many seconds and need no warming up: `check` gets the peer's first result too, which is timed.
    """
    print(f"{what}, {shape} ...", file=sys.stderr, flush=True)
    result, first = timed(ours)
    sides, seconds = {"ours": ours}, {name: [] for name in ("ours", "peer")}
    used = cpu_seconds()
    if peer is not None:
        sides["peer"] = peer
        if long:
            theirs, elapsed = timed(peer)
            seconds["peer"].append(elapsed)
            check(result, theirs)
        else:
            check(result)
    # The second call of each: warm, and the measure of how many calls make a fifth of a second.
    calls = {
        name: 1 if long else max(1, min(50, round(0.2 / timed(side)[1]))) for name, side in sides.items()
    }
    used = used if long else cpu_seconds()
    for i in range(repeats):
        for name in sorted(sides, reverse=bool(i % 2)):  # a drift of the machine hits both alike
            if len(seconds[name]) > i:
                continue
            time.sleep(0.05)  # idle threads of the other side stop spinning
            elapsed = timed(lambda: [jax.block_until_ready(sides[name]()) for _ in range(calls[name])])[1]
            seconds[name].append(elapsed / calls[name] / per)
    compiling = max(0.0, first - per * statistics.median(seconds["ours"]))
    medians = ", ".join(f"{name} {statistics.median(s):.4g} s" for name, s in seconds.items() if s)
    print(f"  {medians}, compilation {compiling:.1f} s", file=sys.stderr, flush=True)
    return Row(what, shape, seconds["ours"], seconds["peer"], compiling, other_programs(used, cpu_seconds()))


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """What `call()` returns once it is ready, and the seconds that took."""
    start = time.perf_counter()
    result = jax.block_until_ready(call())
    return result, time.perf_counter() - start


def cpu_seconds() -> tuple[float, float, float] | None:
    """Processor time of all programs (and what a virtual machine's host took), ours, and the time.

    None where the system is not Linux.
    """
    try:
        fields = Path("/proc/stat").read_text().split(maxsplit=9)[1:9]
    except OSError:
        return None
    user, nice, system, _, _, irq, softirq, steal = map(int, fields)
    busy = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    return busy, time.process_time(), time.perf_counter()


def other_programs(before: tuple | None, after: tuple | None) -> float | None:
    """How many cores other programs kept busy between two `cpu_seconds()`."""
    if before is None or after is None:
        return None
    busy, ours, wall = (b - a for a, b in zip(before, after, strict=True))
    return max(0.0, busy - ours) / wall


def close(what: str, ours: Any, theirs: Any, tolerance: float = 1e-3) -> None:
    """ValueError unless they agree to `tolerance` of the largest value (more with TF32 on GPUs)."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    if jax.default_backend() != "cpu":
        tolerance = min(20 * tolerance, 0.2)
    error = np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-6)
    if not error <= tolerance:
        raise ValueError(f"{what}: the two sides differ by {error:.2g} (relative): nothing to compare.")


def table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> str:
    """A Markdown table, aligned as text too; the first `left` columns to the left."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    pad = lambda i, cell: cell.ljust(widths[i]) if i < left else cell.rjust(widths[i])
    rule = [":" + "-" * (w - 1) if i < left else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    lines = [[pad(i, cell) for i, cell in enumerate(line)] for line in (header, *rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in (lines[0], rule, *lines[1:]))
