"""The judgement of a cell: what became of every example, by evaluations that no attack has seen."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxdiff import evaluate
from jaxdiff.attacks import lost, margin
from jaxdiff.defenses import protocols
from jaxdiff.study.bound import made
from jaxdiff.study.table.attack import attack_keys, judge_key, protocol_of
from jaxdiff.study.table.cell import Cell, distance
from jaxdiff.study.table.victim import Victim
from jaxdiff.types import Logits


def judge_function(victim: Victim, cell: Cell, products: Mapping[str, Any], several: bool) -> Callable:
    """(arguments, batch with "adversarial") -> the outcome of every example, for `spread`.

    A judgement evaluates anew, with randomness that comes from the example alone: the same before and after, the same for every
    attack, and unknown to all of them. A random victim's row holds `final`, whether an independent draw is right after the
    attack. With a protocol (see `protocol_of`) it is judged by several draws, the attacker's own if they are known: the row
    holds the verdicts, is right before and after if that one is 1, and its `share` is what `protocols.standing` says. `loss` is
    the margin; `confidence` is the share of probability of the class that is seen.
    """
    protocol = protocol_of(cell, victim, several)
    norm, loss = distance(cell.limits()), margin()

    def one(arguments, image, x_adv, label, example):
        named = made(products, arguments["arrays"])
        classifier, defense = victim.parts(named)
        judged = victim.seen(named)
        both, more, finite = jnp.stack([image, x_adv]), {}, jnp.asarray(True)
        key = judge_key(attack_keys(arguments["key"], example[None])[0], protocol)
        if protocol is not None:
            found = jax.vmap(lambda x: protocols.judge(protocol, judged, x, label, key))(both)
            before, after = jax.vmap(_representative)(found)
            first, second = (jax.tree.map(lambda v: v[i], found) for i in range(2))
            more = {"verdict_before": first.verdict, "verdict": second.verdict, "final": second.final}
            more["share"] = protocols.standing(protocol, first, second, label)
            finite = jnp.all(found.finite)
        elif defense is not None:
            defense_key, classifier_key = jax.random.split(key)
            purified = jax.vmap(lambda x: defense(x, defense_key))(both)
            before, after = jax.vmap(lambda x: classifier(x, classifier_key))(purified)
            more = {"purified": purified[1]}
        else:
            before, after = jax.vmap(lambda x: judged(x, key))(both)
        if protocol is None and victim.random:
            final = protocols.final_draw(judged, x_adv, key)
            more["final"] = ~lost(final, label)
            finite = jnp.all(jnp.isfinite(final))
        more |= {"confidence_before": _confidence(before), "confidence": _confidence(after)}
        found = evaluate.outcome(image, x_adv, before, after, loss(after, label), norm(x_adv - image), label)
        return found | more | {"finite": found["finite"] & finite}

    return lambda arguments, batch: jax.vmap(one, (None, 0, 0, 0, 0))(
        arguments, batch["image"], batch["adversarial"], batch["label"], batch["id"]
    )


def _representative(found: protocols.Judgement) -> Logits:
    """The logits of the first draw that is right if the verdict is 1, else of the first that is wrong."""
    return found.logits[jnp.argmax(found.correct == (found.verdict >= 1.0))]


def _confidence(logits: Logits) -> jax.Array:
    return jnp.max(jax.nn.softmax(logits))
