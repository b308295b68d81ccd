"""The stage that attacks: victims x cells, each image once, every outcome in a ledger; table, figures and report."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxdiff.data.dataset import Dataset
from jaxdiff.keys import purpose
from jaxdiff.study.claim import record_of
from jaxdiff.study.parts import Aside, Later
from jaxdiff.study.study import Plan, Run
from jaxdiff.study.table.contents import contents
from jaxdiff.study.table.make import CELLS, make_table
from jaxdiff.study.table.run import Setting, drawn_ids, rounded, width


def table(
    data: Callable[[str], Dataset],
    victims: Mapping[str, Any],
    cells: Mapping[str, Any],
    n: int | None = None,
    split: str = "test",
    curves: Mapping[str, Any] | None = None,
    checks: Mapping[str, Any] | None = None,
    minima: bool = False,
    reference: Aside[Mapping[str, Any] | None] = None,
    pictures: Aside[Later | None] = None,
    panel: Aside[Sequence[str]] = (),
    show: Aside[int] = 8,
    batch_size: Aside[int] = 128,
    slots: Aside[int | None] = None,
) -> Plan:
    """The table of victims x cells on the first `n` images of a seeded permutation of a split, by default all.

    There is always a column without an attack. `curves` are cells over the radius, `checks` examine the victims; with `minima`
    there are columns of the minimum over the attacks within each threat, image by image, and of the union over threats.
    `reference` holds published accuracies, {victim: {column: fraction}}. `pictures` are products of stages that draw, to be
    shown in the report; `panel` are patterns of "victim/column" to be drawn on the images that fell most often; without it the
    strongest attack on each victim is drawn on the first `show` images. ValueError for what can not run, before anything does.
    """
    test = data(split)
    drawn_ids(test, len(test) if n is None else n, 0)  # says now if there are fewer
    size, slots = rounded(batch_size), width(slots, batch_size)
    told = contents(victims, cells, test, curves, checks, minima, reference, panel, show)

    def make(run: Run) -> None:
        ids = drawn_ids(test, len(test) if n is None else n, run.seed)
        key = purpose(run.key, "table")
        digests = {name: made.stage.digest for name, made in run.made.items()}
        setting = Setting(test, ids, key, size, slots, run.workdir / CELLS, run.common, digests)
        config = {name: made.stage.spec for name, made in run.made.items()} | {
            run.name: record_of(run.folder)
        }
        drawn = pictures() if pictures else ()
        make_table(told, setting, run.folder, run.made, drawn, config, run.seed)

    return Plan(None, make)
