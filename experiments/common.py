"""What every experiment shares: flags, devices, the workdir, and parts built from a config.

An experiment is `config -> workdir`. The config says everything that the numbers depend on; the workdir remembers it and
refuses another one.
"""

import json
import os
import sys
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

import jaxdiff.models
from jaxdiff.build import build
from jaxdiff.checks import nearest
from jaxdiff.data import augment, dataset
from jaxdiff.diffusion import Process, denoiser, grids, process, sample, solvers, time_label
from jaxdiff.evaluate.atomic import write_text
from jaxdiff.evaluate.fingerprints import plain
from jaxdiff.models import as_net
from jaxdiff.types import Denoiser, Images, PRNGKeys

CONFIG = config_flags.DEFINE_config_file(
    "config", None, "The experiment, e.g. configs/digits.py or configs/digits.py:smoke."
)
WORKDIR = flags.DEFINE_string(
    "workdir", None, "Where checkpoints, ledgers, figures and tables go; resumed if it exists."
)

SHARED = {"seed", "data"}
TRAINING = {"model", "augment", "optimizer", "train"}
SCHEMA = {
    "": SHARED | {"score", "classifier", "adversarial_training", "robustness", "attack"},
    "score": TRAINING | {"process", "kind", "label", "weight", "time", "sample"},
    "score.label": {"scale", "offset"},
    "score.sample": {"solver", "grid", "clip", "n", "batch_size", "slots"},
    "classifier": TRAINING | {"loss"},
    "adversarial_training": TRAINING | {"loss", "attack"},
    "adversarial_training.attack": {"threat", "ascent", "objective"},
    "robustness": {"n", "batch_size", "slots", "show", "threat", "objective", "purify", "cells", "curve"},
    "robustness.purify": {"solver", "grid", "clip", "remat", "surrogate_steps"},
    "robustness.curve": {"radii", "cells", "n"},
    "attack": {
        "n",
        "batch_size",
        "slots",
        "show",
        "panel",
        "flow",
        "classifiers",
        "surrogates",
        "cells",
        "masking",
        "curve",
    },
    "attack.masking": {"n", "radius"},
    "attack.curve": {"radii", "cells", "n"},
} | {
    f"{section}.train": {
        "steps",
        "batch_size",
        "ema_decays",
        "accumulate",
        "log_every",
        "checkpoint_every",
        "keep",
        "draw_every",
    }
    for section in ("score", "classifier", "adversarial_training")
}


def run(main: Callable[[ConfigDict, Path], Any]) -> None:
    """Runs `main(config, workdir)` from the command line; bad input ends with one line instead of a traceback."""
    flags.mark_flags_as_required(["config", "workdir"])

    def start(argv: Sequence[str]) -> None:
        if len(argv) > 1:
            sys.exit(
                f"error: unknown arguments {list(argv[1:])}; flags look like --config=configs/digits.py."
            )
        logging.set_verbosity(logging.WARNING)  # Orbax tells every step of a save
        try:
            use_all_cores()
            check_fields(CONFIG.value)
            main(CONFIG.value, claim(Path(WORKDIR.value), CONFIG.value))
        except (ValueError, FileNotFoundError, FloatingPointError) as error:
            if os.environ.get("JAXDIFF_TRACEBACK"):
                raise
            sys.exit(f"error: {error}\n(set JAXDIFF_TRACEBACK=1 for the traceback)")
        except KeyboardInterrupt:
            sys.exit("\nstopped; the same command goes on from here")

    app.run(start)


