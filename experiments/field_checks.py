"""The fields of a config: which there are, and what each may hold. Checked before anything is loaded, trained or written."""

from collections.abc import Callable, Mapping
from typing import Any

from jaxdiff import checks
from jaxdiff.checks import nearest
from jaxdiff.diffusion import KINDS
from jaxdiff.diffusion.sample import REMATS
from jaxdiff.train.average import WARMUPS

Check = Callable[[str, str, Any], None]  # (where, name, value) -> None, or a ValueError in words


def whole(least: int = 1, most: int | None = None) -> Check:
    """A count."""
    return lambda where, name, value: checks.count(where, least, most, **{name: value})


def real(interval: str) -> Check:
    """A number in an interval, such as "(0, 1]"."""
    return lambda where, name, value: checks.number(where, interval, **{name: value})


def one_of(*names: str) -> Check:
    """One of these words."""
    return lambda where, name, value: checks.known(where, names, **{name: value})


def or_none(check: Check) -> Check:
    """The same, or None."""
    return lambda where, name, value: None if value is None else check(where, name, value)


def some(check: Check, least: int = 1) -> Check:
    """A list or tuple of at least so many; a word is none, though it has letters."""

    def run(where: str, name: str, value: Any) -> None:
        if not isinstance(value, list | tuple) or len(value) < least:
            raise ValueError(f"{where} needs {name} as a list of at least {least}; got {value!r}.")
        for i, part in enumerate(value):
            check(where, f"{name}[{i}]", part)

    return run


def by_name(check: Check, least: int = 0) -> Check:
    """Anything by names: a dict."""

    def run(where: str, name: str, value: Any) -> None:
        if not isinstance(value, Mapping) or len(value) < least:
            raise ValueError(f"{where} needs {name} as fields by their names; got {value!r}.")
        for key, part in value.items():
            check(f"{where}.{name}", key, part)

    return run


def part(where: str, name: str, value: Any) -> None:
    """A part: what it is made of is checked by `part_checks`."""
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
        raise ValueError(
            f"{where} needs {name} as a part, {{'name': ..., argument: value, ...}}; got {value!r}."
        )


def word(where: str, name: str, value: Any) -> None:
    """A name."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"{where} needs {name} as a name; got {value!r}.")


def anything(where: str, name: str, value: Any) -> None:
    """A section with a table of its own below, or cells, which are checked by what they name."""


ABSENT = object()
COUNT, RADII, NAMES = whole(), some(real("[0, inf)")), some(word, 0)
CELLS = by_name(by_name(anything, 1), 1)
SEED = whole(0, 2**32 - 1)  # what NumPy takes
TRAIN = {
    "steps": COUNT,
    "batch_size": COUNT,
    "ema_decays": some(real("[0, 1)"), 0),
    "ema_warmup": one_of(*WARMUPS),
    "accumulate": COUNT,
    "log_every": COUNT,
    "checkpoint_every": COUNT,
    "keep": COUNT,
    "draw_every": COUNT,
}
SECTION = {"model": part, "augment": some(part, 0), "optimizer": part, "train": anything}
FIELDS: dict[str, dict[str, Check]] = {
    "": {
        "seed": SEED,
        "data": part,
        **dict.fromkeys(("score", "classifier", "adversarial_training", "robustness", "attack"), anything),
    },
    "score": SECTION
    | {
        "process": part, "kind": one_of(*KINDS), "label": anything, "weight": part, "time": part, "sample": anything
    },
    "score.label": {"scale": real("(-inf, inf)"), "offset": real("(-inf, inf)")},
    "score.sample": {
        "solver": part, "grid": part, "clip": or_none(real("(0, inf)")), "n": COUNT, "batch_size": COUNT,
        "slots": COUNT,
    },
    "classifier": SECTION | {"loss": part},
    "adversarial_training": SECTION | {"loss": part, "attack": anything},
    "adversarial_training.attack": {"threat": part, "ascent": part, "objective": part},
    "robustness": {
        "n": COUNT, "batch_size": COUNT, "slots": COUNT, "show": COUNT, "threat": part, "objective": part,
        "purify": anything, "cells": CELLS, "curve": anything,
    },
    "robustness.purify": {
        "solver": part, "grid": part, "clip": or_none(real("(0, inf)")), "remat": one_of(*REMATS),
        "surrogate_steps": or_none(COUNT),
    },
    "robustness.curve": {"radii": RADII, "cells": NAMES, "n": COUNT},
    "attack": {
        "n": COUNT, "batch_size": COUNT, "slots": COUNT, "show": COUNT, "panel": NAMES, "flow": NAMES,
        "classifiers": by_name(part, 1), "surrogates": by_name(part), "cells": by_name(anything, 1), "masking": anything,
        "curve": anything,
    },
    "attack.masking": {"n": COUNT, "radius": real("(0, 1]")},
    "attack.curve": {"radii": by_name(RADII), "cells": NAMES, "n": COUNT},
} | {f"{section}.train": TRAIN for section in ("score", "classifier", "adversarial_training")}  # fmt: skip
# All others of a section that is there have to be there.
OPTIONAL = {f"{section}.train.ema_warmup" for section in ("score", "classifier", "adversarial_training")} | {
    "score", "classifier", "adversarial_training", "robustness", "attack", "adversarial_training.attack",
    "score.sample.slots", "robustness.slots",
    "robustness.purify", "robustness.purify.surrogate_steps", "robustness.curve", "attack.slots", "attack.surrogates",
    "attack.masking", "attack.curve",
}  # fmt: skip


def check_values(config: Mapping) -> None:
    """ValueError for a field that no experiment reads, one that is missing, or a value that it can not hold."""
    for path, fields in FIELDS.items():
        section, where = _section(config, path), f"config.{path}" if path else "config"
        if section is ABSENT:
            continue
        check_known(where, section, set(fields))
        for name, check in fields.items():
            if name in section:
                check(where, name, section[name])
            elif (f"{path}.{name}" if path else name) not in OPTIONAL:
                raise ValueError(f"{where} needs the field {name!r}; it has {sorted(section)}.")
    for name in ("score", "classifier", "adversarial_training"):
        train = config.get(name, {}).get("train", {})
        if train and train["batch_size"] % train["accumulate"]:
            raise ValueError(
                f"config.{name}.train.batch_size is a multiple of accumulate; got {train['batch_size']} and "
                f"{train['accumulate']}."
            )


def check_known(where: str, section: Any, known: set[str]) -> None:
    """ValueError with the nearest match if `section` is none, or has a field that is not known."""
    if not isinstance(section, Mapping):
        raise ValueError(f"{where} is a section with the fields {sorted(known)}; got {section!r}.")
    unknown = sorted(map(str, set(section) - known))
    if unknown:
        names = sorted(known)
        raise ValueError(f"{where} has no field {unknown[0]!r}{nearest(unknown[0], names)} Known: {names}.")


def _section(config: Mapping, path: str) -> Any:
    """The section at a path, whatever it is; `ABSENT` if there is none."""
    for name in filter(None, path.split(".")):
        config = config.get(name, ABSENT) if isinstance(config, Mapping) else ABSENT
    return config
