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
An image with pixels outside [0, 1], or a label that is none of the classes, is no example: where they are concrete they are
refused; where they are traced the verdict is NaN, the logits too, and `finite` is false.

An image is judged before and after an attack on the same draws, and `standing` is the share of it that counts as robust:

    verdict before * verdict after       where a verdict is yes or no                                     (1)
    share of draws that are right in both      for `average`                                              (2)

and NaN where either verdict is. Protocols are values: equal ones are one static argument of `jax.jit`, and they pickle.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float

from jaxdiff import checks
from jaxdiff.attacks.attack import as_stepwise, lost
from jaxdiff.attacks.transforms import eot_logits, times
from jaxdiff.floats import wide_dtype
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
    the logits of all these draws were finite. Of what is no example the verdict and the logits are NaN.
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
    """The share of n >= 1 draws that are right."""
    checks.count("average", n=n)
    return Protocol(n, _share, shares=True)


def worst_of(n: int) -> Protocol:
    """1 if all n >= 1 draws are right."""
    checks.count("worst_of", n=n)
    return at_least(n, n)


def at_least(k: int, n: int) -> Protocol:
    """1 if at least k of n draws are right; ValueError unless 1 <= k <= n."""
    checks.count("at_least", k=k, n=n)
    if k > n:
        raise ValueError(f"at_least needs 1 <= k <= n; got k = {k}, n = {n}.")
    return Protocol(n, _AtLeast(k))


def majority(n: int) -> Protocol:
    """1 if more of n >= 1 draws say the true class than any other class; a tie is lost."""
    checks.count("majority", n=n)
    return Protocol(n, _most_votes)


def known_randomness(protocol: Protocol) -> Protocol:
    """The same verdict, where the attacker knows the keys of the judge and attacks exactly these draws."""
    _check("known_randomness", protocol)
    return protocol._replace(known=True)


def attacked(protocol: Protocol, classifier: Classifier, key: PRNGKey) -> Classifier:
    """What an attacker of this example may query; `key` is the one that `judge` is given.

    It is the classifier, or, if the randomness is known, the mean logits of the judge's draws.
    """
    _check("attacked", protocol, classifier=classifier)
    checks.key("attacked", key)
    if not protocol.known:
        return classifier
    mean = eot_logits(classifier, protocol.draws)
    return lambda x, _: mean(x, _draws_key(key))


def known_to(protocol: Protocol, attack: Attack) -> Attack:
    """The attack on what `attacked` shows it, each evaluation counted as n queries; `attack` itself if nothing is known."""
    _check("known_to", protocol, attack=attack)
    if not protocol.known:
        return attack
    shown = lambda problem: (attacked(protocol, problem[0], problem[-1]), *problem[1:])
    return times(protocol.draws, as_stepwise(attack).on(shown))


def judge(protocol: Protocol, classifier: Classifier, x: ArrayLike, y: ArrayLike, key: PRNGKey) -> Judgement:
    """The judgement of a protocol on one example, an image in [0, 1] and its label; `key` may be that of the attack, which
    draws other numbers from it.
    """
    _check("judge", protocol)
    x, key = checks.image("judge", x), checks.key("judge", key)
    classes = checks.logits_of("judge", classifier, x, key)
    y = checks.label("judge", y, classes)
    believed = checks.believable(x, y, classes)
    draw = lambda i: classifier(x, jax.random.fold_in(_draws_key(key), i))
    logits = jnp.where(believed, jax.vmap(draw)(jnp.arange(protocol.draws)), jnp.nan)
    final = jnp.where(believed, final_draw(classifier, x, key), jnp.nan)
    correct = jax.vmap(lambda logits: ~lost(logits, y))(logits)
    verdict = jnp.where(believed, protocol.verdict(logits, correct, y), jnp.nan)
    finite = jnp.all(jnp.isfinite(logits)) & jnp.all(jnp.isfinite(final))
    return Judgement(verdict, logits, correct, ~lost(final, y), finite)


def final_draw(classifier: Classifier, x: Image, key: PRNGKey) -> Logits:
    """The logits of one draw that is independent of all those that `judge` passes a verdict on."""
    return classifier(x, _purpose(checks.key("final_draw", key), "final"))


def standing(protocol: Protocol, before: Judgement, after: Judgement, y: Label) -> Scalar:
    """How much of an example is robust, in [0, 1], from judgements before and after an attack on the same draws: (1), (2)."""
    _check("standing", protocol)
    checks.instance("standing", Judgement, "judge(...)", before=before, after=after)
    product = before.verdict * after.verdict
    if not protocol.shares:
        return product
    share = protocol.verdict(after.logits, before.correct & after.correct, y)
    return jnp.where(jnp.isnan(product), jnp.nan, share)


def _share(logits: DrawnLogits, correct: Bool[Array, " draws"], y: Label) -> Scalar:
    """The share of draws that are right."""
    del y
    # Compiled, a mean of n ones may be off by a rounding error, and `all right` is told by a verdict of exactly 1.
    return jnp.where(jnp.all(correct), 1.0, jnp.mean(correct, dtype=wide_dtype(logits.dtype)))


@dataclass(frozen=True)
class _AtLeast:
    """Whether at least k draws are right."""

    k: int

    def __call__(self, logits: DrawnLogits, correct: Bool[Array, " draws"], y: Label) -> Scalar:
        del y
        return (jnp.sum(correct) >= self.k).astype(wide_dtype(logits.dtype))


def _most_votes(logits: DrawnLogits, correct: Bool[Array, " draws"], y: Label) -> Scalar:
    """Whether the true class has more votes than any other."""
    del correct
    voters = jnp.all(jnp.isfinite(logits), axis=1, keepdims=True)
    votes = jnp.sum(jax.nn.one_hot(jnp.argmax(logits, axis=1), logits.shape[1]) * voters, axis=0)
    others = jnp.where(jnp.arange(logits.shape[1]) == y, -1.0, votes)
    return (votes[y] > jnp.max(others)).astype(wide_dtype(logits.dtype))


def _check(who: str, protocol: Protocol, **functions: Callable) -> None:
    checks.instance(who, Protocol, "majority(5)", protocol=protocol)
    checks.function(who, **functions)


def _draws_key(key: PRNGKey) -> PRNGKey:
    return _purpose(key, "draws")


def _purpose(key: PRNGKey, name: str) -> PRNGKey:
    """A key that attacks, which count from 0, do not reach."""
    return jax.random.fold_in(key, int.from_bytes(name[:4].encode(), "big"))
