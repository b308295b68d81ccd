"""The rows of the benchmark about whole attacks: AutoAttack and its parts against torchattacks.

Both sides attack the same images, which the classifier gets right, with the same weights and the same settings, and are timed
only if they leave about as many of them standing. Our images share a batch of slots (`jaxdiff.attacks.pool`) and leave it as
soon as they have fallen; torchattacks finishes APGD's iterations for all, and drops fallen images between attacks, targets and
queries.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from benchmark_compare import Row, compare
from benchmark_speed import mesh_for
from peers import Peers

from jaxdiff.attacks import Stepwise, autoattack, pooled
from jaxdiff.data import dataset
from jaxdiff.models import ResNetCIFAR, as_classifier, load_npz, resnet_cifar_from_torch
from jaxdiff.train import shared, split, spread


class Sizes(NamedTuple):
    """What is measured; `square` queries in the row of Square, `queries` in AutoAttack."""

    depth: int = 20
    images: int = 200
    slots: int = 4  # of a CPU device, where few cost hardly more an image; a GPU takes all
    radius: float = 1 / 255
    steps: int = 100
    square: int = 1000
    queries: int = 5000


SMOKE = Sizes(depth=8, images=8, slots=2, radius=0.1, steps=5, square=10, queries=10)


class Setting(NamedTuple):
    """The classifier of both sides, and the images."""

    sizes: Sizes
    model: Any
    variables: Any
    theirs: Any
    x: jax.Array
    y: jax.Array
    note: str = ""


def attack_rows(sizes: Sizes, repeats: int, peers: Peers, weights: str | None = None) -> list[Row]:
    """APGD-CE, APGD-T, FAB-T, Square, AutoAttack."""
    setting = set_up(sizes, peers, weights)
    parts = autoattack.standard("linf", sizes.radius, 10, sizes.steps, sizes.square)
    whole = autoattack.standard("linf", sizes.radius, 10, sizes.steps, sizes.queries)
    titles = {
        "apgd-ce": f"APGD-CE {sizes.steps}",
        "apgd-t": f"APGD-T 9 x {sizes.steps}",
        "fab-t": f"FAB-T 9 x {sizes.steps}",
        "square": f"Square {sizes.square}",
    }
    rows = [
        attack_row(title, name, {name: parts[name]}, sizes.square, setting, repeats, peers)
        for name, title in titles.items()
    ]
    return [
        *rows,
        attack_row("AutoAttack standard", "autoattack", whole, sizes.queries, setting, repeats, peers),
    ]


def set_up(sizes: Sizes, peers: Peers, weights: str | None) -> Setting:
    """CIFAR-10 and trained weights, or random images with the labels that random weights give them."""
    model, side = ResNetCIFAR(sizes.depth), peers.module
    arrays = load_npz(weights) if weights else None
    theirs = side and side.resnet(sizes.depth, arrays, peers.device)
    arrays = side.arrays(theirs) if side else arrays
    x = jax.random.uniform(jax.random.key(0), (sizes.images, 32, 32, 3))
    variables = resnet_cifar_from_torch(arrays) if arrays else jax.jit(model.init)(jax.random.key(1), x)
    predict = jax.jit(lambda variables, x: model.apply(variables, x).argmax(-1))
    if not weights:
        return Setting(sizes, model, variables, theirs, x, predict(variables, x), " of random weights")
    batch = dataset.tfds("cifar10", "test").fetch(np.arange(2 * sizes.images))
    right = np.flatnonzero(np.asarray(predict(variables, batch["image"])) == batch["label"])[: sizes.images]
    return Setting(
        sizes,
        model,
        variables,
        theirs,
        jnp.asarray(batch["image"][right]),
        jnp.asarray(batch["label"][right]),
    )


def attack_row(
    title: str,
    name: str,
    attacks: Mapping[str, Stepwise],
    queries: int,
    setting: Setting,
    repeats: int,
    peers: Peers,
) -> Row:
    """One attack, or an ensemble, on both sides."""
    sizes, x, y, side = setting.sizes, setting.x, setting.y, peers.module
    ours = attack_call(attacks, setting)
    peer = side and side.attack(
        setting.theirs, name, x, y, sizes.radius, sizes.steps, queries, peers.device
    )  # fmt: skip

    def check(found: jax.Array, theirs: Any):
        # Other random starts, other windows: a few images of 200 fall on one side alone.
        predict = jax.jit(lambda x: setting.model.apply(setting.variables, x).argmax(-1) == y)
        standing = [float(predict(images).mean()) for images in (found, jnp.asarray(side.nhwc(theirs)))]
        print(f"  still right: ours {standing[0]:.3f}, theirs {standing[1]:.3f}", flush=True)
        if abs(standing[0] - standing[1]) > max(0.05, 2 / len(x)):
            raise ValueError(
                f"{title}: {standing[0]:.3f} of ours stand, {standing[1]:.3f} of theirs: nothing to compare."
            )

    shape = " x ".join(map(str, x.shape))
    return compare(
        f"{title}, ResNet-{sizes.depth}{setting.note}", shape, ours, peer, check, repeats, long=True
    )


def attack_call(attacks: Mapping[str, Stepwise], setting: Setting) -> Callable[[], jax.Array]:
    """Our attacks on the images of the setting."""
    run = in_stages(attacks, setting, len(setting.x))
    return lambda: run(setting.x, setting.y)


def in_stages(
    attacks: Mapping[str, Stepwise], setting: Setting, n: int
) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """(n images, labels) -> attacked images: each attack on what the ones before left, as the tables of studies do."""
    mesh = mesh_for(n)
    slots = setting.sizes.slots if jax.default_backend() == "cpu" else n

    def stage(attack):
        batched = pooled(attack, slots)
        return spread(
            lambda variables, batch: batched(as_classifier(setting.model, variables), *batch), mesh, None
        )

    stages, variables = [stage(attack) for attack in attacks.values()], shared(setting.variables, mesh)
    keys = jax.random.split(jax.random.key(2), (len(stages), n))

    def run(x, y):
        x_adv, standing = np.array(x), np.ones(n, bool)
        for attack, own in zip(stages, keys, strict=True):
            # Devices take what still stands in turn, so that all have as much to do.
            order = np.argsort(~standing, kind="stable").reshape(-1, mesh.size).T.ravel()
            batch = jax.tree.map(lambda v: v[order], (jnp.asarray(x), jnp.asarray(y), own, standing))
            found = attack(variables, split(batch, mesh))
            x_adv[order[batch[-1]]] = np.asarray(found.x)[batch[-1]]
            standing[order] &= ~np.asarray(found.won)
        return jnp.asarray(x_adv)

    return run
