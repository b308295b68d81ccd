"""What a network is made with is checked when it is made, not when it is first called."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxdiff import checks
from jaxdiff.models.layers import activation, check_normalisation


def check_classifier(
    who: str,
    classes: Any,
    mean: Any,
    std: Any,
    dtype: Any,
    axis_name: Any = None,
    act: Any = "relu",
) -> None:
    """ValueError unless these can be the arguments of a classifier that they are named after."""
    checks.count(who, 2, classes=classes)
    check_normalisation(mean, std)
    check_dtype(who, dtype)
    activation(act)
    if axis_name is not None:
        checks.instance(who, str, "'batch' (or None)", axis_name=axis_name)


def check_dtype(who: str, dtype: Any) -> None:
    """ValueError unless `dtype` is None or names floating point numbers."""
    try:
        fine = dtype is None or jnp.issubdtype(jnp.dtype(dtype), jnp.floating)
    except TypeError:
        fine = False
    if not fine:
        raise ValueError(
            f"{who} computes in a floating point dtype, such as 'bfloat16', or None; got {dtype!r}."
        )


def check_counts(who: str, least: int = 1, empty: bool = False, **values: Any) -> None:
    """ValueError unless every value is a sequence, not (or perhaps) `empty`, of whole numbers of at least `least`."""
    for name, value in values.items():
        good = isinstance(value, Sequence | np.ndarray) and not isinstance(value, str)
        if not good or not (empty or len(value)):
            raise ValueError(
                f"{who} needs {name} as a sequence of whole numbers, such as (16, 32); got {value!r}."
            )
        for i, entry in enumerate(value):
            checks.count(who, least, **{f"{name}[{i}]": entry})


def freeze(module: Any, *names: str) -> None:
    """Makes tuples of the fields `names` of a module that is being made, so that it can be hashed."""
    for name in names:
        object.__setattr__(module, name, tuple(getattr(module, name)))
