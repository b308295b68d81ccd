"""The judgement of a cell: what became of every example, by evaluations that no attack has seen."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxdiff import evaluate
from jaxdiff.attacks import lost, margin
from jaxdiff.defenses import protocols
from jaxdiff.keys import example_keys, purpose
from jaxdiff.study.table.cell import distance
from jaxdiff.study.table.place import Place
from jaxdiff.types import Classifier, Logits, PRNGKey, PRNGKeys

BEYOND = 1e-5  # of the radius: what rounding may add to the norm of what is inside


def attack_keys(key: PRNGKey, ids: jax.Array) -> PRNGKeys:
    """The key of the attack on each example."""
    return example_keys(purpose(key, "attack"), ids)


def lost_before(protocol: protocols.Protocol | None) -> Callable[..., Any]:
    """How an image of a random victim is lost before the next attack of an ensemble: by the verdict; without one never, for
    one unlucky draw says nothing.
    """

    def is_lost(classifier: Classifier, x, y, key):
        if protocol is None:
            return jnp.asarray(False)
        return protocols.judge(protocol, classifier, x, y, _judge_key(key, protocol)).verdict <= 0.0

    return is_lost


def judge_function(place: Place) -> Callable[[Any, Mapping[str, Any]], dict[str, Any]]:
    """(arguments, batch with what an attack has found) -> the outcome of every example, for `spread`.

    What the threat measures in pixels and has left its radius is no success, whoever has `won`: the image is judged as it was,
    and `found` says how far the attack went.

    A judgement evaluates anew, with randomness that comes from the example alone: the same before and after, the same for every
    attack, and unknown to all of them. A random victim's row holds `final`, whether an independent draw is right after the
    attack. With a protocol (see `Place`) it is judged by several draws, the attacker's own if they are known: the row
    holds the verdicts, is right before and after if that one is 1, and its `share` is what `protocols.standing` says. `loss` is
    the margin; `confidence` is the share of probability of the class that is seen.
    """
    victim, protocol = place.victim, place.protocol
    limits, loss = place.cell.limits(), margin()
    norm, measured = distance(limits), limits is not None and limits.measure is not None

    def one(arguments, example):
        image, label, finite, more = example["image"], example["label"], jnp.asarray(True), {}
        moved = norm(example["adversarial"] - image)
        # What is not finite is to be seen.
        far = measured & jnp.isfinite(moved) & (moved > arguments["radius"] * (1.0 + BEYOND))
        x_adv = jnp.where(far, image, example["adversarial"])
        both = jnp.stack([image, x_adv])
        classifier, defense = victim.parts(arguments["arrays"])
        judged = victim.seen(arguments["arrays"])
        key = _judge_key(attack_keys(arguments["key"], example["id"][None])[0], protocol)
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
        if measured:
            more["found"] = moved
        if "won" in example:
            more["won"] = example["won"] & ~far
        stayed = jnp.where(far, 0.0, moved)
        found = evaluate.outcome(image, x_adv, before, after, loss(after, label), stayed, label)
        return found | more | {"finite": found["finite"] & finite}

    return lambda arguments, batch: jax.vmap(one, (None, 0))(arguments, batch)


def _judge_key(key: PRNGKey, protocol: protocols.Protocol | None) -> PRNGKey:
    """The key of the judgement of an example, from that of the attack on it: no attack reaches it, unless it is known."""
    return key if protocol is not None and protocol.known else purpose(key, "judgement")


def _representative(found: protocols.Judgement) -> Logits:
    """The logits of the first draw that is right if the verdict is 1, else of the first that is wrong."""
    return found.logits[jnp.argmax(found.correct == (found.verdict >= 1.0))]


def _confidence(logits: Logits) -> jax.Array:
    return jnp.max(jax.nn.softmax(logits))