def use_all_cores() -> None:
    """One virtual CPU device per core, at most eight; before the first JAX call, without effect on accelerators.

    XLA runs convolutions of few channels on one thread; work without collectives is spread over these devices.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    jax.config.update("jax_num_cpu_devices", max(1, min(cores, 8)))


def width(section: Mapping) -> int:
    """How many examples of a batch a device works on at a time: `slots`, or what suits the platform.

    The number of devices has no say in it, so that results do not depend on them.
    """
    return section.get("slots") or min(section["batch_size"], 16 if jax.default_backend() == "cpu" else 64)


def check_fields(config: ConfigDict) -> None:
    """ValueError for a field that no experiment reads, or a shared one that is missing."""
    for path, known in SCHEMA.items():
        section = config
        for name in filter(None, path.split(".")):
            section = section.get(name, {})
        check_known(f"config.{path}" if path else "config", section, known)
    need(config, *SHARED)


def check_known(where: str, section: Mapping, known: set[str]) -> None:
    """ValueError with the nearest match if `section` has a field that is not known."""
    unknown = sorted(set(section) - known)
    if unknown:
        names = sorted(known)
        raise ValueError(f"{where} has no field {unknown[0]!r}{nearest(unknown[0], names)} Known: {names}.")


def need(config: ConfigDict, *names: str) -> None:
    """ValueError unless the config has these sections."""
    missing = sorted(set(names) - set(config))
    if missing:
        raise ValueError(f"This experiment needs config.{missing[0]}; the config has {sorted(config)}.")


def claim(workdir: Path, config: ConfigDict) -> Path:
    """The workdir, which from now on belongs to this config; ValueError if it belongs to another."""
    path, ours = workdir / "config.json", json.loads(json.dumps(plain(config)))
    if not path.exists():
        workdir.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(ours, indent=2, sort_keys=True) + "\n")
        return workdir
    try:
        theirs = json.loads(path.read_text())
    except ValueError:
        raise ValueError(f"{path} is unreadable; restore it, or choose another --workdir.") from None
    if theirs != ours:
        old, new = flatten(theirs), flatten(ours)
        changed = [k for k in sorted(old | new) if old.get(k, "absent") != new.get(k, "absent")]
        lines = [
            f"  config.{k}: {old.get(k, 'absent')!r} there, {new.get(k, 'absent')!r} here"
            for k in changed[:8]
        ]
        raise ValueError(
            f"The workdir {workdir} belongs to another config:\n"
            + "\n".join(lines)
            + "\nChoose another --workdir, or run the config it belongs to. Nothing was changed."
        )
    return workdir


def flatten(tree: Any, path: str = "") -> dict[str, Any]:
    """{"score.train.steps": 1000, ...} of nested dicts and lists."""
    if not isinstance(tree, (dict, list)) or not tree:
        return {path: tree}
    items = tree.items() if isinstance(tree, dict) else ((str(i), v) for i, v in enumerate(tree))
    return {
        k: v for name, value in items for k, v in flatten(value, f"{path}.{name}" if path else name).items()
    }


def purpose(key: jax.Array, name: str) -> jax.Array:
    """The part of a root key that belongs to a named purpose."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def example_keys(key: jax.Array, ids: jax.Array) -> PRNGKeys:
    """One key an example, whatever batch it comes in."""
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(ids)


def load_data(config: ConfigDict, split: str) -> dataset.Dataset:
    """The data set of the config."""
    return build(dataset, config.data, split=split)


def build_augment(specs: Sequence[Mapping]) -> Callable:
    """The augmentations of a config, one after the other, for one example."""
    return augment.compose(*(build(augment, spec) for spec in specs))


class Score(NamedTuple):
    """A score network and how to read it."""

    model: Any
    process: Process
    kind: str
    label: Mapping[str, float]

    def denoiser(self, params: Any, clip: float | None = None) -> Denoiser:
        """E[x0 | x_t] of one example with these parameters."""
        net = time_label(as_net(self.model, {"params": params}), **self.label)
        return denoiser(self.process, self.kind, net, clip)


def build_score(config: ConfigDict) -> Score:
    """The score network of `config.score`."""
    model = build(jaxdiff.models, config.score.model)
    return Score(model, build(process, config.score.process), config.score.kind, config.score.label.to_dict())


def build_sampler(
    score: Score, spec: Mapping, image_shape: tuple[int, ...]
) -> Callable[[Any, PRNGKeys], Images]:
    """(params, keys [B]) -> images in [0, 1], from pure noise; `spec` names solver, grid and clip."""
    solver = build(solvers, spec["solver"], process=score.process)
    ts = build(grids, spec["grid"], process=score.process)

    def one(params, key):
        noise_key, solve_key = jax.random.split(key)
        x = score.process.sigma(ts[0]) * jax.random.normal(noise_key, image_shape)
        return from_network(sample(solver, score.denoiser(params, spec["clip"]), x, ts, solve_key))

    return lambda params, keys: jax.vmap(lambda key: one(params, key))(keys)


def from_network(x: jax.Array) -> jax.Array:
    """[-1, 1] -> [0, 1], clipped: for pictures."""
    return jnp.clip(0.5 * (x + 1.0), 0.0, 1.0)
