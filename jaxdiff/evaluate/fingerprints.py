"""One short string for everything a result depends on."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np


def plain(value: Any) -> Any:
    """`value` as JSON can hold it: configs and mappings as dicts, sequences as lists, numpy scalars as
    numbers.

    Non-finite numbers become strings, arrays a record of dtype, shape and SHA-256; raises TypeError for the
    rest.
    """
    if hasattr(value, "to_dict"):  # ml_collections.ConfigDict is no Mapping
        value = value.to_dict()
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if np.isfinite(value) else str(value)
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if hasattr(value, "__array__"):
        return digest(np.asarray(value))
    raise TypeError(f"A config holds plain values and arrays; got {type(value).__name__}: {value!r}.")


def digest(array: np.ndarray) -> dict[str, Any]:
    """What identifies an array: its dtype, shape and the SHA-256 of its bytes."""
    sha = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
    return {"dtype": str(array.dtype), "shape": list(array.shape), "sha256": sha}


def fingerprint(*parts: Any) -> str:
    """16 hex digits that change with any value in `parts` (configs, nested dicts and lists, arrays, numbers).

    The order of keys in a dict does not matter. Raises TypeError for what is neither plain nor an array.
    """
    text = json.dumps(plain(parts), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
