"""Silence around a reader that fails: while it lasts, and no longer."""

import logging
import sys
import threading

from jaxdiff.train.quiet import quiet


def test_two_that_overlap_leave_nothing_silent():
    """Two networks are trained at once, and both save."""
    hook, inside, leave = sys.unraisablehook, threading.Event(), threading.Event()

    def first():
        with quiet():
            inside.set()
            leave.wait(10)

    def second():
        inside.wait(10)
        threading.Timer(0.1, leave.set).start()
        with quiet():
            assert logging.getLogger("absl").disabled

    threads = [threading.Thread(target=run) for run in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sys.unraisablehook is hook and not logging.getLogger("absl").disabled
