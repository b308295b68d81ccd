"""Many examples through one stepwise attack, in a batch of slots that refill themselves.

A slot runs the steps of one example; when its attack has won or its steps are spent, the result is stored and the slot takes
the next example. So nearly all of the batch is always at work, shapes never change, the whole is one jitted loop, and an
example's result does not depend on its company: with its own key it takes the same steps as alone.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from jaxdiff.attacks.stepwise import Best, Stepwise, check_stepwise, start
from jaxdiff.types import Classifier, Images, Labels, PRNGKeys

BatchedAttack = Callable[..., Best]


def pooled(attack: Stepwise, slots: int, stop: bool = True) -> BatchedAttack:
    """(classifier, x [B, ...], y [B], keys [B], todo [B] = all) -> `Best` with a leading [B].

    `slots` examples are attacked at a time. `stop` ends an attack at its first victory: right for deterministic classifiers,
    while one lucky draw of a random one proves nothing; and wrong for attacks that look for the least perturbation
    (`carlini_wagner`, `ddn`, any with an infinite radius), whose first victory is not their best. Examples that are not
    `todo` are skipped and come back as they are.
    """
    check_stepwise("pooled", attack)
    if slots < 1:
        raise ValueError(f"pooled needs slots >= 1; got {slots}.")

    def run(
        classifier: Classifier,
        x: Images,
        y: Labels,
        keys: PRNGKeys,
        todo: Bool[Array, " batch"] | None = None,
    ) -> Best:
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise ValueError(f"Images are floats in [0, 1]; got {x.dtype}. Divide by 255.")
        n, width = len(x), min(slots, len(x))
        todo = jnp.ones(n, bool) if todo is None else todo
        order, count = jnp.argsort(~todo, stable=True), jnp.sum(todo)
        problem = lambda j: (classifier, x[j], y[j], keys[j])  # noqa: E731
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
            store = lambda results: jax.tree.map(  # noqa: E731
                lambda r, f: r.at[jnp.where(done, example, n)].set(f, mode="drop"), results, found
            )
            results = jax.lax.cond(jnp.any(done), store, lambda results: results, results)
            carry = taken, jnp.where(done, n, example), i, state, results
            # Refilling costs an evaluation of `init`: not for every slot alone.
            idle = jnp.sum(carry[1] == n)
            due = (taken < count) & ((idle * 4 >= width) | (idle == width))
            return jax.lax.cond(due, refill, lambda carry: carry, carry)

        first = jnp.where(jnp.arange(width) < count, order[:width], n)
        state = init(order[:width])
        carry = jnp.minimum(width, count), first, jnp.zeros(width, order.dtype), state, jax.vmap(start)(x)
        carry = jax.lax.while_loop(lambda carry: jnp.any(carry[1] < n), work, carry)
        return carry[-1]

    return run


def _where(mask, new, old):
    """`new` where the mask says so, along the first axis of every leaf, typed keys too."""
    pick = lambda a, b: jnp.where(mask.reshape(-1, *[1] * (a.ndim - 1)), a, b)  # noqa: E731
    return jax.tree.map(pick, new, old)
