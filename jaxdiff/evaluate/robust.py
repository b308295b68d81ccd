"""Running one cell: every example attacked once, in batches of one shape, every outcome in the ledger."""

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import checks
from jaxdiff.evaluate.images import images_path, read_images, stack, take, write_images
from jaxdiff.evaluate.ledger import Ledger, Row
from jaxdiff.evaluate.progress import progress
from jaxdiff.evaluate.summary import valid
from jaxdiff.types import Image, Label, Logits, Scalar

LOG = logging.getLogger(__name__)
Batch = Mapping[str, Any]
Fetch = Callable[
    [np.ndarray], Batch
]  # int64 ids [B] -> image float32 [B, H, W, C] in [0, 1], label [B], id [B]
BatchAttack = Callable[
    [Batch], Mapping[str, Any]
]  # a batch -> the outputs of `outcome`, each with a leading [B]
OUTPUTS = ("adversarial", "before", "after", "finite", "loss", "norm", "linf")
FOR_CHECKS = ("wrong", "classes")  # outputs that are read and not kept


def outcome(
    x: Image,
    x_adv: Image,
    before: Logits,
    after: Logits,
    loss: Scalar,
    norm: Scalar,
    label: Label | None = None,
) -> dict[str, Any]:
    """What a cell records of one example, from the logits before and after the attack; vmap and jit it.

    `loss` is the attack's at `x_adv`, `norm` the perturbation's in the threat's norm. A prediction from
    logits that are not finite is class -1, which is never right; `finite` says whether everything was.

    `classes`, how many there are, is for `run_cell` to check the labels by. With its `label`, `valid` says whether the example
    was an image in [0, 1] with one of these labels: one that was not is counted apart, and is in no accuracy.

    A batch attack may add to it: `won` (the attack saw the label lost at its result), `wrong` (it saw the clean
    image lost, and left it alone), and, from a protocol, `share`, how much of the example is robust. ValueError for logits that
    are not one row each of the same classes, or an attacked image of another shape.
    """
    if jnp.ndim(before) != 1 or jnp.shape(before) != jnp.shape(after) or not jnp.size(before):
        raise ValueError(
            "outcome takes the logits [classes] of one image before and after the attack; got shapes "
            f"{jnp.shape(before)} and {jnp.shape(after)}. For a batch use jax.vmap."
        )
    if jnp.shape(x) != jnp.shape(x_adv):
        raise ValueError(
            f"An attacked image has the shape of the image; got {jnp.shape(x_adv)} of {jnp.shape(x)}."
        )
    finite = [jnp.isfinite(v).all() for v in (before, after, loss, norm, x_adv)]
    classes = before.shape[-1]
    found = {} if label is None else {"valid": checks.believable(x, label, classes)}
    return found | {
        "adversarial": x_adv,
        "classes": jnp.asarray(classes),
        "before": jnp.where(finite[0], jnp.argmax(before), -1),
        "after": jnp.where(finite[1], jnp.argmax(after), -1),
        "finite": jnp.stack(finite).all(),
        "loss": loss,
        "norm": norm,
        "linf": jnp.max(jnp.abs(x_adv - x)),
    }


def run_cell(
    ledger: Ledger,
    ids: Sequence[int] | np.ndarray,
    fetch: Fetch,
    attack: BatchAttack,
    batch_size: int,
    progress_label: str | None = None,
    keep: int = 0,
) -> dict[str, np.ndarray]:
    """Attacks what the ledger lacks of `ids`, in batches; returns the pictures of the first `keep`, stacked.

    Shapes never change (a short batch is filled up by repeating its examples, which are not `real`), so a
    jitted `attack` is traced once. What is on disk is not attacked again; lost pictures alone are. Outputs
    with one number per example go to the rows, larger ones ("adversarial", perhaps "purified") are pictures.
    A row is not `correct_after` where the attack has `won`, nor `correct_before` where it was `wrong` (which
    is not kept beyond that), whatever the judge has seen. ValueError, before the batch is on disk, for bad ids, for images that
    are not float32 in [0, 1], labels that are not one of the `classes` in the outputs, and for bad outputs.
    """
    checks.instance("run_cell", Ledger, "Ledger.open(path, fingerprint)", ledger=ledger)
    checks.function("run_cell", fetch=fetch, attack=attack)
    checks.count("run_cell", batch_size=batch_size)
    checks.count("run_cell", least=0, keep=keep)
    ids = _checked_ids(ids)
    kept, path = ids[:keep], images_path(ledger.path)
    pictures = read_images(path, ledger.fingerprint) if keep else {}
    lost = set(kept) - set(pictures)
    todo = [i for i in ids if i not in ledger.rows or i in lost]
    with progress(progress_label, ledger, ids) as update:
        for chunk in _chunks(todo, batch_size):
            batch, outputs, seconds = _attack(chunk, fetch, attack, batch_size)
            drawn = {i: j for j, i in enumerate(chunk) if i in lost}
            if drawn:  # before the rows: a row on disk implies its picture
                fresh = take(outputs, drawn)
                write_images(path, ledger.fingerprint, fresh)
                pictures |= fresh
            rows = _rows(chunk, batch, outputs, seconds / len(chunk))
            new = [row for row in rows if row["id"] not in ledger.rows]
            ledger.append(new)
            update(len(new))
    _warn_of(ledger, ids)
    return stack(pictures, kept)


