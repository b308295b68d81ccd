"""The benchmark deals standing images over devices between attacks: who gets which image must not change the result."""

import os
import subprocess
import sys
from pathlib import Path

import benchmark_attacks
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxdiff.attacks import apgd, cross_entropy, linf, lost, margin, pooled, square_linf, untargeted
from jaxdiff.models import as_classifier

N, SLOTS, RADIUS = 12, 2, 0.1
ROOT = Path(__file__).parents[2]


class Linear(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(x.reshape(len(x), -1))


def _setting():
    """Labels of a random linear model; those of two images are wrong from the start."""
    model, x = Linear(), jax.random.uniform(jax.random.key(0), (N, 4, 4, 1))
    variables = model.init(jax.random.key(1), x)
    y = model.apply(variables, x).argmax(-1)
    y = y.at[jnp.array([3, 8])].add(1) % 3
    sizes = benchmark_attacks.Sizes(slots=SLOTS)
    return benchmark_attacks.Setting(sizes, model, variables, None, x, y)


def _attacks():
    """The first finds what is wrong already and moves nothing; the second is weak; the third takes what can fall."""
    return {
        "still": untargeted(square_linf(0.0, 2), margin()),
        "square": untargeted(square_linf(RADIUS, 4), margin()),
        "apgd": untargeted(apgd(linf(RADIUS), 5), cross_entropy()),
    }


def _one_after_the_other(attacks, setting):
    """(images, the stage at which each fell, or the number of stages), without dealing anything."""
    classifier = as_classifier(setting.model, setting.variables)
    keys = jax.random.split(jax.random.key(2), (len(attacks), N))
    x, fell = np.array(setting.x), np.full(N, len(attacks))
    for stage, (attack, own) in enumerate(zip(attacks.values(), keys, strict=True)):
        run = jax.jit(lambda *batch, attack=attack: pooled(attack, SLOTS)(classifier, *batch))
        standing = fell == len(attacks)
        found = run(setting.x, setting.y, own, standing)
        x[standing] = np.asarray(found.x)[standing]
        fell[standing & np.asarray(found.won)] = stage
    return x, fell


def check():
    """Run on four devices."""
    setting, attacks = _setting(), _attacks()
    assert benchmark_attacks.mesh_for(N).size == 4
    expected, fell = _one_after_the_other(attacks, setting)
    assert set(fell) == {0, 1, 2, 3}, fell  # every stage fells some, and some stand
    found = np.asarray(benchmark_attacks.attack_call(attacks, setting)())
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_array_equal(found[fell == 0], setting.x[fell == 0])  # no later attack touches them
    logits = setting.model.apply(setting.variables, found)
    np.testing.assert_array_equal(jax.vmap(lost)(logits, setting.y), fell < len(attacks))


@pytest.mark.slow
def test_dealing_over_devices_changes_nothing():
    """In a process of its own: the number of virtual devices is set once."""
    code = "import jax; jax.config.update('jax_num_cpu_devices', 4); import test_benchmark_attacks as t; t.check()"
    path = os.pathsep.join(map(str, (ROOT, ROOT / "experiments" / "benchmark", Path(__file__).parent)))
    env = {**os.environ, "PYTHONPATH": path, "XLA_FLAGS": "--xla_backend_optimization_level=0"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
