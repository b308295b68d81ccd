"""Do our attacks find what the peers' find? Both sides on the same trained network and the same CIFAR-10 images.

    python experiments/benchmark/agreement.py --weights=resnet20.npz --output=agreement.json
                                              [--n=500] [--radii=0.5,1,2] [--only=...]

Robust accuracy under APGD-CE, APGD-T, FAB-T, Square and AutoAttack beside torchattacks (radii in units of 1/255), median norms
of C&W, DeepFool and DDN beside foolbox, and how often one pixel is enough beside ART. What is done is kept in --output, and a
killed run goes on from there; with another network, or other settings, it refuses. It ends with an error if an accuracy
differs by more than a point, a norm of ours is larger, or one pixel less successful.
"""

import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from benchmark_attacks import Setting, Sizes, in_stages
from benchmark_compare import table
from peers import find_peers, library_versions
from tqdm import tqdm

from jaxdiff.attacks import autoattack, carlini_wagner, ddn, deepfool, l2, linf, pixels
from jaxdiff.chunks import in_chunks
from jaxdiff.data import dataset
from jaxdiff.evaluate.atomic import write_text
from jaxdiff.models import ResNetCIFAR, as_classifier, load_npz, resnet_cifar_from_torch
from jaxdiff.study.machine import cores, use_all_cores
from jaxdiff.study.words import in_words

CHUNK, POINT = 50, 0.01
PARTS = ("apgd-ce", "apgd-t", "fab-t", "square")
NORMS = {  # ours, the order of the norm, foolbox's name and settings
    "C&W": (
        lambda: carlini_wagner(6, 100, 0.01),
        2,
        "L2CarliniWagnerAttack",
        {"binary_search_steps": 6, "steps": 100, "stepsize": 0.01, "abort_early": False},
    ),
    "DeepFool L2": (lambda: deepfool(l2(jnp.inf)), 2, "L2DeepFoolAttack", {}),
    "DeepFool L-inf": (lambda: deepfool(linf(jnp.inf)), np.inf, "LinfDeepFoolAttack", {}),
    "DDN": (lambda: ddn(levels=None), 2, "DDNAttack", {}),
}
GENERATIONS = 20  # of 400 one-pixel members
NAMES = (*PARTS, "autoattack", *NORMS, "one pixel")
FLAGS = flags.FLAGS


class Store:
    """{cell: {"ours": values, "theirs": values}} in a file, a value for each image done."""

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path, self.content = path, {"settings": settings, "cells": {}}
        if path.exists():
            self.content = self._read()
            if self.content["settings"] != settings:
                raise ValueError(
                    f"{path} holds {self.content['settings']}; this is {settings}. Take another --output."
                )

    def _read(self) -> dict[str, Any]:
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            return {"settings": content["settings"], "cells": dict(content["cells"])}
        except (ValueError, TypeError, KeyError):
            raise ValueError(
                f"{self.path} holds no agreement of before; restore it, or take another --output."
            ) from None

    def values(self, cell: str, side: str) -> list:
        """What is known."""
        return self.content["cells"].setdefault(cell, {}).setdefault(side, [])

    def extend(self, cell: str, side: str, values: Sequence[float | bool]) -> None:
        """Adds values, and writes."""
        self.values(cell, side).extend(values)
        write_text(self.path, json.dumps(self.content) + "\n")


def fill(
    store: Store, cell: str, x: Any, y: Any, sides: dict[str, Callable[[Any, Any], Sequence[float | bool]]]
) -> None:
    """Runs both sides on the images that the store lacks, some at a time, the last ones filled up with the first."""
    chunk = min(CHUNK, len(x))
    for side, run in sides.items():
        known = len(store.values(cell, side))
        for begin in tqdm(range(known, len(x), chunk), desc=f"{cell}, {side}", disable=known >= len(x)):
            real = min(chunk, len(x) - begin)
            place = np.resize(np.arange(begin, begin + real), chunk)  # one shape, compiled once
            store.extend(cell, side, np.asarray(run(x[place], y[place]))[:real].tolist())


