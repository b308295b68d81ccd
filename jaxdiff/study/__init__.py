"""Studies: from a config to products. What is here so far: the grammar of configs, and stages that are made once.

`part(attacks.pgd, steps=20)` writes a part of a config, `study(...)` a config of stages; `planned` says what they will do, and
`run` makes what is missing. A task is a function from the arguments of a stage to a `Plan`.
"""

from jaxdiff.study import tasks
from jaxdiff.study.bound import Bound
from jaxdiff.study.claim import Busy
from jaxdiff.study.names import function_of, name_of
from jaxdiff.study.parts import Aside, Later, build, completed, part
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
    "name_of",
    "part",
    "planned",
    "run",
    "study",
    "sweep",
    "tasks",
    "variants_of",
]
