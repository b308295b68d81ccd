"""Studies: a config of stages, all planned before the first one begins, and what is missing made.

A task is a function from the arguments of its stage to a `Plan`. Planning checks and traces everything, with products of which
only the shapes are known, and costs next to nothing; making happens in the folder of the stage, and begins where an earlier run
has ended. So every error that can be known is told before anything is trained.
"""

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from jaxdiff import checks
from jaxdiff.data.dataset import Dataset
from jaxdiff.evaluate.fingerprints import fingerprint, plain
from jaxdiff.keys import purpose
from jaxdiff.study.claim import claimed
from jaxdiff.study.override import field, with_value
from jaxdiff.study.parts import asked, build, completed, is_part
from jaxdiff.study.side_by_side import side_by_side
from jaxdiff.study.stage import Stage, in_order
from jaxdiff.study.variants import varied
from jaxdiff.types import PRNGKey

FIELDS = ("seed", "data", "stages", "axes")


class Made(NamedTuple):
    """A stage whose product is there, and the folder that it is in."""

    stage: Stage
    folder: Path


class Run(NamedTuple):
    """What a stage is made with: a folder of its own in a workdir, a key that is that of no other stage, and all stages, by
    their names, that it needs, directly or through others. `common` changes with data and seed.
    """

    name: str
    folder: Path
    key: PRNGKey
    seed: int
    workdir: Path
    finished: bool = False  # only what is finished is given, and nothing made
    common: str = ""
    made: Mapping[str, Made] = {}
    line: int = 0  # of a progress bar
    stop_if_asked: Callable[[], None] = lambda: None  # raises if what runs beside has failed


class Plan(NamedTuple):
    """What a task says before it works: its product with shapes in place of arrays, and how the product is made."""

    shape: Any
    make: Callable[[Run], Any]


def study(
    variant: str = "",
    *,
    seed: int,
    data: Any,
    stages: Mapping[str, Any],
    axes: Mapping[str, Sequence[Any]] | None = None,
) -> ConfigDict:
    """The locked config of a study: `data` is a part that lacks its `split`, `stages` are parts of tasks by their names.

    `axes` are the values that a sweep gives to fields of the config, by dotted paths: {"seed": range(3), "stages.score.kind":
    ("eps", "v")}. The variant "smoke" makes everything small, see `variants`. ValueError for another one, for what is no stage,
    and for an axis that can not be.
    """
    checks.count("A study", 0, 2**32 - 1, seed=seed)
    tree = completed({"seed": seed, "data": data, "stages": dict(stages), "axes": ()})
    in_order(tree.stages)
    tree.axes = checked_axes(tree, axes or {})
    return varied(tree, variant).lock()


def checked_axes(config: ConfigDict, axes: Mapping[str, Sequence[Any]]) -> tuple[tuple[str, tuple], ...]:
    """(path, values) of every axis; ValueError for a path that is none, no values, equal ones, or one that does not fit."""
    found = []
    for path, values in axes.items():
        field(config, path)
        if isinstance(values, str) or not isinstance(values, Sequence) or not values:
            raise ValueError(f"The axis {path!r} has values, such as (0, 1, 2); got {values!r}.")
        if len({repr(value) for value in values}) < len(values):
            raise ValueError(f"The axis {path!r} has a value twice: {list(values)}.")
        for value in values:
            with_value(config, path, value)
        found.append((path, tuple(values)))
    return tuple(found)


