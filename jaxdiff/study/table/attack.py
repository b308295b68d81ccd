"""The attack of a place on a batch: which images fall, and to what."""

from collections.abc import Callable, Mapping
from typing import Any

from jaxdiff.attacks.cascade import in_order, numbered
from jaxdiff.defenses import protocols
from jaxdiff.study.table.judge import attack_keys, lost_before
from jaxdiff.study.table.place import Place


def attack_function(
    place: Place, classes: int, slots: int
) -> Callable[[Any, Mapping[str, Any]], dict[str, Any]]:
    """(arguments, batch) -> attacked images, the evaluations they took, and which attack of an ensemble has won, for `spread`.

    Every example draws from its own key. Of a victim that is not random it also says where an attack has `won`, and which
    images were `wrong` as they are; these are left alone.
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
                name: protocols.known_to(protocol, numbered(attack, i))
                for i, (name, attack) in enumerate(attacks.items())
            }
        cascade = in_order(attacks, slots, stop, lost_before(protocol) if random else None, protocol is None)
        keys = attack_keys(arguments["key"], batch["id"])
        found = cascade(victim.seen(arrays, cell.seen_as()), x, batch["label"], keys, batch["real"])
        result = {"adversarial": found.x, "queries": found.queries, "attack": found.attack}
        if not random:
            result |= {"won": found.won, "wrong": found.won & (found.attack < 0)}
        return result

    return run
