"""Who is attacked, and how it is judged: a victim, the protocol of a cell, and the outcome of every example."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from cells import Cell, judged_by, norm_of

from jaxdiff import evaluate
from jaxdiff.attacks import lost
from jaxdiff.build import build
from jaxdiff.defenses import attackers_view, protocols
from jaxdiff.keys import example_keys, purpose
from jaxdiff.types import Classifier, Defense, Logits, PRNGKeys


class Victim(NamedTuple):
    """A classifier, perhaps behind a defense, as functions of its weights."""

    name: str
    classes: int
    weights: Any
    classifier: Callable[[Any], Classifier]
    defense: Callable[[Any], Defense] | None = None

    def defended(self, weights: Any) -> Classifier:
        """What is judged."""
        return self.seen(weights, "exact")

    def seen(self, weights: Any, gradient: str) -> Classifier:
        """What an attacker with this gradient attacks; without a defense, the classifier."""
        classifier = self.classifier(weights)
        return attackers_view(classifier, self.defense(weights), gradient) if self.defense else classifier

    def gradient(self, cell: Cell) -> str:
        """What the attacker of a cell differentiates: without a defense, the classifier alone."""
        return cell.get("gradient", "exact") if self.defense else "blind"


def is_random(victim: Victim, cell: Cell) -> bool:
    """Whether one evaluation proves nothing: behind a defense, or where the cell says so by its judge or its attack."""
    return victim.defense is not None or "judge" in cell or cell.get("autoattack", {}).get("name") == "rand"


def judged_cell(victim: Victim, cell: Cell) -> Cell:
    """The cell with its judge: who survives an AutoAttack on a random victim is decided by votes."""
    votes = "autoattack" in cell and "judge" not in cell and is_random(victim, cell)
    return {**cell, "judge": {"name": "majority", "n": 5}} if votes else cell


def protocol_of(cell: Cell) -> protocols.Protocol | None:
    """The protocol of a cell's `judge`, for example {"name": "majority", "n": 5}, with "known": True if the attacker knows
    the randomness of the judge and attacks exactly its draws; None without one.
    """
    if "judge" not in cell:
        return None
    spec = dict(cell["judge"])
    known = spec.pop("known", False)
    protocol = build(protocols, spec)
    return protocols.known_randomness(protocol) if known else protocol


def attack_keys(key: jax.Array, ids: jax.Array) -> PRNGKeys:
    """The key of the attack on each example."""
    return example_keys(purpose(key, "attack"), ids)


def judge_function(victim: Victim, cell: Cell) -> Callable:
    """(arguments, batch with "adversarial") -> the outcome of every example, for `spread`.

    A judgement evaluates anew, with randomness that comes from the example alone: the same before and after, the same for every
    attack, and unknown to all of them. A random victim's row holds `final`, whether an independent draw is right after the
    attack. A cell with `judge` (see `protocol_of`) is judged by several draws, the attacker's own if they are known: the row
    holds the verdicts, is right before and after if that one is 1, and its `share` is what `protocols.standing` says.
    """
    loss, norm, protocol = judged_by(cell), norm_of(cell), protocol_of(cell)

    def one(arguments, image, x_adv, label, example):
        weights, both, more = arguments["weights"], jnp.stack([image, x_adv]), {}
        key = jax.random.fold_in(purpose(arguments["key"], "judgement"), example)
        judged, finite = victim.defended(weights), jnp.asarray(True)
        if protocol is not None:
            if protocol.known:
                key = attack_keys(arguments["key"], example[None])[0]
            found = jax.vmap(lambda x: protocols.judge(protocol, judged, x, label, key))(both)
            before, after = jax.vmap(_representative)(found)
            first, second = (jax.tree.map(lambda v: v[i], found) for i in range(2))
            more = {"verdict_before": first.verdict, "verdict": second.verdict, "final": second.final}
            more["share"] = protocols.standing(protocol, first, second, label)
            finite = jnp.all(found.finite)
        elif victim.defense is not None:
            defense_key, classifier_key = jax.random.split(key)
            purified = jax.vmap(lambda x: victim.defense(weights)(x, defense_key))(both)
            before, after = jax.vmap(lambda x: victim.classifier(weights)(x, classifier_key))(purified)
            final = protocols.final_draw(judged, x_adv, key)
            more = {"purified": purified[1], "final": ~lost(final, label)}
            finite = jnp.all(jnp.isfinite(final))
        else:
            before, after = jax.vmap(lambda x: judged(x, key))(both)
        found = evaluate.outcome(image, x_adv, before, after, loss(after, label), norm(x_adv - image), label)
        return found | more | {"finite": found["finite"] & finite}

    return lambda arguments, batch: jax.vmap(one, (None, 0, 0, 0, 0))(
        arguments, batch["image"], batch["adversarial"], batch["label"], batch["id"]
    )


def _representative(found: protocols.Judgement) -> Logits:
    """The logits of the first draw that is right if the verdict is 1, else of the first that is wrong."""
    return found.logits[jnp.argmax(found.correct == (found.verdict >= 1.0))]
