"""Work that does not need each other, at the same time: on a CPU, where training a small network keeps one core busy."""

import queue
import threading
from collections.abc import Callable, Mapping, Sequence

Work = Callable[[str, int, Callable[[], None]], None]  # name, place among those at work, stop_if_asked


class Stopped(Exception):
    """Work was stopped because what ran beside it failed."""


def side_by_side(needs: Mapping[str, Sequence[str]], work: Work, workers: int) -> None:
    """`work(name, place, stop_if_asked)` for every name, in their order but each as soon as what it needs is done.

    Up to `workers` are at work at a time. They call `stop_if_asked` now and then: it raises `Stopped` when other work has
    failed, or there was an interrupt. The first error is raised once all have stopped.
    """
    stop, finished = threading.Event(), queue.SimpleQueue()

    def stop_if_asked() -> None:
        if stop.is_set():
            raise Stopped("stopped, because what ran beside it failed")

    def begin(name: str, place: int) -> None:
        error = None
        try:
            work(name, place, stop_if_asked)
        except BaseException as caught:
            error = caught
        finished.put((name, error))

    waiting, done, running, errors = list(needs), set(), {}, []
    while running or (waiting and not errors):
        ready = [name for name in waiting if done >= set(needs[name])] if not errors else []
        for name in ready[: workers - len(running)]:
            waiting.remove(name)
            running[name] = next(place for place in range(workers) if place not in running.values())
            if workers == 1:
                begin(name, 0)
            else:
                threading.Thread(target=begin, args=(name, running[name]), daemon=True).start()
        try:
            name, error = finished.get(timeout=0.1)  # without a limit an interrupt would not be heard
        except queue.Empty:
            continue
        except KeyboardInterrupt as interrupt:
            errors.insert(0, interrupt)
            stop.set()
            continue
        del running[name]
        if error is None:
            done.add(name)
        else:
            errors.append(error)
            stop.set()
    if errors:
        raise errors[0]  # the others were stopped by it
