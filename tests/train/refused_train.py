"""Bad input to jaxdiff.train, and the words of the refusal: run by test_refused_train.py without the type checker."""

import os
import tempfile
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdiff.models.layers import Dropout, example_rngs
from jaxdiff.train import (
    Checkpoints,
    checkpointing,
    every,
    fit,
    init_state,
    jsonl,
    make_step,
    progress,
    tensorboard,
)
from jaxdiff.train.optimizer import adam, adamw, sgd

warnings.simplefilter("ignore")
HERE = Path(tempfile.mkdtemp())
A_FILE, A_FOLDER = HERE / "file", HERE / "folder"
A_FILE.write_text("")
A_FOLDER.mkdir()

LOCKED = Path(tempfile.mkdtemp())
LOCKED.chmod(0o555)
PLACES = (LOCKED, "/proc/sys", "/sys", "/System")  # root may write to the first
READ_ONLY = next((str(p) for p in PLACES if os.path.isdir(p) and not os.access(p, os.W_OK)), None)

TX, KEY = optax.sgd(0.1), jax.random.key(0)
NAN, INF = float("nan"), float("inf")


def loss(params, model_state, batch, key):
    return (params["w"] * batch["x"]).mean(), ({}, model_state)


def state():
    return init_state({"w": jnp.ones(2)}, TX)


class Batches:
    def __iter__(self):
        return self

    def __next__(self):
        return {"x": jnp.ones(2)}

    def get_state(self):
        return 0

    def set_state(self, position):
        pass


def fitted(**changes):
    arguments = {"step": make_step(loss, TX), "state": state(), "batches": Batches(), "total": 3, "hooks": []}
    return fit(**(arguments | {"key": KEY} | changes))


def stepped(loss=loss, batch=None, **options):
    return make_step(loss, TX, **options)(state(), batch or {"x": jnp.ones(2)}, KEY)


def saved(*arguments, folder=None):
    with Checkpoints(folder or tempfile.mkdtemp()) as checkpoints:
        return checkpoints.save(*arguments)


OPTIMISERS = {"adam": adam, "adamw": adamw, "sgd": sgd}
RATES = {
    "zero": 0.0, "negative": -0.1, "nan": NAN, "infinite": INF, "none": None, "text": "0.1", "true": True,
    "an array": np.ones(2), "a schedule": lambda n: 0.1,
}  # fmt: skip
COUNTS = {"zero": 0, "negative": -1, "a float": 10.0, "half": 0.5, "nan": NAN, "infinite": INF, "none": None,
          "text": "10", "true": True, "an array": np.ones(2)}  # fmt: skip
FOLDERS = {
    "empty": ("", "path of a folder"),
    "none": (None, "path of a folder"),
    "a number": (3, "path of a folder"),
    "bytes": (b"folder", "path of a folder"),
    "NUL": ("run\0", "path of a folder"),
    "a file": (A_FILE, "is a file"),
    "in a file": (A_FILE / "run" / "c", "is a file"),
}


def rows(name, call, values, *words):
    """A row for each bad value of one argument."""
    return {f"{name}: {kind}": (lambda value=value: call(value), *words) for kind, value in values.items()}


def without(values, *kinds):
    return {kind: value for kind, value in values.items() if kind not in kinds}


