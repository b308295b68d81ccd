"""Sweeps: the variants of a study along its axes, made one after the other in one workdir, and all their numbers in one table.

`axes={"seed": (0, 1, 2), "stages.score.kind": ("eps", "v")}` are six variants. Stages that variants have in common are made
once: they lie in folders of what they depend on.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jaxdiff.study.gather import gathered, write_results, write_summary
from jaxdiff.study.override import with_value
from jaxdiff.study.study import planned

SEED = "seed"


def axes_of(config: ConfigDict) -> dict[str, tuple]:
    """{dotted path: values} of a study."""
    return {path: tuple(values) for path, values in config["axes"]}


def variants_of(config: ConfigDict) -> list[tuple[dict[str, Any], ConfigDict]]:
    """(setting, config) of every variant; without axes the config itself is the only one."""
    axes, found = axes_of(config), []
    for values in itertools.product(*axes.values()):
        setting, variant = dict(zip(axes, values, strict=True)), config
        for path, value in setting.items():
            variant = with_value(variant, path, value)
        found.append((setting, variant))
    return found


def sweep(config: ConfigDict, workdir: Path, before: Callable[[], None] = lambda: None) -> Path:
    """Plans all variants, makes them, and writes results.csv, sweep.md and figures; returns the path of sweep.md.

    ValueError for a config without axes. `before` is called once everything is planned.
    """
    axes = axes_of(config)
    if not axes:
        raise ValueError("A sweep needs axes: study(..., axes={'seed': (0, 1, 2)}).")
    variants = variants_of(config)
    plans = [planned(variant) for _, variant in variants]
    before()
    rows: list[dict[str, Any]] = []
    names = {path: shown(values) for path, values in axes.items()}
    settings = [{p: names[p][repr(v)] for p, v in setting.items()} for setting, _ in variants]
    for number, (setting, plan) in enumerate(zip(settings, plans, strict=True), 1):
        print(f"variant {number} of {len(variants)}: {', '.join(f'{p} = {v}' for p, v in setting.items())}")
        plan.make(workdir)
        rows = gathered(settings, [plan.stages for plan in plans], workdir, number)
        write_results(workdir / "results.csv", rows, list(axes))
    return write_summary(workdir, rows, {path: list(names[path].values()) for path in axes}, SEED)


def shown(values: Sequence[Any]) -> dict[str, Any]:
    """{repr: value as people read it} of an axis: of a part its name, with its arguments where names are alike."""
    parts = [value for value in values if isinstance(value, Mapping | ConfigDict)]
    names = [str(value.get("name", "")).rpartition(".")[2] for value in parts]
    told = iter(names if len(set(names)) == len(names) else [_whole(value) for value in parts])
    return {
        repr(v): next(told)
        if isinstance(v, Mapping | ConfigDict)
        else v
        if isinstance(v, int | float)
        else str(v)
        for v in values
    }


def _whole(value: Any) -> str:
    if not isinstance(value, Mapping | ConfigDict):
        return str(value)
    more = ", ".join(f"{k}={_whole(v)}" for k, v in value.items() if k != "name")
    return f"{str(value.get('name', '')).rpartition('.')[2]}({more})"
