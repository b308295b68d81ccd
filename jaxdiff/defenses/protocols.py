"""How a randomised classifier is judged, as a value: one number hides whether it stood by luck.

A protocol draws n logits f(x, key_i) with keys of its own and passes a verdict in [0, 1] on one example:

    one_shot             the only draw is right (what most papers report, DiffPure among them)
    average(n)           the share of draws that are right
    worst_of(n)          all n are right: an attacker with n tries has failed (the N-evaluation of DiffHammer)
    at_least(k, n)       at least k of the n are right: a survivor of a cascade of attacks
    majority(n)          the true class has more votes than any other (Lee and Kim 2023)
    known_randomness(p)  the judge's keys are the attacker's too: `attacked` is then a classifier without randomness

For each example worst_of(n) <= average(n) <= at_least(1, n), and worst_of(n) falls as n grows, since the draws of a smaller
n are the first of a larger. A judgement always holds one more draw of an independent key, `final`, which nobody has selected
by. Logits that are not finite are wrong and vote for no class. A mean of logits is `one_shot` of `eot_logits(classifier, n)`.

An image is judged before and after an attack on the same draws, and `standing` is the share of it that counts as robust:

    verdict before * verdict after       where a verdict is yes or no                                     (1)
    share of draws that are right in both      for `average`                                              (2)
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxdiff.attacks.attack import lost
from jaxdiff.attacks.stepwise import Stepwise
from jaxdiff.attacks.transforms import eot_logits
from jaxdiff.types import Attack, Classifier, Image, Label, Logits, PRNGKey, Scalar

__all__ = ["at_least", "average", "majority", "one_shot", "worst_of"]  # known_randomness takes a protocol

DrawnLogits = Float[Array, "draws classes"]


class Protocol(NamedTuple):
    """How many draws, the verdict(logits, correct, y) on them, whether the attacker knows their keys, and whether a verdict
    is a share of the draws instead of yes or no.
    """

    draws: int
    verdict: Callable[[DrawnLogits, Bool[Array, " draws"], Label], Scalar]
    known: bool = False
    shares: bool = False


class Judgement(NamedTuple):
    """The protocol's verdict, the logits of its draws, which of them were right, whether an independent one was, and whether
    the logits of all these draws were finite.
    """

    verdict: Scalar
    logits: DrawnLogits
    correct: Bool[Array, " draws"]
    final: Bool[Array, ""]
    finite: Bool[Array, ""]


def one_shot() -> Protocol:
    """One draw decides."""
    return average(1)


def average(n: int) -> Protocol:
    """The share of n draws that are right."""
    # Compiled, a mean of n ones may be off by a rounding error, and `all right` is told by a verdict of exactly 1.
    share = lambda correct, dtype: jnp.where(jnp.all(correct), 1.0, jnp.mean(correct, dtype=dtype))  # noqa: E731
    return _protocol(n, lambda logits, correct, y: share(correct, logits.dtype))._replace(shares=True)


def worst_of(n: int) -> Protocol:
    """1 if all n draws are right."""
    return at_least(n, n)


def at_least(k: int, n: int) -> Protocol:
    """1 if at least k of n draws are right; ValueError unless 1 <= k <= n."""
    if not 1 <= k <= n:
        raise ValueError(f"at_least needs 1 <= k <= n; got k = {k}, n = {n}.")
    return _protocol(n, lambda logits, correct, y: (jnp.sum(correct) >= k).astype(logits.dtype))


def majority(n: int) -> Protocol:
    """1 if more of n draws say the true class than any other class; a tie is lost."""

    def verdict(logits, correct, y):
        voters = jnp.all(jnp.isfinite(logits), axis=1, keepdims=True)
        votes = jnp.sum(jax.nn.one_hot(jnp.argmax(logits, axis=1), logits.shape[1]) * voters, axis=0)
        others = jnp.where(jnp.arange(logits.shape[1]) == y, -1.0, votes)
        return (votes[y] > jnp.max(others)).astype(logits.dtype)

    return _protocol(n, verdict)


def known_randomness(protocol: Protocol) -> Protocol:
    """The same verdict, where the attacker knows the keys of the judge and attacks exactly these draws."""
    return protocol._replace(known=True)


def attacked(protocol: Protocol, classifier: Classifier, key: PRNGKey) -> Classifier:
    """What an attacker of this example may query; `key` is the one that `judge` is given.

    It is the classifier, or, if the randomness is known, the mean logits of the judge's draws.
    """
    if not protocol.known:
        return classifier
    mean = eot_logits(classifier, protocol.draws)
    return lambda x, _: mean(x, _draws_key(key))


def known_to(protocol: Protocol, attack: Attack) -> Attack:
    """The attack on what `attacked` shows it, each evaluation counted as n queries; `attack` itself if nothing is known."""
    if not protocol.known:
        return attack
    shown = lambda problem: (attacked(protocol, problem[0], problem[-1]), *problem[1:])  # noqa: E731
    if not isinstance(attack, Stepwise):
        return lambda *problem: attack(*shown(problem))

    def best(state):
        found = attack.best(state)
        return found._replace(queries=protocol.draws * found.queries)

    return attack.on(shown).replace(best=best)


def judge(protocol: Protocol, classifier: Classifier, x: Image, y: Label, key: PRNGKey) -> Judgement:
    """The judgement of a protocol on one example; `key` may be that of the attack, which draws other numbers from it."""
    draw = lambda i: classifier(x, jax.random.fold_in(_draws_key(key), i))  # noqa: E731
    logits = jax.vmap(draw)(jnp.arange(protocol.draws))
    correct = jax.vmap(lambda logits: ~lost(logits, y))(logits)
    final = final_draw(classifier, x, key)
    finite = jnp.all(jnp.isfinite(logits)) & jnp.all(jnp.isfinite(final))
    return Judgement(protocol.verdict(logits, correct, y), logits, correct, ~lost(final, y), finite)


def final_draw(classifier: Classifier, x: Image, key: PRNGKey) -> Logits:
    """The logits of one draw that is independent of all those that `judge` passes a verdict on."""
    return classifier(x, _purpose(key, "final"))


def standing(protocol: Protocol, before: Judgement, after: Judgement, y: Label) -> Scalar:
    """How much of an example is robust, in [0, 1], from judgements before and after an attack on the same draws: (1), (2)."""
    if protocol.shares:
        return protocol.verdict(after.logits, before.correct & after.correct, y)
    return before.verdict * after.verdict


def _protocol(n: int, verdict: Callable[..., Scalar]) -> Protocol:
    if n < 1:
        raise ValueError(f"A protocol needs n >= 1 draws; got {n}.")
    return Protocol(n, verdict)


def _draws_key(key: PRNGKey) -> PRNGKey:
    return _purpose(key, "draws")


def _purpose(key: PRNGKey, name: str) -> PRNGKey:
    """A key that attacks, which count from 0, do not reach."""
    return jax.random.fold_in(key, int.from_bytes(name[:4].encode(), "big"))
