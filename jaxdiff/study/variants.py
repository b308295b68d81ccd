"""Variants of a study that follow from it by a rule."""

from typing import Any

from ml_collections import ConfigDict

from jaxdiff import checks

SMALL = {  # at most
    "steps": 3, "n": 4, "queries": 8, "batch_size": 4, "draws": 2, "restarts": 2, "warmup": 1, "checkpoint_every": 2,
    "budget": 44, "samples": 4, "generations": 2, "population": 8, "search_steps": 2, "show": 2,
}  # fmt: skip
KEPT = ("process",)  # what a network learns is not work
VARIANTS = ("", "default", "smoke")


def varied(config: ConfigDict, variant: str) -> ConfigDict:
    """The config itself, or "smoke": the same with every count of work small, to see in seconds that all of it runs."""
    checks.known("A study", VARIANTS, variant=variant)
    if variant != "smoke":
        return config
    axes = tuple((path, values[:2]) for path, values in config["axes"])
    small = _shrunk(config)
    small["axes"] = axes
    return small


def _shrunk(tree: Any) -> Any:
    if isinstance(tree, list | tuple):
        return tuple(map(_shrunk, tree))
    if not isinstance(tree, ConfigDict):
        return tree
    for name, value in tree.items():
        whole = isinstance(value, int) and not isinstance(value, bool)
        if name in SMALL and (whole or (name == "n" and value is None)):  # no n: all there are
            tree[name] = SMALL[name] if value is None else min(value, SMALL[name])
        elif name not in KEPT:
            tree[name] = _shrunk(value)
    return tree
