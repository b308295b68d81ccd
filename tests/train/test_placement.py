"""Placements give the same numbers: jit and pmap, one device and four; `spread` is silent."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdiff.train.jsonl import read_jsonl
from jaxdiff.train.placement import data_mesh, jit_step, pmap_step, replicate, split, spread, training_devices
from jaxdiff.train.state import init_state
from jaxdiff.train.step import make_step

HERE = Path(__file__).parent
CASES = ["jit 4", "pmap 1", "pmap 4", "jit 4, 2 parts"]


def start(script, *arguments, **environment):
    """A script of this folder in a process of its own."""
    command = [sys.executable, "-W", "error", str(HERE / script), *map(str, arguments)]
    variables = os.environ | {"PYTHONPATH": str(HERE.parents[1])} | environment
    return subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def together(calls, **environment):
    """What scripts that run at the same time tell: the JSON of their last lines."""
    processes = [start(*call, **environment) for call in calls]
    try:
        outputs = [process.communicate(timeout=300) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (_, errors) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, errors[-4000:]
    return [json.loads(out.splitlines()[-1]) for out, _ in outputs]


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    # Sums between virtual CPU devices can deadlock in a thread pool that is small: NPROC makes it large.
    call = ("four_devices.py", tmp_path_factory.mktemp("checkpoint"))
    return together([call], NPROC="16")[0]


@pytest.mark.parametrize("case", CASES)
def test_every_placement_trains_alike(four, case):
    state, noise = four["distances"][case]
    assert four["moved"] > 0.01 and four["noise"] > 0
    assert state < 2e-6
    assert noise, "examples draw other noise in this placement"


@pytest.mark.bits
def test_spread_is_exact_and_silent(four):
    """Bit by bit, on any machine: see the runs with other instruction sets in .ci/run."""
    told = four["spread"]
    assert told["equal"] == dict.fromkeys(told["equal"], True) and len(told["equal"]) == 6
    assert told["empty"] == [0, 4]
    assert told["devices"] == 4 and told["own part"]
    assert told["collectives"] == []


def test_a_checkpoint_of_one_device_restores_onto_four(four):
    assert four["checkpoint"] == {"equal": True, "everywhere": True}


def test_training_on_cpu_uses_one_device(four):
    assert four["training_devices"] == 1
    assert training_devices() == [jax.devices()[0]]


@pytest.mark.slow
def test_two_processes_train_like_one(tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    (one,) = together([("two_hosts.py", 0, 1, port, tmp_path)])
    pair = together([("two_hosts.py", k, 2, port, tmp_path) for k in (0, 1)])
    reference = [np.array(x) for x in one["jit"]]
    for leaves in (one["pmap"], *(told[form] for told in pair for form in ("jit", "pmap"))):
        for x, y in zip(leaves, reference, strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7)
    assert [row["step"] for row in read_jsonl(tmp_path / "of_2.jsonl")] == [1, 2, 3, 4, 5, 6]


def linear(params, model_state, batch, key):
    return (batch["x"] @ params).mean(), ({}, model_state)


def test_jit_traces_once_and_takes_the_state(key):
    tx = optax.sgd(0.1, momentum=0.9)
    chex.clear_trace_counter()
    step = jit_step(chex.assert_max_traces(make_step(linear, tx, (0.9,)), n=1), data_mesh())
    state, batch = init_state(jnp.ones(3), tx, (0.9,)), {"x": np.ones((4, 3), np.float32)}
    for _ in range(4):
        old, (state, _) = state, step(state, batch, key)
    assert old.params.is_deleted() and state.step == 4


def test_a_state_committed_elsewhere_is_moved(key):
    tx = optax.sgd(0.1)
    state = jax.device_put(init_state(jnp.ones(3), tx), jax.devices()[0])
    state, _ = jit_step(make_step(linear, tx), data_mesh())(state, {"x": np.ones((4, 3), np.float32)}, key)
    np.testing.assert_allclose(state.params, 0.9, rtol=1e-6)


def test_spread_traces_once(key):
    chex.clear_trace_counter()
    f = spread(chex.assert_max_traces(lambda w, x: jnp.tanh(x) * w[None], n=1), data_mesh(), 4)
    for _ in range(3):
        np.testing.assert_allclose(f(jnp.full(3, 2.0), jnp.ones((4, 3))), 2 * np.tanh(1.0), rtol=1e-6)


def test_a_batch_of_scalars_is_an_error(key):
    with pytest.raises(ValueError, match=r"shape \(\) does not divide over 1 devices"):
        split({"x": 3.0}, data_mesh())
    tx = optax.sgd(0.1)
    step = pmap_step(make_step(linear, tx, axis_name="data"))
    with pytest.raises(ValueError, match=r"shape \(\)"):
        step(replicate(init_state(jnp.ones(3), tx)), {"x": np.float32(1)}, key)


@pytest.mark.parametrize("place", ["jit", "pmap"])
def test_captions_stay_on_the_host_and_change_nothing(place, key):
    tx, x = optax.sgd(0.1), np.arange(12, dtype=np.float32).reshape(4, 3)
    texts = {"caption": np.array(["a", None, [1], "b"], object), "word": np.array(["c", "d", "e", "f"])}

    def trained(batch):
        state = init_state(jnp.ones(3), tx)
        if place == "jit":
            return jit_step(make_step(linear, tx), data_mesh())(state, batch, key)[0].params
        step = pmap_step(make_step(linear, tx, axis_name="data"))
        return step(replicate(state), batch, key)[0].params

    np.testing.assert_array_equal(trained({"x": x} | texts), trained({"x": x}))
    double = spread(lambda w, batch: w * batch["x"], data_mesh(), 2)
    np.testing.assert_array_equal(double(2.0, {"x": x} | texts), 2 * x)
    assert texts["caption"].tolist() == ["a", None, [1], "b"]


def test_import_is_light():
    heavy = "[m for m in ('orbax', 'tqdm', 'matplotlib', 'flax', 'tensorflow', 'grain') if m in sys.modules]"
    code = f"import sys, jaxdiff.train; print({heavy})"
    command = [sys.executable, "-c", code]
    out = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(HERE.parents[1])}, capture_output=True, text=True
    )
    assert out.stdout.strip() == "[]", out.stderr
