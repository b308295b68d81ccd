"""Checkpoints: the state, the position in the data and facts about the run, in one atomic step on disk.

Every step carries a digest of each leaf and a seal over its facts (see `digest`), and nothing is believed that does not
agree with them: a damaged step is named in a warning, and the step before it is used, with its own data position.
"""

import contextlib
import hashlib
import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from jaxdiff.checks import count, instance
from jaxdiff.train import paths
from jaxdiff.train.digest import Leaf, described, digested, first_difference
from jaxdiff.train.quiet import quiet
from jaxdiff.train.state import TrainState, check_arrays

OLD = {"data", "metadata"}  # the facts of a checkpoint from before there were digests
NOT_DAMAGE = (MemoryError, jax.errors.JaxRuntimeError)


def abstract(state: PyTree) -> PyTree:
    """Shapes, dtypes and shardings of `state`; a leaf without a sharding goes to the first device."""
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])

    def describe(x: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=getattr(x, "sharding", None) or here)

    return jax.tree.map(describe, state)


def as_json(who: str, value: Any) -> Any:
    """`value` as JSON gives it back; ValueError if it holds anything but plain values."""
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{who} as plain values (numbers, text, lists, dicts): {error}.") from None


def seal(facts: Mapping[str, Any]) -> str:
    """SHA-256 of the facts, but for their seal."""
    rest = {k: v for k, v in facts.items() if k != "seal"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


class Checkpoints:
    """The last `keep` checkpoints in `directory`, written in the background; `with` waits for them.

    A checkpoint appears by a rename when it is complete: one half-written by a killed run is never seen. One
    that was damaged later is passed over with a warning and, at the next `save`, renamed to "damaged-<step>".
    `metadata` is a small JSON object stored with every checkpoint.
    """

    def __init__(
        self, directory: str | os.PathLike, keep: int = 2, metadata: Mapping[str, Any] | None = None
    ) -> None:
        import orbax.checkpoint as ocp

        count("Checkpoints", keep=keep)
        if metadata is not None:
            instance("Checkpoints", Mapping, '{"depth": 28}', metadata=metadata)
        remote = isinstance(directory, str) and "://" in directory
        self.directory = directory if remote else str(paths.folder("Checkpoints", directory))
        self._metadata = as_json("Checkpoints stores metadata", dict(metadata or {}))
        self._damaged: dict[int, str] = {}
        policy = ocp.checkpoint_managers.preservation_policy.LatestN(keep)
        options = ocp.CheckpointManagerOptions(preservation_policy=policy, cleanup_tmp_directories=True)
        # Without handlers, a manager that has not saved yet cannot read metadata.
        handlers = {"state": ocp.StandardCheckpointHandler(), "facts": ocp.JsonCheckpointHandler()}
        try:
            self._manager = ocp.CheckpointManager(self.directory, options=options, item_handlers=handlers)
        except OSError as error:
            raise ValueError(f"Checkpoints cannot use the folder {self.directory!r}: {error}.") from error

    @property
    def latest(self) -> int | None:
        """The step of the newest complete checkpoint whose facts are intact, or None."""
        return next((step for step, _ in self._steps()), None)

    def check_writable(self) -> None:
        """ValueError if the folder is read-only, which restoring allows and saving does not."""
        if "://" not in self.directory:
            paths.writable("Checkpoints", paths.Path(self.directory))

    def save(self, step: int, state: TrainState, data_state: Any = None) -> None:
        """Starts writing; returns once the state may be donated. A step already saved stays as it is.

        `data_state` is the position in the data: plain values that JSON can hold. ValueError if it is not, or
        if there is a later step already, of a run that was not resumed.
        """
        import orbax.checkpoint as ocp

        count("Checkpoints.save", 0, step=step)
        check_arrays("Checkpoints.save", "state", state)
        if not jax.tree.leaves(state):
            raise ValueError(f"Checkpoints.save needs a state with at least one array; got {state!r:.60}.")
        position = as_json("Checkpoints.save stores data_state", data_state)
        latest = self.latest
        self._set_aside()
        if latest is not None and step < latest:
            raise ValueError(
                f"Step {step} cannot be saved in {self.directory}, which holds step {latest} of another run: "
                "resume that run, or train in an empty directory."
            )
        facts = {"data": position, "metadata": self._metadata, "leaves": digested(state)}
        facts = json.loads(json.dumps(facts))
        facts["seal"] = seal(facts)
        args = ocp.args.Composite(state=ocp.args.StandardSave(state), facts=ocp.args.JsonSave(facts))
        with self._writing():
            self._manager.save(step, args=args)

    def restore(self, state: PyTree) -> tuple[Any, Any] | None:
        """(state, data_state) of the newest intact checkpoint, or None if there is none at all.

        `state` (arrays or ShapeDtypeStructs) gives structure and shardings. ValueError if a leaf differs in
        shape or dtype, or if there are checkpoints and all are damaged.
        """
        for step, facts in self._steps():
            stored = self._leaves(step, facts)
            if stored is None:
                continue
            self._check(step, stored, state)
            restored = self._read(step, state, stored)
            if restored is not None:
                return restored, facts["data"]
        if self._damaged:
            reasons = "\n".join(f"  step {step}: {why}" for step, why in sorted(self._damaged.items()))
            raise ValueError(
                f"All checkpoints in {self.directory} are damaged:\n{reasons}\nRestore the folder from a copy, or "
                "train in an empty directory."
            )
        return None

    def metadata(self) -> dict[str, Any] | None:
        """The metadata stored with the newest checkpoint whose facts are intact, or None if there is none."""
        return next((facts["metadata"] for _, facts in self._steps()), None)

    def _steps(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """(step, facts) of the checkpoints not known to be damaged, the newest first."""
        import orbax.checkpoint as ocp

        self.wait()
        for step in sorted(self._manager.all_steps(), reverse=True):
            if step in self._damaged:
                continue
            args = ocp.args.Composite(facts=ocp.args.JsonRestore())
            facts = self._attempt(step, lambda: _intact(self._manager.restore(step, args=args)["facts"]))
            if facts is not None:
                yield step, facts

    def _leaves(self, step: int, facts: dict[str, Any]) -> dict[str, Leaf] | None:
        if set(facts) != OLD:
            stored = facts["leaves"].items()
            return {name: Leaf(tuple(shape), dtype, digest) for name, (shape, dtype, digest) in stored}
        warnings.warn(
            f"The checkpoint of step {step} in {self.directory} has no digests, because it was written by an "
            "older version: whether it is intact cannot be told.",
            stacklevel=4,
        )
        return self._attempt(step, lambda: described(self._manager.item_metadata(step)["state"].tree))

    def _read(self, step: int, state: PyTree, stored: dict[str, Leaf]) -> PyTree | None:
        import orbax.checkpoint as ocp

        args = ocp.args.Composite(state=ocp.args.StandardRestore(abstract(state)))

        def read() -> PyTree:
            restored = self._manager.restore(step, args=args)["state"]
            found = digested(restored)
            wrong = [name for name, leaf in stored.items() if leaf.digest not in (None, found[name].digest)]
            if wrong:
                raise ValueError(f"the numbers of {', '.join(wrong[:3])} are not those that were saved")
            return restored

        return self._attempt(step, read)

    def _attempt(self, step: int, read: Callable[[], Any]) -> Any:
        """`read()`, or None, with a warning, if on any host it shows that the step is damaged."""
        result, why = None, ""
        try:
            with quiet():
                result = read()
        except NOT_DAMAGE:
            raise
        except Exception as error:
            why = f"{str(error).strip() or type(error).__name__:.300}"
            if isinstance(error, PermissionError) or "PERMISSION_DENIED" in why:
                raise ValueError(
                    f"The checkpoint of step {step} in {self.directory} may not be read: {why}."
                ) from error
        if _on_all_hosts(not why):
            return result
        self._damaged[step] = why or "another host could not read it"
        warnings.warn(
            f"The checkpoint of step {step} in {self.directory} is damaged and is passed over for the one before "
            f"it: {self._damaged[step]}.",
            stacklevel=6,
        )
        return None

    def _set_aside(self) -> None:
        """Renames the damaged steps, so that they neither count among those kept nor stand in the way."""
        from orbax.checkpoint import multihost

        bad = sorted(set(self._damaged) & set(self._manager.all_steps()))
        if not bad:
            return
        self.wait()
        for step in bad if jax.process_index() == 0 else ():
            old, new, n = self._manager.directory / str(step), f"damaged-{step}", 1
            while (self._manager.directory / new).exists():
                new, n = f"damaged-{step}-{n + 1}", n + 1
            old.rename(self._manager.directory / new)
        multihost.sync_global_processes("jaxdiff:set_aside")
        self._damaged = {step: why for step, why in self._damaged.items() if step not in bad}
        self._manager.reload()

    def _check(self, step: int, stored: dict[str, Leaf], state: PyTree) -> None:
        difference = first_difference(stored, described(state))
        if difference is not None:
            raise ValueError(
                f"The checkpoint of step {step} in {self.directory} is of another architecture or optimiser: "
                f"{difference}. Use the config that wrote it, or train in an empty directory."
            )

    def wait(self) -> None:
        """Returns when everything saved is on disk; raises what went wrong in the background."""
        with self._writing():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, then releases the threads."""
        with self._writing():
            self._manager.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except NOT_DAMAGE:
            raise
        except Exception as error:  # a full disk, for instance, out of the background
            raise ValueError(
                f"A checkpoint could not be written to {self.directory}: {error}. The complete ones before it are "
                "untouched: the same command goes on from the last."
            ) from error

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _intact(facts: Any) -> dict[str, Any]:
    if isinstance(facts, dict) and set(facts) == OLD:
        return facts
    if not isinstance(facts, dict) or set(facts) != {*OLD, "leaves", "seal"} or facts["seal"] != seal(facts):
        raise ValueError("its facts (data position, metadata, digests) are not those that were saved")
    return facts


def _on_all_hosts(fine: bool) -> bool:
    if jax.process_count() == 1:
        return fine
    from jax.experimental.multihost_utils import process_allgather

    return bool(np.all(process_allgather(np.array(fine))))


def resume(checkpoints: Checkpoints, state: TrainState, batches: Any) -> TrainState:
    """The newest intact checkpoint in the form of `state`, with `batches` set to its position; or `state`.

    On several hosts `state` is in place already (`placement.shared`), because it says where the arrays go.
    """
    restored = checkpoints.restore(state)
    if restored is None:
        return state
    batches.set_state(restored[1])
    return restored[0]