def _checked_ids(ids: Sequence[int] | np.ndarray) -> list[int]:
    array = np.asarray(ids)
    if array.ndim != 1 or (array.size and not np.issubdtype(array.dtype, np.integer)):
        raise ValueError(f"Example ids are whole numbers, one after the other; got {ids!r}.")
    ids = array.tolist()
    if len(set(ids)) != len(ids):
        raise ValueError("Example ids are unique; some were given twice.")
    return ids


def _chunks(ids: list[int], size: int) -> Iterator[list[int]]:
    return (ids[i : i + size] for i in range(0, len(ids), size))


def _attack(
    chunk: list[int], fetch: Fetch, attack: BatchAttack, size: int
) -> tuple[Batch, Mapping[str, Any], float]:
    """One padded batch: (batch, outputs, seconds in the attack)."""
    ids = np.resize(np.asarray(chunk, np.int64), size)  # np.resize repeats
    batch = fetch(ids)
    _check_batch(batch, ids)
    batch = {**batch, "real": np.arange(size) < len(chunk)}
    start = time.perf_counter()
    outputs = jax.block_until_ready(attack(batch))
    seconds = time.perf_counter() - start
    _check_outputs(outputs, size)
    if "classes" in outputs:  # known from the first logits: before that, a label is checked to be one at all
        checks.labels("fetch", batch["label"], size, int(np.max(outputs["classes"])))
    return batch, outputs, seconds


def _check_batch(batch: Batch, ids: np.ndarray) -> None:
    absent = [name for name in ("image", "label", "id") if name not in batch]
    if absent:
        raise ValueError(f"fetch returns 'image', 'label' and 'id' of a batch; {absent} are missing.")
    image = np.asarray(batch["image"])
    if not np.array_equal(np.asarray(batch["id"]), ids) or len(image) != len(ids):
        raise ValueError(
            f"fetch must return one image and label for each id, in order; asked for {ids[:8]}..."
        )
    if image.dtype != np.float32:
        raise ValueError(f"Images are float32 in [0, 1]; fetch returned {image.dtype}.")
    checks.images("fetch", image)
    checks.labels("fetch", batch["label"], len(ids))


def _check_outputs(outputs: Mapping[str, Any], size: int) -> None:
    absent = [name for name in OUTPUTS if name not in outputs]
    if absent:
        raise ValueError(f"An attack on a batch returns {OUTPUTS} (see `outcome`); {absent} are missing.")
    wrong = {name: np.shape(v) for name, v in outputs.items() if np.shape(v)[:1] != (size,)}
    if wrong:
        raise ValueError(f"Every output of an attack has a leading axis of {size} examples; got {wrong}.")


def _rows(chunk: list[int], batch: Batch, outputs: Mapping[str, Any], seconds: float) -> list[Row]:
    columns = jax.device_get({name: v for name, v in outputs.items() if np.ndim(v) == 1})
    labels = np.asarray(batch["label"])
    values = [{name: column[j].item() for name, column in columns.items()} for j in range(len(chunk))]
    return [_row(i, int(labels[j]), values[j], seconds) for j, i in enumerate(chunk)]


def _row(example: int, label: int, values: dict[str, Any], seconds: float) -> Row:
    finite = values["finite"] and all(math.isfinite(values[name]) for name in ("loss", "norm", "linf"))
    told = valid(values)  # else it is neither robust nor fallen
    # The attack and the judge evaluate in batches of different widths, which round differently. Near a boundary they may
    # disagree; one of them is enough to lose, or the nearest victories would count as failures.
    won, wrong = values.get("won", False), values.get("wrong", False)
    judged = {
        "finite": finite,
        "correct_before": told and values["before"] == label and not wrong,
        # What blew up has not stood.
        "correct_after": told and finite and values["after"] == label and not won,
    }
    if "share" in values:
        judged["share"] = values["share"] if told and finite and not won and not wrong else 0.0
    kept = {name: value for name, value in values.items() if name not in FOR_CHECKS}
    return {"id": example, "label": label} | kept | judged | {"seconds": seconds}


def _warn_of(ledger: Ledger, ids: list[int]) -> None:
    rows = ledger.select(ids)
    counts = {
        "have non-finite logits, loss or perturbation; they count as not robust": sum(
            valid(row) and not row["finite"] for row in rows
        ),
        "were no images in [0, 1] with a label of the classifier; they are left out": sum(
            not valid(row) for row in rows
        ),
    }
    for words, count in counts.items():
        if count:
            LOG.warning("%s: %d of %d examples %s.", ledger.path, count, len(ids), words)