def robust_cell(name: str, radius: float, n: int, setting: Setting, peers: Any) -> dict[str, Callable]:
    """Both sides' attack on n images at a radius: whether each is still right."""
    sizes = setting.sizes
    queries = 5 * sizes.queries if name == "autoattack" else sizes.queries
    whole = autoattack.standard("linf", radius, 10, sizes.steps, queries)
    attacks = whole if name == "autoattack" else {name: whole[name]}
    ours, right = in_stages(attacks, setting, min(CHUNK, n)), judge(setting)

    def theirs(x, y):
        attack = peers.module.attack(setting.theirs, name, x, y, radius, sizes.steps, queries, peers.device)
        return right(peers.module.nhwc(attack()), y)

    return {"ours": lambda x, y: right(ours(x, y), y), "theirs": theirs}


def radius_of(text: str) -> float:
    """A radius in units of 1/255, as a share of the range; ValueError for what is none."""
    try:
        radius = float(text)
    except ValueError:
        radius = -1.0
    if not 0 < radius <= 255:
        raise ValueError(f"--radii are numbers in (0, 255], in units of 1/255; got {text!r}.")
    return radius / 255


def judge(setting: Setting) -> Callable[[Any, Any], np.ndarray]:
    """(images, labels) -> who is right: one judge for both sides."""

    @jax.jit
    def predict(x):
        logits = setting.model.apply(setting.variables, x)
        return jnp.where(jnp.isfinite(logits).all(-1), logits.argmax(-1), -1)  # the argmax of NaN is class 0

    return lambda x, y: np.asarray(predict(jnp.asarray(x)) == y)


def norm_cell(name: str, setting: Setting) -> dict[str, Callable]:
    """Both sides' least norm of each image; infinity where nothing was found."""
    import agreement_peers

    make, order, peer, settings = NORMS[name]
    ours, right = batched(make(), setting), judge(setting)

    def norms(found, x, y):
        sizes = np.linalg.norm((np.asarray(found) - np.asarray(x)).reshape(len(x), -1), order, axis=1)
        return np.where(right(found, y), np.inf, sizes)

    theirs = lambda x, y: norms(agreement_peers.nearest(setting.theirs, peer, settings, x, y), x, y)
    return {"ours": lambda x, y: norms(ours(x, y), x, y), "theirs": theirs}


def pixel_cell(setting: Setting) -> dict[str, Callable]:
    """Both sides' one pixel: whether each image is still right."""
    import agreement_peers

    ours, right = batched(pixels(1, 400, GENERATIONS), setting), judge(setting)
    theirs = lambda x, y: agreement_peers.one_pixel(setting.theirs, np.asarray(x), y, GENERATIONS)
    return {"ours": lambda x, y: right(ours(x, y), y), "theirs": lambda x, y: right(theirs(x, y), y)}


def batched(attack: Any, setting: Setting) -> Callable[[Any, Any], jax.Array]:
    """All steps of one of our attacks on some images."""

    @jax.jit
    def run(variables, x, y):
        classifier = as_classifier(setting.model, variables)
        keys = jax.random.split(jax.random.key(0), len(x))
        attacked = jax.vmap(lambda x, y, key: attack(classifier, x, y, key))
        return in_chunks(lambda e: attacked(*e), setting.sizes.slots)((x, y, keys))

    return lambda x, y: run(setting.variables, x, y)


def verdicts(store: Store, n: int) -> tuple[str, list[str]]:
    """The table, and what does not agree. Accuracies are of all n images, those that were wrong before included."""
    lines, faults = [], []
    for cell, sides in store.content["cells"].items():
        ours, theirs = (np.asarray(sides.get(side, [])) for side in ("ours", "theirs"))
        count = min(len(ours), len(theirs))
        if not count:
            continue
        ours, theirs = ours[:count], theirs[:count]
        if ours.dtype != bool:
            mine, other = np.median(ours), np.median(theirs)
            lines.append([cell, str(count), f"{mine:.5f}", f"{other:.5f}", f"{mine / other - 1:+.2%}", "—"])
            bad = mine > 1.001 * other
        else:
            right = store.content["settings"]["right"]
            total = n if count == right else count  # of a part: of its images, which were all right
            mine, other = ours.sum() / total, theirs.sum() / total
            same = f"{np.mean(ours == theirs):.1%}"
            lines.append([cell, str(total), f"{mine:.1%}", f"{other:.1%}", f"{mine - other:+.1%}", same])
            bad = mine > other if cell == "one pixel" else abs(mine - other) > POINT + 1e-9
        faults += [cell] if bad else []
    return table(["attack", "n", "ours", "theirs", "difference", "same images"], lines, left=1), faults


