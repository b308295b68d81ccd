"""What every experiment shares: flags, devices, the workdir, and parts built from a config.

An experiment is `config -> workdir`. The config says everything that the numbers depend on; the workdir remembers it and
refuses another one.
"""

import errno
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from absl import app, flags, logging
from field_checks import check_values
from ml_collections import ConfigDict, config_flags
from part_checks import check_parts

import jaxdiff.models
from jaxdiff import checks
from jaxdiff.build import build
from jaxdiff.data import augment, dataset
from jaxdiff.diffusion import Process, denoiser, grids, prior, process, sample, solvers, time_label
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

# Of the world, not of the program: what went wrong is said in one line, with what to do.
REMEDIES = {
    errno.ENOSPC: "Make room; the same command goes on from here.",
    errno.EDQUOT: "Make room; the same command goes on from here.",
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM, errno.EROFS),
        "Change its permissions, or choose a --workdir that you may write to.",
    ),
    **dict.fromkeys(
        (errno.ENOTDIR, errno.EEXIST, errno.EISDIR), "A --workdir is a folder, and so is all above it."
    ),
    errno.ENAMETOOLONG: "Choose a shorter --workdir.",
    errno.EIO: "The disk can not be read or written.",
    errno.ENOENT: "",
}


def run(main: Callable[..., Any], prepare: Callable[[ConfigDict], tuple] = lambda config: ()) -> None:
    """Runs `main(config, workdir, *prepare(config))` from the command line; bad input ends with one line, no traceback.

    All fields and parts of the config are checked first, and `prepare` checks the rest: what fails there leaves nothing behind.
    """
    flags.mark_flags_as_required(["config", "workdir"])

    def start(argv: Sequence[str]) -> None:
        if len(argv) > 1:
            sys.exit(
                f"error: unknown arguments {list(argv[1:])}; flags look like --config=configs/digits.py."
            )
        logging.set_verbosity(logging.WARNING)  # Orbax tells every step of a save
        with in_words():
            use_all_cores()
            config, workdir = CONFIG.value, workdir_of(WORKDIR.value)
            check_fields(config)
            check_parts(config.to_dict())
            prepared = prepare(config)
            with claimed(workdir, config):
                main(config, workdir, *prepared)

    app.run(start, flags_parser=parse)


def parse(argv: Sequence[str]) -> list[str]:
    """absl's parser; a flag or a config that cannot be read is one line."""
    try:
        return flags.FLAGS(argv)
    except (flags.Error, KeyError, AttributeError, OSError, TypeError, ValueError) as error:
        *_, (frame, _) = traceback.walk_tb(error.__traceback__)
        if os.environ.get("JAXDIFF_TRACEBACK") or frame.f_globals.get("__name__") == "config_config":
            raise  # what fails in a config file of the user's is shown as it is
        text = str(error.args[0]) if isinstance(error, KeyError) else str(error)
        lines = [line.strip() for line in text.splitlines() if line.strip()] or [type(error).__name__]
        told = lines[-1] if "Traceback" in text else " ".join(lines)
        sys.exit(f"error: {told}\n(set JAXDIFF_TRACEBACK=1 for the traceback)")


@contextmanager
def in_words() -> Iterator[None]:
    """Errors of ours, and of the disk, end the program with one line; output degrades where a terminal lacks a letter."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")
    try:
        yield
    except (ValueError, FloatingPointError, OSError) as error:
        ours = not isinstance(error, OSError) or error.errno is None or error.errno in REMEDIES
        if os.environ.get("JAXDIFF_TRACEBACK") or not ours:
            raise
        sys.exit(f"error: {_told(error)}\n(set JAXDIFF_TRACEBACK=1 for the traceback)")
    except KeyboardInterrupt:
        sys.exit("\nstopped; the same command goes on from here")


def _told(error: Exception) -> str:
    if not isinstance(error, OSError) or error.errno is None:
        return str(error)
    return f"{error.strerror}: {error.filename or 'a file'}. {REMEDIES[error.errno]}".rstrip()


def use_all_cores() -> None:
    """One virtual CPU device per core, at most eight; before the first JAX call, without effect on accelerators.

    XLA runs convolutions of few channels on one thread; work without collectives is spread over these devices. Where the
    environment says how many (XLA_FLAGS or JAX_NUM_CPU_DEVICES), that counts.
    """
    if (
        "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
        or jax.config.jax_num_cpu_devices >= 0
    ):
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    jax.config.update("jax_num_cpu_devices", max(1, min(cores, 8)))


def width(section: Mapping) -> int:
    """How many examples of a batch a device works on at a time: `slots`, or what suits the platform and is no more than
    `batch_size`.

    The number of devices has no say in it, so that results do not depend on them.
    """
    return section.get("slots") or min(section["batch_size"], 16 if jax.default_backend() == "cpu" else 64)


def check_fields(config: ConfigDict) -> None:
    """ValueError for a field that no experiment reads, one that is missing, or a value that it can not hold."""
    checks.instance("--config", ConfigDict, "what get_config() of configs/digits.py returns", config=config)
    check_values(config.to_dict())


def need(config: ConfigDict, *names: str) -> None:
    """ValueError unless the config has these sections."""
    missing = sorted(set(names) - set(config))
    if missing:
        raise ValueError(f"This experiment needs config.{missing[0]}; the config has {sorted(config)}.")


def workdir_of(path: str) -> Path:
    """The folder that --workdir means."""
    if not path.strip():
        raise ValueError(f"--workdir is a folder, for example runs/digits; got {path!r}.")
    workdir = Path(path).expanduser()
    if workdir.exists() and not workdir.is_dir():
        raise ValueError(f"--workdir is a folder; {workdir} is a file.")
    return workdir


@contextmanager
def claimed(workdir: Path, config: ConfigDict) -> Iterator[Path]:
    """`claim`, unless the run fails before it has made anything: then the folder is as it was."""
    there, mine = workdir.exists(), not (workdir / "config.json").exists()
    claim(workdir, config)
    try:
        yield workdir
    except BaseException:
        if mine and [path.name for path in workdir.iterdir()] == ["config.json"]:
            (workdir / "config.json").unlink()
            if not there:
                workdir.rmdir()
        raise


def claim(workdir: Path, config: ConfigDict) -> Path:
    """The workdir, which from now on belongs to this config; ValueError if it belongs to another."""
    path, ours = workdir / "config.json", json.loads(json.dumps(plain(config)))
    if not path.exists():
        workdir.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(ours, indent=2, sort_keys=True) + "\n")
        return workdir
    try:
        theirs = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise ValueError(f"{path} is unreadable; restore it, or choose another --workdir.") from None
    old, new = (
        {k: repr(v) for k, v in flatten(tree).items()} for tree in (theirs, ours)
    )  # 1, 1.0 and True differ
    if old != new:
        changed = [k for k in sorted(old | new) if old.get(k) != new.get(k)]
        lines = [
            f"  config.{k}: {old.get(k, 'absent')} there, {new.get(k, 'absent')} here" for k in changed[:8]
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
        x = prior(score.process, ts, image_shape, noise_key)
        return from_network(sample(solver, score.denoiser(params, spec["clip"]), x, ts, solve_key))

    return lambda params, keys: jax.vmap(lambda key: one(params, key))(keys)


def from_network(x: jax.Array) -> jax.Array:
    """[-1, 1] -> [0, 1], clipped: for pictures. What is not finite is NaN, so that it is seen and counted."""
    return jnp.where(jnp.isfinite(x), jnp.clip(0.5 * (x + 1.0), 0.0, 1.0), jnp.nan)
