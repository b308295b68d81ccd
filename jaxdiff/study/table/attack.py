"""The attack of a place on a batch: which images fall, and to what."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxdiff.attacks import autoattack
from jaxdiff.chunks import in_chunks
from jaxdiff.defenses import protocols
from jaxdiff.study.table.cell import distance
from jaxdiff.study.table.judge import attack_keys, lost_before
from jaxdiff.study.table.place import Place

BEYOND = 1e-5  # of the radius: what rounding may add to the norm of what is inside


def attack_function(
    place: Place, classes: int, slots: int
) -> Callable[[Any, Mapping[str, Any]], dict[str, Any]]:
    """(arguments, batch) -> attacked images, the evaluations they took, and which attack of an ensemble has won, for `spread`.

    Every example draws from its own key. What a threat measures in pixels and has left its radius is no success: the image
    stays as it is, and `found` says how far the attack was. Of a victim that is not random it also says where an attack
    has `won`, and which images were `wrong` as they are; these are left alone.
    """
    victim, cell, protocol = place.victim, place.cell, place.protocol
    random = victim.random or protocol is not None
    stop = cell.stop if cell.stop is not None else (False if random else None)

    def run(arguments, batch):
        arrays, radius, x = arguments["arrays"], arguments["radius"], batch["image"]
        attacks = cell.attacks(arrays, classes, radius)
        if not attacks:
            return {"adversarial": x}
        if protocol is not None:
            attacks = {
                name: protocols.known_to(protocol, autoattack.numbered(attack, i))
                for i, (name, attack) in enumerate(attacks.items())
            }
        cascade = autoattack.in_order(
            attacks, slots, stop, lost_before(protocol) if random else None, protocol is None
        )
        keys = attack_keys(arguments["key"], batch["id"])
        found = cascade(victim.seen(arrays, cell.seen_as()), x, batch["label"], keys, batch["real"])
        result = {"adversarial": found.x, "queries": found.queries, "attack": found.attack}
        if not random:
            result |= {"won": found.won, "wrong": found.won & (found.attack < 0)}
        limits = cell.limits(radius)
        if limits is None or limits.measure is None:
            return result
        return in_chunks(lambda e: _within(distance(limits), radius, *e), slots)((x, result))

    return run


def _within(measure: Callable, radius: Any, x: Any, result: dict[str, Any]) -> dict[str, Any]:
    """The result with the clean image in place of those beyond the radius."""
    found = jax.vmap(measure)(result["adversarial"] - x)
    # What is not finite is for the judge to see.
    far = jnp.isfinite(found) & (found > radius * (1.0 + BEYOND))
    kept = jnp.where(far.reshape(-1, *[1] * (x.ndim - 1)), x, result["adversarial"])
    won = {"won": result["won"] & ~far} if "won" in result else {}
    return result | won | {"adversarial": kept, "found": found}
