import json

import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from jaxdiff.evaluate import fingerprint
from jaxdiff.evaluate.fingerprints import plain

CONFIG = {
    "attack": {"name": "pgd", "steps": 20, "radius": 8 / 255},
    "sizes": [1, 2],
    "none": None,
    "on": True,
}


def test_depends_on_values_and_not_on_the_order_of_keys_or_the_container():
    turned = dict(reversed(CONFIG.items()))
    assert fingerprint(CONFIG) == fingerprint(turned) == fingerprint(ml_collections.ConfigDict(CONFIG))
    assert fingerprint({"a": 1}, 2) != fingerprint({"a": 1}, 3)


@pytest.mark.parametrize(
    "other",
    [
        CONFIG | {"on": False},
        CONFIG | {"sizes": [2, 1]},
        CONFIG | {"attack": CONFIG["attack"] | {"radius": np.nextafter(8 / 255, 1)}},
        {k: v for k, v in CONFIG.items() if k != "none"},
    ],
)
def test_changes_with_every_value(other):
    assert fingerprint(other) != fingerprint(CONFIG)


def test_parameters_count_to_the_last_bit():
    params = {"kernel": np.ones((2, 3), np.float32), "bias": jnp.zeros(3)}
    moved = params | {"kernel": params["kernel"] + np.float32(1e-7) * np.eye(2, 3, dtype=np.float32)}
    turned = params | {"kernel": params["kernel"].T}
    prints = {fingerprint(CONFIG, p) for p in (params, moved, turned)}
    assert len(prints) == 3 and fingerprint(CONFIG, dict(params)) in prints


def test_rejects_what_has_no_bytes_of_its_own():
    """Functions, and arrays of objects: the bytes of these are addresses, another in every process."""
    for value in (print, np.array([None, "a"], object), {1, 2}, b"x"):
        with pytest.raises(ValueError, match="plain values"):
            fingerprint({"attack": value})


ONES = {
    "int": 1, "float": 1.0, "bool": True, "str": "1", "none": None, "float32": np.float32(1), "float64": np.float64(1),
    "int32": np.int32(1), "bool_": np.bool_(True), "list": [1], "array": np.ones(1, np.float32), "half": jnp.bfloat16(1),
    "nested": [[1]], "key": {1: 1}, "word key": {"1": 1}, "true key": {True: 1}, "float key": {1.0: 1},
}  # fmt: skip
NAMELESS = {
    "nan": np.nan, "'nan'": "nan", "float32 nan": np.float32(np.nan), "inf": np.inf, "-inf": -np.inf, "'inf'": "inf",
    "0": 0.0, "-0": -0.0, "int 0": 0, "array -0": np.array([-0.0]), "array 0": np.array([0.0]), "{}": {}, "[]": [],
    "''": "", "empty": np.zeros(0), "empty rows": np.zeros((0, 2)), "record": {"\0": "nan"},
}  # fmt: skip


@pytest.mark.parametrize("values", [ONES, NAMELESS])
def test_values_of_another_type_are_other_values(values):
    """1, 1.0, True, "1" and the ones of numpy are all different, deep in a config too; so are NaN and "nan", 0 and -0."""
    for wrap in (lambda v: v, lambda v: {"a": [0, {"b": v}]}):
        assert len({fingerprint(wrap(value)) for value in values.values()}) == len(values)


def test_a_dtype_is_told_apart_where_the_number_is_the_same():
    """The bytes of these arrays are zeros of the same length, or the very same."""
    arrays = [np.zeros(2, t) for t in (np.float32, np.int32, np.uint32, np.bool_)] + [
        np.zeros((2, 1), np.float32)
    ]
    assert len({fingerprint(a) for a in arrays}) == len(arrays)
    assert (
        fingerprint(np.float32(0.5))
        == fingerprint(np.array(0.5, np.float32))
        == fingerprint(jnp.float32(0.5))
    )


def test_tuples_are_lists_and_nan_is_itself():
    """What JSON cannot tell apart when a config comes back from disk is one value."""
    assert fingerprint({"a": (1, (2,))}) == fingerprint({"a": [1, [2]]})
    assert fingerprint(float("nan")) == fingerprint(np.nan)
    assert fingerprint({1: 2, 3: 4}) == fingerprint({3: 4, 1: 2})


def test_plain_is_for_reading():
    """Numbers stay numbers there, so that a table can be read; JSON has no NaN, so that is a word."""
    found = plain({"a": np.float32(0.5), "b": (np.int64(2), True), "c": float("nan"), "d": -np.inf, 5: None})
    assert found == {"a": 0.5, "b": [2, True], "c": "nan", "d": "-inf", "5": None}
    assert type(found["a"]) is float and type(found["b"][0]) is int and json.dumps(found, allow_nan=False)
