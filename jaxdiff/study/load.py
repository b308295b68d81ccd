"""What a study has made, given back: classifiers and score networks as functions of one example."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxdiff.checks import known
from jaxdiff.study.bound import Bound
from jaxdiff.study.study import planned

CONFIG = "config.json"  # of the last run in a workdir


def load(workdir: str | Path, *stages: str) -> dict[str, Callable]:
    """{stage: function} of a workdir: classifiers (x, key) -> logits, score networks as `ScoreModel`.

    Without names all networks that are finished. ValueError if there is no study, no such stage, or it is not finished.
    """
    config = config_of(workdir)
    for name in stages:
        known(f"The study in {workdir}", config["stages"], stage=name)
    found = {}
    for name in stages or config["stages"]:
        plan = planned(config, name)
        if not all(isinstance(plan.plans[other].shape, Bound) for other in plan.stages):
            if stages:
                raise ValueError(f"The stage {name!r} makes no network.")
            continue
        if not all((Path(workdir) / stage.folder).is_dir() for stage in plan.stages.values()):
            if stages:
                raise ValueError(f"The stage {name!r} has not been made in {workdir}.")
            continue
        found[name] = plan.make(workdir, finished=True)[name]()
    return found


def config_of(workdir: str | Path) -> dict[str, Any]:
    """The config of the last run in a workdir."""
    path = Path(workdir).expanduser() / CONFIG
    if not path.is_file():
        raise ValueError(
            f"There is no study in {str(workdir)!r}: it has no {CONFIG}. Run one there with python -m jaxdiff.study."
        )
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is unreadable ({error}); run the study again.") from error
