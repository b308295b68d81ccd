"""Every attack at the edges, one pixel, two or a thousand classes, numpy arrays: it works, or refuses in words."""

import jax
import jax.numpy as jnp
import numpy as np
import numpy_attacks
import pytest
import refusals
from every_attack import ATTACKS, linear, run
from rows import slow_but

KEY = jax.random.key(0)
# (image, classes)
EDGES = {
    "one pixel": ((1, 1, 1), 3),
    "a row": ((1, 5, 2), 3),
    "two classes": ((4, 4, 1), 2),
    "two channels": ((5, 4, 2), 3),
    "a thousand classes": ((4, 4, 1), 1000),
}
# What is said where an attack can not be: an image too small, or a surrogate and a universal perturbation of another.
REFUSED = {
    ("square_l2", "one pixel"): "at least 3 x 3",
    ("square_l2", "a row"): "at least 3 x 3",
    ("square_l1", "one pixel"): "at least 3 x 3",
    ("square_l1", "a row"): "at least 3 x 3",
}
FIXED = ("transfer", "universal", "patch")  # made for one shape
QUICK = [
    ("fab", "two classes"),
    ("pixels", "one pixel"),
    ("hop_skip_jump", "one pixel"),
    ("worst_of_k", "a row"),
]


def _problem(edge):
    shape, classes = EDGES[edge]
    x = jnp.asarray(0.5 + 0.1 * np.random.default_rng(1).normal(size=shape).clip(-2, 2), jnp.float32)
    classifier = linear(classes, x.size)
    return classifier, x, jnp.argmax(classifier(x, None))


@pytest.mark.parametrize("edge", slow_but(EDGES, "one pixel", "a row", "two classes", "a thousand classes"))
@pytest.mark.parametrize("name", [name for name in ATTACKS if name not in FIXED])
def test_every_attack_is_traced_or_refuses(name, edge):
    row, (classifier, x, y) = ATTACKS[name](), _problem(edge)
    trace = lambda: jax.eval_shape(lambda x, y: run(row, classifier, x, y, KEY), x, y)
    if (name, edge) in REFUSED:
        with pytest.raises(ValueError, match=REFUSED[name, edge]):
            trace()
    else:
        out, _ = trace()
        assert out.shape == x.shape


CASES = [
    (name, edge) for name in ATTACKS for edge in EDGES if name not in FIXED and (name, edge) not in REFUSED
]


@pytest.mark.parametrize(("name", "edge"), slow_but(CASES, *QUICK))
def test_every_attack_works(name, edge):
    """The result is an image, and what is told of it is what the classifier says."""
    row, (classifier, x, y) = ATTACKS[name](), _problem(edge)
    y = (y + 1) % EDGES[edge][1] if row.targeted else y
    found, won = jax.jit(lambda x, y: run(row, classifier, x, y, KEY))(x, y)
    assert jnp.all((found >= 0) & (found <= 1))
    if won is not None:
        seen = jnp.argmax(classifier(found, None))
        assert won == ((seen == y) if row.targeted else (seen != y))


told = refusals.fixture("attacks/numpy_attacks.py")


@pytest.mark.parametrize("name", numpy_attacks.NUMPY)
def test_numpy_arrays_are_jax_arrays(told, name):
    assert told[name] == ["", "'the same'"]


@pytest.mark.parametrize("name", numpy_attacks.PRECISE)
def test_numbers_of_numpy_leave_images_their_precision(told, name):
    assert told[name] == ["", "'float32 bfloat16'"]