ROWS = {
    "state: params none": (lambda: init_state(None, TX), "params with at least one array"),
    "state: params empty": (lambda: init_state({}, TX), "params with at least one array"),
    "state: params text": (lambda: init_state({"w": "one"}, TX), "params", "w is 'one'"),
    "state: params numbers": (lambda: init_state({"a": {"w": 1.0}}, TX), "params", "a/w is 1.0"),
    "state: params a list": (lambda: init_state([1.0, 2.0], TX), "params as a tree of arrays"),
    "state: params of objects": (lambda: init_state({"w": np.array([None])}, TX), "params"),
    "state: model_state text": (lambda: init_state({"w": jnp.ones(2)}, TX, (), {"m": "x"}), "model_state", "m is"),
    "state: tx none": (lambda: init_state({"w": jnp.ones(2)}, None), "GradientTransformation", "adam"),
    "state: tx a name": (lambda: init_state({"w": jnp.ones(2)}, "adam"), "GradientTransformation"),
    "state: tx not called": (lambda: init_state({"w": jnp.ones(2)}, adam), "GradientTransformation"),
    "step: loss none": (lambda: make_step(None, TX), "loss as a function"),
    "step: loss text": (lambda: make_step("loss", TX), "loss as a function"),
    "step: tx none": (lambda: make_step(loss, None), "GradientTransformation"),
    "step: tx the state": (lambda: make_step(loss, state()), "GradientTransformation"),
    "step: axis_name a number": (lambda: make_step(loss, TX, axis_name=0), "axis_name"),
    "step: axis_name empty": (lambda: make_step(loss, TX, axis_name=""), "axis_name"),
    "step: ema_warmup unknown": (lambda: make_step(loss, TX, ema_warmup="rampe"), "did you mean 'ramp'"),
    "step: ema_warmup none": (lambda: make_step(loss, TX, ema_warmup=None), "ema_warmup", "corrected"),
    "step: loss of examples": (lambda: stepped(lambda *a: (jnp.ones(2), ({}, {}))), "one floating", "float32[2]"),
    "step: loss whole": (lambda: stepped(lambda *a: (jnp.array(1), ({}, {}))), "one floating", "int32"),
    "step: loss alone": (lambda: stepped(lambda p, *a: p["w"].sum()), "(mean loss, (metrics, new model_state))"),
    "step: loss with metrics alone": (lambda: stepped(lambda p, *a: (p["w"].sum(), {})), "(metrics, new model_state)"),
    "step: loss none returned": (lambda: stepped(lambda *a: None), "(metrics, new model_state)"),
    "step: metrics an array": (lambda: stepped(lambda p, *a: (p["w"].sum(), (jnp.ones(2), {}))), "metrics a dict"),
    "step: other decays": (lambda: stepped(ema_decays=(0.9,)), "['0.9']", "use the same"),
    "step: a scalar in the batch": (lambda: stepped(batch={"x": jnp.ones(())}, accumulate=2), "first axis"),
    "step: a batch that does not split": (lambda: stepped(batch={"x": jnp.ones(3)}, accumulate=2), "3 examples"),
    "fit: step none": (lambda: fitted(step=None), "step as a function"),
    "fit: state params": (lambda: fitted(state={"w": jnp.ones(2)}), "TrainState", "init_state"),
    "fit: state none": (lambda: fitted(state=None), "TrainState"),
    "fit: batches a list": (lambda: fitted(batches=[{"x": jnp.ones(2)}]), "iterator", "iter(batches)"),
    "fit: batches none": (lambda: fitted(batches=None), "iterator"),
    "fit: batches end": (lambda: fitted(batches=iter([{"x": jnp.ones(2)}])), "ended before step 2 of 3"),
    "fit: hooks none": (lambda: fitted(hooks=None), "hooks"),
    "fit: hooks one": (lambda: fitted(hooks=print), "hooks", "[progress"),
    "fit: hooks of none": (lambda: fitted(hooks=[None]), "hook as a function"),
    "fit: key a seed": (lambda: fitted(key=0), "jax.random.key(0)"),
    "fit: key old": (lambda: fitted(key=jax.random.PRNGKey(0)), "jax.random.key(0)"),
    "fit: keys": (lambda: fitted(key=jax.random.split(KEY)), "jax.random.key(0)"),
    "hooks: f none": (lambda: every(3, None), "f as a function"),
    "hooks: checkpoints a folder": (lambda: checkpointing(A_FOLDER, Batches(), 1, 2), "Checkpoints(directory)"),
    "hooks: batches a list": (lambda: checkpointing(Checkpoints(A_FOLDER), [], 1, 2), "get_state as a function"),
    "checkpoints: metadata text": (lambda: Checkpoints(A_FOLDER, metadata="WRN"), "metadata as a Mapping"),
    "checkpoints: metadata arrays": (lambda: Checkpoints(A_FOLDER, metadata={"w": jnp.ones(2)}), "plain values"),
    "checkpoints: data an array": (lambda: saved(1, state(), {"at": np.arange(3)}), "data_state", "plain values"),
    "checkpoints: data bytes": (lambda: saved(1, state(), b"position"), "data_state", "plain values"),
    "checkpoints: data a set": (lambda: saved(1, state(), {1, 2}), "data_state", "plain values"),
    "jsonl: a folder": (lambda: jsonl(A_FOLDER, 8), "is a folder", "name inside"),
    "jsonl: empty": (lambda: jsonl("", 8), "path of a file"),
    "jsonl: none": (lambda: jsonl(None, 8), "path of a file"),
    "jsonl: in a file": (lambda: jsonl(A_FILE / "m.jsonl", 8), "is a file"),
    "dropout: no keys": (lambda: Dropout(0.5).apply({}, jnp.ones((2, 3)), True), "rngs=example_rngs(keys)"),
    "dropout: one key": (lambda: example_rngs(KEY), "key for every example"),
    "dropout: seeds": (lambda: example_rngs(jnp.arange(3)), "key for every example"),
    "dropout: none": (lambda: example_rngs(None), "key for every example"),
}  # fmt: skip

