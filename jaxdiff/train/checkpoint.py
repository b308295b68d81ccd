"""Checkpoints: the state, the position in the data and facts about the run, in one atomic step on disk."""

import json
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
from jaxtyping import PyTree

from jaxdiff.train.state import TrainState


class Leaf(NamedTuple):
    """What must agree between a checkpoint and the state it is restored into."""

    shape: tuple
    dtype: str


def leaves(tree: PyTree) -> dict[str, Leaf]:
    """Path such as "params/conv/kernel" -> shape and dtype, whatever containers the tree is made of."""

    def name(path: tuple) -> str:
        return jax.tree_util.keystr(path, simple=True, separator="/")

    flat = jax.tree_util.tree_leaves_with_path(tree)
    return {name(path): Leaf(tuple(x.shape), str(x.dtype)) for path, x in flat}


def first_difference(stored: dict[str, Leaf], wanted: dict[str, Leaf]) -> str | None:
    """The first leaf that differs, in words, or None."""

    def words(leaf: Leaf | None) -> str:
        return "missing" if leaf is None else f"{leaf.dtype}{list(leaf.shape)}"

    for name in [*wanted, *stored]:
        if stored.get(name) != wanted.get(name):
            return f"{name} is {words(stored.get(name))} in the checkpoint, {words(wanted.get(name))} here"
    return None


def abstract(state: PyTree) -> PyTree:
    """Shapes, dtypes and shardings of `state`; a leaf without a sharding goes to the first device."""
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])

    def describe(x: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=getattr(x, "sharding", None) or here)

    return jax.tree.map(describe, state)


class Checkpoints:
    """The last `keep` checkpoints in `directory`, written in the background; `with` waits for them.

    A checkpoint appears by a rename when it is complete: one half-written by a killed run is never seen.
    `metadata` is a small JSON object stored with every checkpoint.
    """

    def __init__(
        self, directory: str | os.PathLike, keep: int = 2, metadata: Mapping[str, Any] | None = None
    ) -> None:
        import orbax.checkpoint as ocp

        path = os.fspath(directory)
        if keep < 1:
            raise ValueError(f"keep is a number of checkpoints, at least 1; got {keep}.")
        self.directory = path if "://" in path else os.path.abspath(path)
        self._metadata = dict(metadata or {})
        policy = ocp.checkpoint_managers.preservation_policy.LatestN(keep)
        options = ocp.CheckpointManagerOptions(preservation_policy=policy, cleanup_tmp_directories=True)
        # Without handlers, a manager that has not saved yet cannot read metadata.
        handlers = {"state": ocp.StandardCheckpointHandler(), "facts": ocp.JsonCheckpointHandler()}
        self._manager = ocp.CheckpointManager(self.directory, options=options, item_handlers=handlers)

    @property
    def latest(self) -> int | None:
        """The step of the newest complete checkpoint, or None."""
        self.wait()
        return self._manager.latest_step()

    def save(self, step: int, state: TrainState, data_state: Any = None) -> None:
        """Starts writing; returns once the state may be donated. A step already saved stays as it is.

        `data_state` is the position in the data: plain values that JSON can hold, else TypeError.
        """
        import orbax.checkpoint as ocp

        facts = {"data": data_state, "metadata": self._metadata}
        json.dumps(facts)  # written in the background, where an error would come too late
        args = ocp.args.Composite(state=ocp.args.StandardSave(state), facts=ocp.args.JsonSave(facts))
        self._manager.save(step, args=args)

    def restore(self, state: PyTree) -> tuple[Any, Any] | None:
        """(state, data_state) of the latest checkpoint, or None if there is none.

        `state` (arrays or ShapeDtypeStructs) gives structure and shardings. ValueError if a leaf differs.
        """
        import orbax.checkpoint as ocp

        step = self.latest
        if step is None:
            return None
        self._check(step, state)
        args = ocp.args.Composite(
            state=ocp.args.StandardRestore(abstract(state)), facts=ocp.args.JsonRestore()
        )
        restored = self._manager.restore(step, args=args)
        return restored["state"], restored["facts"]["data"]

    def metadata(self) -> dict[str, Any] | None:
        """The metadata stored with the latest checkpoint, or None if there is none."""
        import orbax.checkpoint as ocp

        step = self.latest
        if step is None:
            return None
        facts = self._manager.restore(step, args=ocp.args.Composite(facts=ocp.args.JsonRestore()))["facts"]
        return facts["metadata"]

    def _check(self, step: int, state: PyTree) -> None:
        stored = self._manager.item_metadata(step)["state"].tree
        difference = first_difference(leaves(stored), leaves(state))
        if difference is not None:
            raise ValueError(
                f"The checkpoint of step {step} in {self.directory} is of another architecture or optimiser: "
                f"{difference}. Use the config that wrote it, or train in an empty directory."
            )

    def wait(self) -> None:
        """Returns when everything saved is on disk; raises what went wrong in the background."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, then releases the threads."""
        self._manager.close()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def resume(checkpoints: Checkpoints, state: TrainState, batches: Any) -> TrainState:
    """The latest checkpoint in the form of `state`, with `batches` set to its position; or `state`.

    On several hosts `state` is in place already (`placement.shared`), because it says where the arrays go.
    """
    restored = checkpoints.restore(state)
    if restored is None:
        return state
    batches.set_state(restored[1])
    return restored[0]
