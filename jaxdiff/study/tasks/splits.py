"""The parts of the data that tasks use."""

from collections.abc import Callable

from jaxdiff.data.dataset import Dataset


def validation_part(data: Callable[[str], Dataset]) -> Dataset | None:
    """The split "validation", or None if the data have none."""
    try:
        return data("validation")
    except (ValueError, KeyError):  # the data have been opened for training: nothing else is wrong with them
        return None
