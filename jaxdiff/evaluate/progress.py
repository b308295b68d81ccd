"""The progress bar of a cell: examples done, robust accuracy so far, time left."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from jaxdiff.evaluate.ledger import Ledger
from jaxdiff.evaluate.summary import share, valid


@contextmanager
def progress(label: str | None, ledger: Ledger, ids: Sequence[int]) -> Iterator[Callable[[int], None]]:
    """A tqdm bar over `ids`, begun at what the ledger holds; yields `update(count)`. No label, no bar."""
    if label is None:
        yield lambda count: None
        return
    from tqdm import tqdm

    def update(count: int) -> None:
        rows = [ledger.rows[i] for i in ids if i in ledger.rows and valid(ledger.rows[i])]
        if rows:
            bar.set_postfix_str(f"robust {100 * sum(map(share, rows)) / len(rows):.1f} %", refresh=False)
        bar.update(count)

    done = sum(i in ledger.rows for i in ids)
    with tqdm(total=len(ids), initial=done, desc=label, unit="img", dynamic_ncols=True) as bar:
        update(0)
        yield update
