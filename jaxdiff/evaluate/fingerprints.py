"""Values as JSON for people (`plain`), and one short string for everything a result depends on (`fingerprint`)."""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

TAG = "\0"  # the key of what JSON has no word for


def plain(value: Any) -> Any:
    """`value` as JSON can hold it, to be read: configs and mappings as dicts, sequences as lists, numpy scalars as numbers.

    Non-finite numbers become strings, arrays a record of dtype, shape and SHA-256. Different values may look the same here
    (NaN and "nan", the keys 1 and "1"): for identity take `fingerprint`. Raises ValueError for the rest.
    """
    value = _contents(value)
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return _array(value)


def digest(array: np.ndarray) -> dict[str, Any]:
    """What identifies an array: its dtype, shape and the SHA-256 of its bytes."""
    sha = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
    return {"dtype": str(array.dtype), "shape": list(array.shape), "sha256": sha}


def fingerprint(*parts: Any) -> str:
    """16 hex digits that change with any value in `parts` (configs, nested dicts and lists, arrays, numbers).

    Types count, for they decide what is computed: 1, 1.0, True and "1" are four values, and a numpy scalar is an array without
    axes, so that float32(1), float64(1) and Python's 1.0 (which takes the dtype that it meets) are three. So do the sign of
    zero, and NaN beside "nan". The order of keys in a dict does not matter, nor whether a sequence is a list or a tuple (JSON
    knows one). Raises ValueError for what is neither plain nor an array.
    """
    text = json.dumps(_told_apart(parts), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _told_apart(value: Any) -> Any:
    """`value` as JSON that differs wherever values differ in type or value."""
    value = _contents(value)
    if isinstance(value, Mapping):
        if TAG not in value and all(isinstance(k, str) for k in value):
            return {str(k): _told_apart(v) for k, v in value.items()}
        return {TAG: sorted(([_told_apart(k), _told_apart(v)] for k, v in value.items()), key=json.dumps)}
    if isinstance(value, (list, tuple)):
        return [_told_apart(v) for v in value]
    if isinstance(value, np.generic):  # before float and str: float64 and str_ are kinds of these
        return digest(np.asarray(value))
    if isinstance(value, float) and not math.isfinite(value):
        return {TAG: str(value)}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return _array(value)


def _contents(value: Any) -> Any:
    return value.to_dict() if hasattr(value, "to_dict") else value  # ml_collections.ConfigDict is no Mapping


def _array(value: Any) -> dict[str, Any]:
    array = np.asarray(value) if hasattr(value, "__array__") else None
    if array is None or array.dtype.hasobject:  # the bytes of objects are their addresses
        raise ValueError(f"A config holds plain values and arrays; got {type(value).__name__}: {value!r}.")
    return digest(array)
