"""The command: a config, a workdir, and what is missing there is made.

    python -m jaxdiff.study --config=configs/digits.py --workdir=runs/digits [--only=table] [--sweep]
                            [--config.stages.score.train.steps=500 ...]

`--config=file.py:variant` names a file with `get_config(variant)`, `--only` the one stage to make, with what it needs,
`--sweep` that all variants of the config's axes are made. A field of the config is set as `override` says.
"""

import argparse
import importlib.util
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jaxdiff.checks import nearest
from jaxdiff.evaluate.atomic import write_text
from jaxdiff.evaluate.fingerprints import plain
from jaxdiff.evaluate.report import clock
from jaxdiff.study.load import CONFIG
from jaxdiff.study.machine import cache_programs, use_all_cores
from jaxdiff.study.override import overridden
from jaxdiff.study.study import planned
from jaxdiff.study.sweep import sweep
from jaxdiff.study.words import in_words

FLAGS = ("--config", "--workdir", "--only", "--sweep")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a study from a command line; what is wrong ends it with one line, before anything is made."""
    with in_words():
        given, settings = parsed(sys.argv[1:] if arguments is None else arguments)
        workdir = workdir_of(given.workdir)
        config = overridden(config_of(given.config), settings)
        quiet()
        use_all_cores()
        cache_programs()
        started = time.perf_counter()
        make(config, workdir, given.only, given.sweep)
        print(f"{clock(time.perf_counter() - started)}; everything is in {workdir}")


def make(config: ConfigDict, workdir: Path, only: str | None, swept: bool) -> None:
    """Plans, remembers the config, and makes what is missing."""
    if swept:
        sweep(config, workdir, before=lambda: remember(config, workdir))
        return
    plan = planned(config, only)
    remember(config, workdir)
    plan.make(workdir)


def remember(config: ConfigDict, workdir: Path) -> None:
    """Writes the config of the last run into its workdir."""
    workdir.mkdir(parents=True, exist_ok=True)
    write_text(workdir / CONFIG, json.dumps(plain(config), indent=2) + "\n")


def parsed(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[tuple[str, str]]]:
    """The flags, and the fields of the config that are set; ValueError for what is neither."""
    parser = _Parser(prog="python -m jaxdiff.study", description=__doc__, allow_abbrev=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--config", required=True, help="file.py or file.py:variant")
    parser.add_argument("--workdir", required=True, help="where everything goes; resumed if it exists")
    parser.add_argument("--only", help="the stage to make, with what it needs; default: all")
    parser.add_argument("--sweep", action="store_true", help="all variants of the axes of the config")
    fields = [a for a in arguments if a.startswith("--config.")]
    given, unknown = parser.parse_known_args([a for a in arguments if a not in fields])
    if unknown:
        flag = unknown[0].partition("=")[0]
        raise ValueError(f"Unknown argument {unknown[0]!r}{nearest(flag, FLAGS)} Flags: {', '.join(FLAGS)}.")
    bare = [each for each in fields if "=" not in each]
    if bare:
        raise ValueError(f"{bare[0]} needs a value: {bare[0]}=...")
    pairs = [each.removeprefix("--config.").partition("=") for each in fields]
    return given, [(path, value) for path, _, value in pairs]


def config_of(place: str) -> ConfigDict:
    """What `get_config(variant)` of a file "file.py:variant" returns; ValueError if there is none."""
    file, _, variant = place.partition(":")
    path = Path(file).expanduser()
    if not path.is_file():
        raise ValueError(
            f"--config is a file, such as configs/digits.py or configs/digits.py:smoke; got {place!r}."
        )
    if str(path.parent.resolve()) not in sys.path:
        sys.path.insert(0, str(path.parent.resolve()))  # for what lies beside it
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)
    spec.loader.exec_module(module)
    if not callable(getattr(module, "get_config", None)):
        raise ValueError(f"{path} has no function get_config(variant).")
    return module.get_config(variant) if variant else module.get_config()


def workdir_of(path: str) -> Path:
    """The folder that --workdir means."""
    if not path.strip():
        raise ValueError(f"--workdir is a folder, for example runs/digits; got {path!r}.")
    workdir = Path(path).expanduser()
    if workdir.exists() and not workdir.is_dir():
        raise ValueError(f"--workdir is a folder; {workdir} is a file.")
    return workdir


def quiet() -> None:
    """Orbax tells every step of a save."""
    from absl import logging

    logging.set_verbosity(logging.WARNING)


class _Parser(argparse.ArgumentParser):
    """One that says what is wrong as everything here does."""

    def error(self, message: str) -> Any:
        raise ValueError(f"{message}. Usage: {' '.join(self.format_usage().split()[1:])}")
