"""The attack of a cell on a batch: which images fall, and to what."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.attacks import autoattack
from jaxdiff.chunks import in_chunks
from jaxdiff.defenses import protocols
from jaxdiff.keys import example_keys, purpose
from jaxdiff.study.bound import made
from jaxdiff.study.table.cell import Cell, distance
from jaxdiff.study.table.victim import Victim
from jaxdiff.types import Classifier, PRNGKey, PRNGKeys

VOTES = 5  # by which an ensemble on a random victim goes on, unless the cell has a judge
BEYOND = 1e-5  # of the radius: what rounding may add to the norm of what is inside


def attack_keys(key: PRNGKey, ids: jax.Array) -> PRNGKeys:
    """The key of the attack on each example."""
    return example_keys(purpose(key, "attack"), ids)


def judge_key(key: PRNGKey, protocol: protocols.Protocol | None) -> PRNGKey:
    """The key of the judgement of an example, from that of the attack on it: no attack reaches it, unless it is known."""
    return key if protocol is not None and protocol.known else purpose(key, "judgement")


def protocol_of(cell: Cell, victim: Victim, several: bool) -> protocols.Protocol | None:
    """Who judges: the cell's own protocol; votes where `several` attacks go on with what stands of a random victim; or None,
    one draw.
    """
    if cell.judge is not None:
        return cell.judge()
    return protocols.majority(VOTES) if several and victim.random else None


def attack_function(
    victim: Victim, cell: Cell, products: Mapping[str, Any], classes: int, slots: int
) -> Callable[[Any, Mapping[str, Any]], dict[str, Any]]:
    """(arguments, batch) -> attacked images, the evaluations they took, and which attack of an ensemble has won, for `spread`.

    Every example draws from its own key. What a threat measures in pixels and has left its radius is no success: the image
    stays as it is, and `found` says how far the attack was. Of a victim that is not random it also says where an attack
    has `won`, and which images were `wrong` as they are; these are left alone.
    """

    def run(arguments, batch):
        named, radius, x = made(products, arguments["arrays"]), arguments["radius"], batch["image"]
        attacks = cell.attacks(named, classes, radius)
        if not attacks:
            return {"adversarial": x}
        protocol = protocol_of(cell, victim, len(attacks) > 1)
        if protocol is not None:
            attacks = {
                name: protocols.known_to(protocol, autoattack.numbered(attack, i))
                for i, (name, attack) in enumerate(attacks.items())
            }
        random = victim.random or protocol is not None
        stop = cell.stop if cell.stop is not None else (False if random else None)
        keys = attack_keys(arguments["key"], batch["id"])
        cascade = autoattack.in_order(
            attacks, slots, stop, _lost(protocol) if random else None, protocol is None
        )
        found = cascade(victim.seen(named, cell.seen_as()), x, batch["label"], keys, batch["real"])
        result = {"adversarial": found.x, "queries": found.queries, "attack": found.attack}
        if not random:
            result |= {"won": found.won, "wrong": found.won & (found.attack < 0)}
        limits = cell.limits(radius)
        if limits is None or limits.measure is None:
            return result
        return in_chunks(lambda e: _within(distance(limits), radius, *e), slots)((x, result))

    return run


def dealt(f: Callable, devices: int) -> Callable:
    """`f` on a batch dealt to the devices in turn: a batch that is not full keeps all of them at work."""

    def run(arguments, batch):
        order = np.arange(len(batch["id"])).reshape(-1, devices).T.ravel()
        outputs = f(arguments, {name: np.asarray(v)[order] for name, v in batch.items()})
        return {name: np.asarray(v)[np.argsort(order)] for name, v in outputs.items()}

    return run


def _lost(protocol: protocols.Protocol | None) -> Callable[..., Any]:
    """How an image of a random victim is lost before the next attack of an ensemble: by the verdict; without one never, for
    one unlucky draw says nothing.
    """

    def lost(classifier: Classifier, x, y, key):
        if protocol is None:
            return jnp.asarray(False)
        return protocols.judge(protocol, classifier, x, y, judge_key(key, protocol)).verdict <= 0.0

    return lost


def _within(measure: Callable, radius: Any, x: Any, result: dict[str, Any]) -> dict[str, Any]:
    """The result with the clean image in place of those beyond the radius."""
    found = jax.vmap(measure)(result["adversarial"] - x)
    # What is not finite is for the judge to see.
    far = jnp.isfinite(found) & (found > radius * (1.0 + BEYOND))
    kept = jnp.where(far.reshape(-1, *[1] * (x.ndim - 1)), x, result["adversarial"])
    won = {"won": result["won"] & ~far} if "won" in result else {}
    return result | won | {"adversarial": kept, "found": found}
