"""The code of README.md runs as printed and does what the text says, on models with a known answer."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

README = Path(__file__).parents[1] / "README.md"
RADIUS = 8 / 255
IMAGES = jax.random.uniform(jax.random.key(1), (4, 6, 6, 1), minval=0.2, maxval=0.8)


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Compiling takes nearly all of the time here."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="module")
def blocks():
    return re.findall(r"^```python\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)


def _scores(w, x):
    return x.reshape(len(x), -1) @ w


def test_every_block_is_tested_here(blocks):
    first, second = blocks
    assert "my_model" in first and "purify" in second


def test_ten_lines_give_the_robust_accuracy_of_a_linear_model(blocks, capsys):
    """An image falls if a class gains more than its lead within the radius: radius |w_k - w_y|_1, far from the box."""
    w = np.asarray(jax.random.normal(jax.random.key(2), (36, 10)) / 6)
    gain = RADIUS * np.abs(w[:, :, None] - w[:, None, :]).sum(0)
    scores = _scores(w, np.asarray(IMAGES))
    labels = scores.argmax(1)
    labels[0] = scores[0].argmin()  # wrong as it is
    worst = scores - scores[range(4), labels][:, None] + gain[labels]
    worst[range(4), labels] = -1.0
    falls = worst.max(1) > 0.0
    assert falls.tolist() == [True, True, True, False] and np.abs(worst.max(1)).min() > 0.1

    names = {"my_model": _scores, "params": w, "images": IMAGES, "labels": jnp.asarray(labels)}
    exec(blocks[0], names)
    found = names["found"]
    np.testing.assert_array_equal(found.won, falls)
    x_adv = np.asarray(found.x)
    np.testing.assert_array_equal(_scores(w, x_adv).argmax(1) != labels, falls)
    assert f"robust accuracy {1 - falls.mean():.1%}" in capsys.readouterr().out
    assert np.abs(x_adv - IMAGES).max() <= RADIUS + 1e-6 and 0.0 <= x_adv.min() <= x_adv.max() <= 1.0
    np.testing.assert_array_equal(x_adv[0], IMAGES[0])
    queries = np.asarray(found.queries)
    assert queries[0] == 1 and queries[3] > 5000 > queries[1:3].max(), "who stands has met all of Square"


def test_the_attack_through_a_diffusion_model_finds_the_corner_of_a_linear_one(blocks):
    """Two classes and a sampler without a bend: the optimum is x + radius sign(w_1 - w_0), for the label 0."""
    w = jax.random.normal(jax.random.key(3), (36, 2))
    labels = jnp.array([0, 1, 0, 1])
    names = {
        "classifier": lambda x, key: x.ravel() @ w,
        "net": lambda x_t, t: 0.5 * x_t,
        "images": IMAGES,
        "labels": labels,
        "keys": jax.random.split(jax.random.key(4), 4),
    }
    exec(blocks[1], names)
    uphill = jnp.where(labels[:, None] == 0, 1.0, -1.0) * jnp.sign(w[:, 1] - w[:, 0])[None]
    np.testing.assert_allclose(names["x_adv"], IMAGES + RADIUS * uphill.reshape(IMAGES.shape), atol=1e-6)
