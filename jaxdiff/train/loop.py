"""The loop: steps, hooks, and a stop at the first loss that is not finite."""

import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from jaxdiff.checks import count, function, instance
from jaxdiff.checks import key as one_key
from jaxdiff.train.average import warn_if_short
from jaxdiff.train.state import TrainState
from jaxdiff.train.step import Step
from jaxdiff.types import PRNGKey

WATCHED = ("loss", "grad_norm", "update_norm")


class Guard:
    """Checks the metrics of each step, `lag` steps late: the device never waits for the host.

    It also keeps the host from running more than `lag` steps ahead, with as many batches in memory.
    """

    def __init__(self, lag: int) -> None:
        self._lag = lag
        self._pending: deque[tuple[int, dict[str, Any]]] = deque()

    def push(self, step: int, metrics: dict[str, Any]) -> None:
        """Adds a step and checks those `lag` behind; FloatingPointError names the first bad one."""
        self._pending.append((step, {k: metrics[k] for k in WATCHED if k in metrics}))
        self._check(self._lag)

    def drain(self) -> None:
        """Waits for all steps so far and checks them."""
        self._check(0)

    def _check(self, left: int) -> None:
        while len(self._pending) > left:
            step, metrics = self._pending.popleft()
            bad = [f"{k} is {v}" for k, v in metrics.items() if not np.all(np.isfinite(np.asarray(v)))]
            if bad:
                raise FloatingPointError(f"Training stopped at step {step}: {', '.join(bad)}")


def _optional(hook: Callable, name: str, *arguments: Any) -> Any:
    method = getattr(hook, name, None)
    return None if method is None else method(*arguments)


def _last_good(hooks: Sequence[Callable]) -> str:
    known = [text for hook in hooks if (text := _optional(hook, "last_good"))]
    return "; ".join(known) or "no checkpoint was written"


def _take(batches: Iterator, step: int, total: int) -> Any:
    try:
        return next(batches)
    except StopIteration:
        raise ValueError(f"The batches ended before step {step} of {total}: repeat the data.") from None


def _check(
    step: Step, state: TrainState, batches: Iterator, total: int, hooks: Sequence[Callable], lag: int
) -> None:
    function("fit", step=step)
    instance("fit", TrainState, "init_state(params, tx)", state=state)
    if not callable(getattr(batches, "__next__", None)):
        raise ValueError(
            f"fit needs batches as an iterator, such as iter(batches); got {type(batches).__name__}."
        )
    count("fit", total=total)
    count("fit", 0, lag=lag)
    instance("fit", Sequence, "[progress(total, batch_size)]", hooks=hooks)
    for hook in hooks:
        function("fit", hook=hook)


def fit(
    step: Step,
    state: TrainState,
    batches: Iterator,
    total: int,
    hooks: Sequence[Callable[[int, TrainState, dict[str, Any]], Any]],
    key: PRNGKey,
    lag: int = 4,
) -> TrainState:
    """Trains from `state.step` to step `total`; returns the state. The one passed in is donated to the step.

    Each hook is called after each step as `hook(step, state, metrics)`; the state lives until the next step
    only. A hook may have `due(step)`: if true, all steps so far are known to be finite when it is called;
    `last_good()`: the last checkpoint in words; and `close()`, called at the end, also after an error.
    FloatingPointError at the first step whose loss, gradient or update is not finite. Warns of an average in
    the state whose horizon is longer than the run.
    """
    _check(step, state, batches, total, hooks, lag)
    one_key("fit", key)
    warn_if_short(state.ema, total)
    guard = Guard(lag)
    with contextlib.ExitStack() as stack:
        for hook in hooks:
            stack.callback(_optional, hook, "close")
        try:
            for n in range(int(np.ravel(jax.device_get(state.step))[0]) + 1, total + 1):
                state, metrics = step(state, _take(batches, n, total), key)
                guard.push(n, metrics)
                for hook in hooks:
                    if _optional(hook, "due", n):
                        guard.drain()
                    hook(n, state, metrics)
            guard.drain()
        except FloatingPointError as error:
            raise FloatingPointError(f"{error}; {_last_good(hooks)}.") from error
    return state