for name, make in OPTIMISERS.items():
    ROWS |= rows(f"{name}: lr", make, RATES, "An optimiser needs lr as a number in (0, inf)")
    ROWS |= rows(
        f"{name}: warmup", lambda v, make=make: make(0.1, warmup=v), without(COUNTS, "zero"), "warmup"
    )
    ROWS |= rows(
        f"{name}: clip", lambda v, make=make: make(0.1, clip=v), without(RATES, "zero", "none"), "clip"
    )
    ROWS |= rows(f"{name}: total", lambda v, make=make: make(0.1, total=v), without(COUNTS, "none"), "total")
    ROWS |= rows(
        f"{name}: schedule",
        lambda v, make=make: make(0.1, schedule=v),
        {"unknown": "cosin", "none": None, "a number": 1},
        "unknown schedule",
        "cosine",
    )
for argument in ("b1", "b2"):
    ROWS |= rows(
        f"adam: {argument}",
        lambda v, a=argument: adam(0.1, **{a: v}),
        without(RATES, "zero") | {"one": 1.0},
        argument,
    )
ROWS |= rows("adam: eps", lambda v: adam(0.1, eps=v), without(RATES, "zero"), "eps")
ROWS |= rows(
    "sgd: momentum", lambda v: sgd(0.1, momentum=v), without(RATES, "zero") | {"one": 1.0}, "momentum"
)
ROWS |= rows("sgd: weight_decay", lambda v: sgd(0.1, weight_decay=v), without(RATES, "zero"), "weight_decay")
ROWS |= rows(
    "adamw: weight_decay", lambda v: adamw(0.1, weight_decay=v), without(RATES, "zero"), "weight_decay"
)
ROWS |= rows(
    "sgd: nesterov", lambda v: sgd(0.1, nesterov=v), {"none": None, "text": "no", "number": 1}, "nesterov"
)
ROWS |= rows(
    "decay",
    lambda v: init_state({"w": jnp.ones(2)}, TX, (v,)),
    without(RATES, "zero") | {"one": 1.0},
    "[0, 1)",
)
ROWS |= rows(
    "decays",
    lambda v: make_step(loss, TX, v),
    {"a number": 0.9, "text": "0.9", "none": None, "a dict": {"a": 0.9}},
    "sequence of decays",
)
ROWS |= rows(
    "step: accumulate", lambda v: make_step(loss, TX, accumulate=v), COUNTS, "accumulate as a whole number"
)
ROWS |= rows("fit: total", lambda v: fitted(total=v), COUNTS, "total as a whole number")
ROWS |= rows("fit: lag", lambda v: fitted(lag=v), without(COUNTS, "zero"), "lag as a whole number")
ROWS |= rows("hooks: n", lambda v: every(v, print), COUNTS, "n as a whole number")
ROWS |= rows("hooks: last", lambda v: every(1, print, v), without(COUNTS, "none"), "last as a whole number")
ROWS |= rows(
    "checkpointing: total", lambda v: checkpointing(Checkpoints(A_FOLDER), Batches(), 1, v), COUNTS, "total"
)
ROWS |= rows("checkpoints: keep", lambda v: Checkpoints(A_FOLDER, v), COUNTS, "keep as a whole number")
ROWS |= rows(
    "checkpoints: step", lambda v: saved(v, state()), without(COUNTS, "zero"), "step as a whole number"
)
ROWS |= rows(
    "checkpoints: state", lambda v: saved(1, v), {"none": None, "text": "s", "numbers": {"a": 1}}, "state"
)
ROWS |= rows("progress: total", lambda v: progress(v, 8), COUNTS, "total as a whole number")
for name, make in {
    "progress": lambda v: progress(3, v),
    "jsonl": lambda v: jsonl(A_FILE, v),
    "tensorboard": lambda v: tensorboard(A_FOLDER, v),
}.items():
    ROWS |= rows(f"{name}: batch_size", make, COUNTS, "batch_size as a whole number")
for name, make in {"checkpoints": Checkpoints, "tensorboard": lambda v: tensorboard(v, 8)}.items():
    ROWS |= {
        f"{name}: {kind}": (lambda v=v, make=make: make(v), words) for kind, (v, words) in FOLDERS.items()
    }
ROWS |= rows(
    "dropout: rate",
    lambda v: Dropout(v).apply({}, jnp.ones((2, 3))),
    without(RATES, "zero") | {"one": 1.0},
    "rate",
)

if READ_ONLY:
    ROWS |= {
        "checkpoints: read-only": (
            lambda: checkpointing(Checkpoints(READ_ONLY), Batches(), 1, 2),
            "read-only",
            "another place",
        ),
        "checkpoints: in a read-only folder": (
            lambda: Checkpoints(READ_ONLY + "/run"),
            "cannot use the folder",
        ),
        "jsonl: read-only": (lambda: jsonl(READ_ONLY + "/run/m.jsonl", 8), "read-only"),
        "tensorboard: read-only": (lambda: tensorboard(READ_ONLY, 8), "read-only"),
    }
