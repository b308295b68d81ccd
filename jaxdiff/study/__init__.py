"""Studies: from a config to a table. What is here so far: the grammar of configs, bound functions, and stages.

`part(attacks.pgd, steps=20)` writes a part of a config, `build` makes what it stands for, `in_order` says which stages of a
config need which, and by which digest the product of each is known.
"""

from jaxdiff.study.bound import Bound
from jaxdiff.study.parts import build, completed, part
from jaxdiff.study.stage import Stage, in_order

__all__ = ["Bound", "Stage", "build", "completed", "in_order", "part"]
