"""Several attacks on a batch, one after the other, each on what still stands."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from jaxdiff import checks
from jaxdiff.attacks.attack import as_stepwise, lost
from jaxdiff.attacks.pool import checked_batch, run_pool
from jaxdiff.attacks.stepwise import Best, Stepwise, choose, marked, start
from jaxdiff.chunks import in_chunks
from jaxdiff.types import Attack, Classifier, PRNGKeys


def in_order(
    attacks: Attack | Mapping[str, Attack],
    slots: int,
    stop: bool | None = None,
    is_lost: Callable[..., Bool[Array, ""]] | None = None,
    fold: bool = True,
) -> Callable[..., Best]:
    """(classifier, x [B, ...], y [B], keys [B], todo [B] = all) -> `Best` [B]: each attack on what the ones before left.

    Images that the classifier gets wrong as they are come back unchanged, with `won` and attack = -1; else `attack` is the
    place of the one that has won. One pure function for one jit; `slots` and `stop` as in `pooled`. One attack is an ensemble
    of one. Each draws from a key of its own (see `numbered`), unless `fold` says that they do so themselves.

    `won` is what one evaluation said: a random classifier loses images here by one unlucky draw. Use `stop=False`, and judge
    the images again (`jaxdiff.defenses.protocols`), or give `is_lost(classifier, x, y, key)`, which judges what every attack
    has found, by the example's own key, and clean images not at all. Of an image that stands, `x` is what the last one found.
    """
    if callable(attacks):
        attacks = {"": attacks}
    if not (isinstance(attacks, Mapping) and attacks):
        raise ValueError(
            f"in_order needs attacks by their names, such as autoattack.standard(...); got {attacks!r}."
        )
    checks.function("in_order", **{f"attacks[{name!r}]": attack for name, attack in attacks.items()})
    ordered = [
        numbered(attack, i) if fold else as_stepwise(attack) for i, attack in enumerate(attacks.values())
    ]
    pools = [run_pool("in_order", attack, slots, stop) for attack in ordered]
    judge = is_lost or (lambda classifier, x, y, key: lost(classifier(x, key), y))

    def run(classifier: Classifier, x: Any, y: Any, keys: PRNGKeys, todo: Any = None) -> Best:
        (x, y, keys, todo), valid = checked_batch("in_order", classifier, x, y, keys, todo)
        clean = jax.vmap(lambda key: jax.random.fold_in(key, len(pools)))(keys)
        judged = in_chunks(lambda e: jax.vmap(lambda *one: judge(classifier, *one))(*e), slots)
        wrong = judged((x, y, clean)) if is_lost is None else jnp.zeros(len(x), bool)
        best = jax.vmap(start)(x)._replace(won=wrong & todo, queries=todo.astype(int))
        for i, pool in enumerate(pools):
            standing = todo & ~best.won
            found = pool(classifier, x, y, keys, standing)
            if is_lost is not None:
                found = found._replace(won=judged((found.x, y, keys)))
            mine = jnp.where(found.won, i, -1)
            found = found._replace(queries=best.queries + found.queries, attack=mine)
            best = jax.vmap(choose)(standing, found, best)
        return jax.vmap(marked)(best, x, valid)

    return run


def numbered(attack: Attack, i: int) -> Stepwise:
    """The attack with a key of its own, as the i-th of several that are given one key."""
    return as_stepwise(attack).on(lambda problem: (*problem[:-1], jax.random.fold_in(problem[-1], i)))