class Planned(NamedTuple):
    """A study of which everything is planned: its stages in order, what each will do, and the products, of which only the
    shapes are known until they are made.
    """

    config: ConfigDict
    stages: dict[str, Stage]
    plans: dict[str, Plan]
    products: dict[str, Any]

    def make(self, workdir: str | Path, finished: bool = False) -> dict[str, Any]:
        """{stage: product}: makes what is missing in `workdir`, in order, on a CPU two stages at a time; nothing if all have to
        be `finished`.
        """
        workdir, made, seed = Path(workdir), {}, self.config["seed"]
        common = fingerprint(_common(self.config))

        def work(name: str, line: int, stop_if_asked: Callable[[], None]) -> None:
            stage = self.stages[name]
            # What asked for a product itself, and not for a part to build later, has seen its shape alone.
            plan = _plan(self.config, stage, self.products) if asked(stage.spec) else self.plans[name]
            needed = {other: made[other] for other in _wanted(self.stages, *stage.needs)}
            with claimed(workdir / stage.folder, _record(stage, common, self.stages)) as folder:
                key = purpose(jax.random.key(seed), name)
                run = Run(name, folder, key, seed, workdir, finished, common, needed, line, stop_if_asked)
                self.products[name] = plan.make(run)
            made[name] = Made(stage, folder)
            _point(workdir / name, folder.name)

        beside = jax.default_backend() == "cpu" and jax.local_device_count() > 1 and jax.process_count() == 1
        needs = {name: [n for n in stage.needs if n in self.stages] for name, stage in self.stages.items()}
        side_by_side(needs, work, 2 if beside else 1)
        return {name: self.products[name] for name in self.stages}


def planned(config: Any, only: str | None = None) -> Planned:
    """All stages of a study, or those that the stage `only` needs, in order, with what they will do.

    Nothing is made. ValueError, and any error of a task, with the stage that it is about.
    """
    if not is_study(config):
        raise ValueError(
            f"A study has the fields {FIELDS}, as `study.study(...)` makes them; got {config!r:.200}."
        )
    config = completed(config)  # also what was replaced whole on a command line
    every = in_order(config["stages"], _common(config))
    stages = {name: every[name] for name in _wanted(every, *(every if only is None else [only]))}
    plans, products = {}, {}
    for name, stage in stages.items():
        plans[name] = _plan(config, stage, products)
        products[name] = plans[name].shape
    return Planned(config, stages, plans, products)


def run(config: Any, workdir: str | Path, only: str | None = None) -> dict[str, Any]:
    """{stage: product}: plans all, then makes what is missing in `workdir`."""
    return planned(config, only).make(workdir)


def is_study(config: Any) -> bool:
    """Whether it has the fields of one."""
    return isinstance(config, Mapping | ConfigDict) and set(config) == set(FIELDS)


def _record(stage: Stage, common: str, stages: Mapping[str, Stage]) -> dict[str, Any]:
    """What the folder of a stage says that it is."""
    needs = {name: stages[name].digest for name in stage.needs}
    return {"stage": stage.name, "common": common, "needs": needs, **plain(stage.spec)}


def _common(config: Any) -> tuple[Any, int]:
    """What all stages depend on."""
    return config["data"], config["seed"]


def _plan(config: Any, stage: Stage, products: Mapping[str, Any]) -> Plan:
    try:
        plan = build(stage.spec, products, data=_splits(config["data"]))
        checks.instance("A task", Plan, "Plan(shape, make)", **{"what it returns": plan})
    except Exception as error:
        error.add_note(f"in the stage {stage.name!r}")
        raise
    return plan


def _splits(spec: Any) -> Callable[[str], Dataset]:
    """split -> the data of it."""
    if not is_part(spec):
        raise ValueError(f"The data of a study is a part, such as part(data.dataset.digits); got {spec!r}.")
    return lambda split: build(spec, split=split)


def _wanted(stages: Mapping[str, Stage], *names: str) -> list[str]:
    """These stages and all that they need, directly or through others."""
    for name in names:
        checks.known("The study", stages, stage=name)
    wanted = list(names)
    for name in wanted:  # grows as it goes
        wanted += [other for other in stages[name].needs if other not in wanted]
    return [name for name in stages if name in wanted]


def _point(link: Path, folder: str) -> None:
    """A link from the name of a stage to the folder of its latest making, for people, where the system has links."""
    fresh = link.with_name(f".{link.name}.{os.getpid()}")
    with contextlib.suppress(OSError):
        if link.is_symlink() or not link.exists():
            fresh.symlink_to(folder, target_is_directory=True)
            fresh.replace(link)
