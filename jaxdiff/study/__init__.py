"""Studies: from a config to a table.

`part(attacks.pgd, steps=20)` writes a part of a config, `study(...)` a config of stages, each a part of a task (see `tasks`);
`planned` says what they will do, `run` makes what is missing, `sweep` the variants along the axes of a config, and `load` gives
back the networks that were made. `robustness` makes a table of anybody's classifiers, with no config. From a command line:
python -m jaxdiff.study.
"""

from jaxdiff.study import tasks
from jaxdiff.study.bound import Bound
from jaxdiff.study.claim import Busy
from jaxdiff.study.load import load
from jaxdiff.study.names import function_of, name_of
from jaxdiff.study.parts import Aside, Later, build, completed, part
from jaxdiff.study.robustness import robustness
from jaxdiff.study.stage import Stage, in_order
from jaxdiff.study.study import Plan, Run, planned, run, study
from jaxdiff.study.sweep import sweep, variants_of

__all__ = [
    "Aside",
    "Bound",
    "Busy",
    "Later",
    "Plan",
    "Run",
    "Stage",
    "build",
    "completed",
    "function_of",
    "in_order",
    "load",
    "name_of",
    "part",
    "planned",
    "robustness",
    "run",
    "study",
    "sweep",
    "tasks",
    "variants_of",
]
