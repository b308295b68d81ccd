"""What a network is told beside the image and its time: functions (example, key) -> {argument of the network: value}.

Told nothing some of the time, a network learns the density with and without (Ho and Salimans 2022, arXiv 2207.12598, section
3.2), which classifier-free guidance needs. At sampling the same arguments are closed over: see `guidance.of_class`.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxdiff import checks
from jaxdiff.types import PRNGKey

__all__ = ["NO_CLASS", "label"]

NO_CLASS = -1
Condition = Callable[[Mapping[str, Any], PRNGKey], dict[str, Any]]


def label(drop: float = 0.1) -> Condition:
    """y, the label of the example, or -1, no class, with probability `drop`."""
    checks.number("label", "[0, 1]", drop=drop)
    return partial(_label, drop)


def nothing() -> Condition:
    """Nothing."""
    return _nothing


def _label(drop: float, example: Mapping[str, Any], key: PRNGKey) -> dict[str, Any]:
    dropped = jax.random.uniform(key) < drop
    return {"y": jnp.where(dropped, NO_CLASS, example["label"])}


def _nothing(example: Mapping[str, Any], key: PRNGKey) -> dict[str, Any]:
    return {}
