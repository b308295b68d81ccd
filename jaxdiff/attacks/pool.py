"""Many examples through one stepwise attack, in a batch of slots that refill themselves.

A slot runs the steps of one example; when its attack has won or its steps are spent, the result is stored and the slot takes
the next example. So nearly all of the batch is always at work, shapes never change, and the whole is one jitted loop.

There are always as many slots as were asked for, also for fewer examples: the arithmetic has one width, whatever the batch, its
order and the number of devices. With its own key an example takes the same steps in any company, bit by bit on one machine;
another number of slots, or the attack called alone, may round otherwise.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from jaxdiff import checks
from jaxdiff.attacks.attack import as_stepwise
from jaxdiff.attacks.stepwise import Best, Stepwise, marked, start
from jaxdiff.types import Attack, Classifier, Images, Labels, PRNGKeys

BatchedAttack = Callable[..., Best]


def pooled(attack: Attack, slots: int, stop: bool | None = None) -> BatchedAttack:
    """(classifier, x [B, ...], y [B], keys [B], todo [B] = all) -> `Best` with a leading [B].

    `slots` examples are attacked at a time. `stop` ends an attack at its first victory. Left out, the attack says: those that
    look for the least perturbation (`least_norm`) go on. For a random classifier, where one lucky draw proves nothing, it is
    False. Examples that are not `todo` are skipped and come back as they are.
    """
    pool = run_pool("pooled", as_stepwise(attack), slots, stop)

    def run(classifier: Classifier, x: Any, y: Any, keys: PRNGKeys, todo: Any = None) -> Best:
        batch, valid = checked_batch("pooled", classifier, x, y, keys, todo)
        return jax.vmap(marked)(pool(classifier, *batch), batch[0], valid)

    return run


def checked_batch(
    who: str, classifier: Classifier, x: Any, y: Any, keys: Any, todo: Any
) -> tuple[tuple[Array, ...], Bool[Array, " batch"]]:
    """((x, y, keys, todo) as arrays, which examples can be believed); those that can not are not `todo`."""
    x = checks.images(who, x)
    n, image = len(x), jax.ShapeDtypeStruct(x.shape[1:], x.dtype)
    keys = checks.keys(who, keys, n)
    classes = checks.logits_of(who, classifier, image, jax.ShapeDtypeStruct((), keys.dtype))
    y = checks.labels(who, y, n, classes)
    valid = jax.vmap(lambda x, y: checks.believable(x, y, classes))(x, y)
    todo = jnp.ones(n, bool) if todo is None else jnp.asarray(todo)
    if todo.shape != (n,) or todo.dtype != bool:
        raise ValueError(
            f"{who}: todo is one truth for each of {n} images; got {todo.dtype}{list(todo.shape)}."
        )
    return (x, y, keys, todo & valid), valid


def run_pool(who: str, attack: Stepwise, slots: int, stop: bool | None) -> BatchedAttack:
    """`pooled` on a batch that has been checked; ValueError, of `who`, for settings that are none."""
    checks.count(who, slots=slots)
    if stop not in (None, True, False):
        raise ValueError(f"{who} needs stop as True, False or None (the attack says); got {stop!r}.")
    stop = not attack.least_norm if stop is None else stop

    def run(
        classifier: Classifier, x: Images, y: Labels, keys: PRNGKeys, todo: Bool[Array, " batch"]
    ) -> Best:
        n = len(x)
        if not n:
            return jax.vmap(start)(x)
        order, count = jnp.argsort(~todo, stable=True), jnp.sum(todo)
        problem = lambda j: (classifier, x[j], y[j], keys[j])
        init = jax.vmap(lambda j: attack.init(problem(j)))
        step = jax.vmap(lambda j, state, i: attack.step(problem(j), state, i))
        best = jax.vmap(attack.best)

        def refill(carry):
            taken, example, i, state, results = carry
            free = example == n
            place = taken + jnp.cumsum(free) - 1
            fresh = free & (place < count)
            example = jnp.where(fresh, order[jnp.minimum(place, n - 1)], example)
            state = _where(fresh, init(jnp.minimum(example, n - 1)), state)
            return taken + jnp.sum(fresh), example, jnp.where(fresh, 0, i), state, results

        def work(carry):
            taken, example, i, state, results = carry
            current = jnp.minimum(example, n - 1)
            state, i = step(current, state, i), i + 1
            found = best(state)
            done = (example < n) & ((i >= attack.steps) | (found.won & stop))
            store = lambda results: jax.tree.map(
                lambda r, f: r.at[jnp.where(done, example, n)].set(f, mode="drop"), results, found
            )
            results = jax.lax.cond(jnp.any(done), store, lambda results: results, results)
            carry = taken, jnp.where(done, n, example), i, state, results
            # Refilling costs an evaluation of `init`: not for every slot alone.
            idle = jnp.sum(carry[1] == n)
            due = (taken < count) & ((idle * 4 >= slots) | (idle == slots))
            return jax.lax.cond(due, refill, lambda carry: carry, carry)

        first = order[jnp.minimum(jnp.arange(slots), n - 1)]
        example = jnp.where(jnp.arange(slots) < count, first, n)
        taken, results = jnp.minimum(slots, count), jax.vmap(start)(x)
        carry = taken, example, jnp.zeros(slots, order.dtype), init(first), results
        carry = jax.lax.while_loop(lambda carry: jnp.any(carry[1] < n), work, carry)
        return carry[-1]

    return run


def _where(mask, new, old):
    """`new` where the mask says so, along the first axis of every leaf, typed keys too."""
    pick = lambda a, b: jnp.where(mask.reshape(-1, *[1] * (a.ndim - 1)), a, b)
    return jax.tree.map(pick, new, old)
