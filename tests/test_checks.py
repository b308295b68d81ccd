"""The checks of input: what is wrong is named with what was expected and what to do; what is right passes as an array."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import checks

IMAGE = np.linspace(0, 1, 12, dtype=np.float32).reshape(2, 2, 3)
KEY = jax.random.key(0)
linear = lambda x, key: jnp.ones(4) * x.sum()


def factory():
    return lambda logits, y: 0.0


BAD = {
    "uint8 image": (lambda: checks.image("f", (IMAGE * 255).astype(np.uint8)), "uint8", "255"),
    "integer image": (lambda: checks.image("f", np.ones((2, 2), np.int64)), "int", "astype"),
    "image of words": (lambda: checks.image("f", ["a"]), "Images are arrays of numbers"),
    "image of nothing": (lambda: checks.image("f", None), "None"),
    "no pixels": (lambda: checks.image("f", IMAGE[:0]), "pixels"),
    "signed image": (lambda: checks.image("f", 2 * IMAGE - 1), "min -1", "(images + 1) / 2"),
    "bytes": (lambda: checks.images("f", 255 * IMAGE), "max 255", "divide by 255"),
    "rounded": (lambda: checks.images("f", IMAGE + np.float32(1e-3)), "max 1.001", "clip(0, 1)"),
    "nan": (lambda: checks.image("f", IMAGE * np.nan), "finite"),
    "flat batch": (lambda: checks.images("f", np.ones(3, np.float32)), "[B, ...]", "x[None]"),
    "labels from 1": (lambda: checks.labels("f", np.arange(1, 11), 10, 10), "0 and 9", "got 10", "y - 1"),
    "label 255": (lambda: checks.label("f", np.int32(255), 10), "0 and 9", "got 255"),
    "label -1": (lambda: checks.labels("f", np.array([-1, 2]), 2), "at least 0", "got -1"),
    "float labels": (lambda: checks.labels("f", np.ones(2, np.float32), 2), "integers", "float32", "astype"),
    "one-hot": (lambda: checks.labels("f", np.eye(3, dtype=int), 3), "(3, 3)", "argmax(axis=1)"),
    "column": (lambda: checks.labels("f", np.ones((3, 1), int), 3), "(3, 1)", "y[:, 0]"),
    "too few labels": (lambda: checks.labels("f", np.ones(2, int), 3), "(3,)", "(2,)"),
    "one-hot label": (lambda: checks.label("f", np.array([0, 1]), 2), "argmax()"),
    "legacy key": (lambda: checks.key("f", jax.random.PRNGKey(0)), "uint32", "jax.random.key"),
    "seed": (lambda: checks.key("f", 3), "got 3", "jax.random.key"),
    "one key for all": (lambda: checks.keys("f", KEY, 3), "(3,)", "split"),
    "nan number": (lambda: checks.number("f", "[0, inf)", lr=float("nan")), "lr", "nan"),
    "infinite number": (lambda: checks.number("f", "[0, inf)", lr=jnp.inf), "lr", "[0, inf)"),
    "a word": (lambda: checks.number("f", "[0, 1]", lr="0.1"), "'0.1'"),
    "nothing": (lambda: checks.number("f", "[0, 1]", lr=None), "None"),
    "a truth": (lambda: checks.number("f", "[0, 1]", lr=True), "True"),
    "an array": (lambda: checks.number("f", "[0, 1]", lr=np.ones(3)), "array", "[3]"),
    "open end": (lambda: checks.number("f", "(0, 1]", lr=0.0), "(0, 1]"),
    "float count": (lambda: checks.count("f", steps=10.0), "steps", "whole", "10.0"),
    "zero count": (lambda: checks.count("f", steps=0), ">= 1", "0"),
    "true count": (lambda: checks.count("f", steps=True), "True"),
    "too many": (lambda: checks.count("f", 1, 3, n=4), "between 1 and 3", "4"),
    "name": (lambda: checks.known("f", ("linf", "l2"), norm="Linf"), "norm", "did you mean 'linf'"),
    "no name": (lambda: checks.known("f", ("linf", "l2"), norm=2), "2", "['l2', 'linf']"),
    "kind": (lambda: checks.instance("f", int, "3", steps="x"), "int", "such as 3", "'x'"),
    "no function": (lambda: checks.function("f", loss=3), "loss", "function", "3"),
    "argmax": (lambda: checks.logits_of("f", lambda x, k: jnp.argmax(x), IMAGE, KEY), "not the class"),
    "batched": (lambda: checks.logits_of("f", lambda x, k: x.sum((0, 1))[None], IMAGE, KEY), "model(x[None])[0]"),
    "no key": (lambda: checks.logits_of("f", lambda x: x.sum((0, 1)), IMAGE, KEY), "classifier(image, key)"),
    "flat": (lambda: checks.pixels("f", (16,)), '"h w c"', "(16,)", "flat"),
    "grey": (lambda: checks.pixels("f", (4, 4)), "x[..., None]"),
    "four axes": (lambda: checks.pixels("f", (2, 4, 4, 1)), "jax.vmap"),
    "too small": (lambda: checks.pixels("f", (2, 4, 1), 3), "at least 3 x 3", "(2, 4, 1)"),
    "factory": (lambda: checks.takes("f", "(logits, y)", 2, objective=factory), "(logits, y)", "factory()"),
    "other arguments": (lambda: checks.takes("f", "(logits, y)", 2, objective=lambda a: a), "objective"),
    "empty set": (lambda: checks.batch("f", linear, IMAGE[None][:0], np.zeros(0, int), KEY), "at least one image"),
    "wrong labels": (lambda: checks.batch("f", linear, IMAGE[None], np.array([4]), KEY), "between 0 and 3"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_refused_in_words(case):
    call, *words = BAD[case]
    with np.errstate(invalid="ignore"), pytest.raises(ValueError) as error:
        call()
    for word in words:
        assert word in str(error.value)


def test_what_is_right_passes():
    assert isinstance(checks.image("f", IMAGE), jax.Array)
    assert checks.images("f", IMAGE[:0]).shape == (0, 2, 3)
    assert checks.labels("f", np.array([0, 3]), 2, 4).tolist() == [0, 3]
    assert checks.logits_of("f", linear, IMAGE, KEY) == 4
    found = checks.number("f", "[0, inf]", radius=jnp.inf, lr=np.float64(0.1), half=jnp.asarray(0.5))
    assert found == (np.inf, 0.1, 0.5) and {type(number) for number in found} == {float}
    assert checks.number("f", "[0, 1]", radius=np.float64(0.1)) == 0.1
    checks.count("f", steps=np.int64(3))
    checks.pixels("f", (3, 4, 1), 3)
    checks.takes("f", "(logits, y)", 2, objective=factory(), power=pow)
    x, y, k = checks.batch("f", linear, IMAGE[None], np.array([3]), KEY)
    assert isinstance(x, jax.Array) and isinstance(y, jax.Array) and k is KEY


def test_traced_values_pass_and_types_do_not():
    assert jax.jit(lambda x: checks.image("f", x))(2 * IMAGE).max() == 2
    assert jax.jit(lambda r: checks.number("f", "[0, 1]", radius=r))(3.0) == 3.0
    with pytest.raises(ValueError, match="uint8"):
        jax.jit(lambda x: checks.image("f", x))(IMAGE.astype(np.uint8))


CORNERS = [(0.0, 0), (1.0, 3), (1.001, 0), (-0.001, 0), (np.nan, 0), (0.5, 4), (0.5, -1)]


@pytest.mark.parametrize(("x", "y", "fine"), [(*c, i < 2) for i, c in enumerate(CORNERS)])
def test_believable(x, y, fine):
    image = jnp.asarray(IMAGE).at[0, 1, 2].set(x)
    assert jax.jit(checks.believable, static_argnums=2)(image, jnp.asarray(y), 4) == fine


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int16, np.uint32, np.int64])
def test_a_label_of_few_bits_is_one_of_many_classes(kind):
    """In int8 there is no 1000 that 1 could be below, and in uint8 1000 is 232."""
    assert checks.believable(jnp.asarray(IMAGE), jnp.asarray(kind(101)), 1000)
    assert checks.labels("f", np.array([101, 1], kind), 2, 1000).tolist() == [101, 1]
    traced_one = jax.jit(lambda y: checks.believable(jnp.asarray(IMAGE), checks.label("f", y, 1000), 1000))
    assert traced_one(kind(101))


def test_logits_in_place_of_a_label_are_not_a_label():
    assert checks.believable(jnp.asarray(IMAGE), jnp.array([9.0, -3.0]), 2)


def test_known_values_are_checked_while_something_else_is_traced():
    """Arrays that a compiled function closes over have values; what it is called with has none."""
    x, y = jnp.asarray(IMAGE), jnp.array([0, 1])
    signed, large = 2 * x - 1, jnp.array([0, 5])
    assert jax.jit(lambda k: checks.image("f", x) + k)(0.0).shape == x.shape
    assert jax.jit(lambda k: checks.labels("f", y, 2, 10) + k)(0).shape == (2,)
    with pytest.raises(ValueError, match="min -1"):
        jax.jit(lambda k: checks.image("f", signed) + k)(0.0)
    with pytest.raises(ValueError, match="between 0 and 1"):
        jax.jit(lambda k: checks.labels("f", large, 2, 2) + k)(0)


def test_names_of_users_are_no_arguments():
    """An attack may be called "who"."""
    checks.number("f", "[0, 1]", who=0.5, interval=0.5)
    for check in (checks.count, checks.function):
        with pytest.raises(ValueError, match="f needs who"):
            check("f", who="x")