def load(peers: Any) -> tuple[Setting, dict[str, Any], np.ndarray, np.ndarray]:
    """The network of both sides, what identifies the run, and the images that are right, of a seeded permutation."""
    arrays = load_npz(FLAGS.weights)
    sizes = Sizes(steps=FLAGS.steps, queries=FLAGS.queries)
    model, variables = ResNetCIFAR(sizes.depth), resnet_cifar_from_torch(arrays)
    data = dataset.tfds("cifar10", "test")
    batch = data.fetch(np.random.RandomState(0).permutation(len(data))[: FLAGS.n])
    theirs = peers.module.resnet(sizes.depth, arrays, peers.device)
    setting = Setting(sizes, model, variables, theirs, batch["image"], batch["label"])
    right = judge(setting)(batch["image"], batch["label"])
    identity = {
        "weights": hashlib.sha256(Path(FLAGS.weights).read_bytes()).hexdigest()[:16],
        "n": len(right),
        "few": FLAGS.few,
        "right": int(right.sum()),
        "steps": FLAGS.steps,
        "queries": FLAGS.queries,
    }
    return setting, identity, batch["image"][right], batch["label"][right]


def main(argv: Sequence[str]) -> None:
    """Runs what --output lacks; prints the table."""
    unknown = sorted(set(FLAGS.only) - set(NAMES)) + list(argv[1:])
    if unknown:
        sys.exit(f"error: unknown {unknown[0]!r}; --only takes {', '.join(NAMES)}.")
    use_all_cores()
    peers = find_peers("torchattacks", cores())
    if peers.missing:
        sys.exit(f"error: {peers.missing}")
    with in_words():
        radii = {radius: radius_of(radius) for radius in FLAGS.radii}
        setting, identity, x, y = load(peers)
        store = Store(Path(FLAGS.output).expanduser(), identity)
        for name in [name for name in NAMES if name in FLAGS.only]:
            if name in NORMS:
                fill(store, name, x[: FLAGS.few], y[: FLAGS.few], norm_cell(name, setting))
            elif name == "one pixel":
                fill(store, name, x[: FLAGS.few], y[: FLAGS.few], pixel_cell(setting))
            else:
                for given, radius in radii.items():
                    fill(
                        store, f"{name}, {given}/255", x, y, robust_cell(name, radius, len(x), setting, peers)
                    )
        text, faults = verdicts(store, len(setting.x))
        print(text + "\n\n" + ", ".join(f"{name} {value}" for name, value in library_versions().items()))
    if faults:
        sys.exit(f"error: the sides disagree on {', '.join(faults)}.")


def define_flags() -> None:
    """Not at import: other experiments have flags of the same names."""
    flags.DEFINE_string("weights", None, "Weights of ResNet-20 as npz.", required=True)
    flags.DEFINE_string("output", None, "A JSON file that keeps what is done.", required=True)
    flags.DEFINE_integer("n", 500, "Images of the robust accuracies.", lower_bound=1)
    flags.DEFINE_integer("few", 100, "Images of the norms and of one pixel.", lower_bound=1)
    flags.DEFINE_list("radii", ["0.5", "1", "2"], "In units of 1/255.")
    flags.DEFINE_list("only", list(NAMES), f"Of {', '.join(NAMES)}.")
    flags.DEFINE_integer("steps", 100, "Steps of APGD and FAB.", lower_bound=1)
    flags.DEFINE_integer("queries", 1000, "Queries of Square alone; in AutoAttack five times as many.", 1)


if __name__ == "__main__":
    define_flags()
    app.run(main)
