import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from jaxdiff.evaluate import fingerprint

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


def test_rejects_functions():
    with pytest.raises(TypeError, match="plain values"):
        fingerprint({"attack": print})
