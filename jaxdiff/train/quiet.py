"""Silence for what others print of an error that we tell ourselves."""

import contextlib
import gc
import logging
import sys
import threading
from collections.abc import Iterator

_ONE = threading.RLock()  # hook and loggers belong to the process, and two networks may train at once


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Inside, a reader that fails does not also print its error log and what became of its unfinished coroutines."""
    with _ONE:
        hook, loggers = sys.unraisablehook, [logging.getLogger(name) for name in ("absl", "asyncio")]
        were_off = [logger.disabled for logger in loggers]
        for logger in loggers:
            logger.disabled = True
        sys.unraisablehook = lambda _: None
        try:
            yield
        except BaseException:
            gc.collect()
            raise
        finally:
            sys.unraisablehook = hook
            for logger, was_off in zip(loggers, were_off, strict=True):
                logger.disabled = was_off
