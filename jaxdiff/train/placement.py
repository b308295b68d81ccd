"""How a pure function lands on devices: jit over a mesh, pmap (the classical form), spread (no sums)."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import PyTree

from jaxdiff.chunks import in_chunks, size
from jaxdiff.train.state import TrainState
from jaxdiff.train.step import Step
from jaxdiff.types import PRNGKey

AXIS = "data"


def training_devices() -> list[jax.Device]:
    """All devices; on CPU the first of each process: sums between virtual CPU devices can deadlock."""
    devices = jax.devices()
    if devices[0].platform != "cpu":
        return devices
    return list({d.process_index: d for d in reversed(devices)}.values())[::-1]


def data_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh with the one axis "data" over `devices` (default: all of every process)."""
    devices = jax.devices() if devices is None else list(devices)
    return jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)


def _put(tree: PyTree, sharding: NamedSharding) -> PyTree:
    """`jax.device_put`, which over several hosts refuses typed keys and committed arrays."""

    def global_array(x: Any) -> jax.Array:
        if isinstance(x, jax.Array) and not x.is_fully_addressable:
            return x  # already global
        if isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            data = global_array(jax.random.key_data(x))
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(x))
        return jax.make_array_from_process_local_data(sharding, np.asarray(x))

    return jax.device_put(tree, sharding) if jax.process_count() == 1 else jax.tree.map(global_array, tree)


def shared(tree: PyTree, mesh: Mesh) -> PyTree:
    """`tree`, the same in every process, whole on every device of `mesh`; what is there already stays."""
    return _put(tree, NamedSharding(mesh, P()))


def numeric(batch: PyTree) -> PyTree:
    """`batch` with None in place of what no device can hold, such as captions: that stays with the caller, on the host."""

    def holds(x: Any) -> bool:
        return not isinstance(x, str) and (not isinstance(x, np.ndarray) or x.dtype.kind not in "OSUMm")

    return jax.tree.map(lambda x: x if holds(x) else None, batch)


def _check_divisible(batch: PyTree, parts: int) -> None:
    for x in jax.tree.leaves(batch):
        if np.ndim(x) == 0 or np.shape(x)[0] % parts:
            raise ValueError(
                f"A batch of shape {np.shape(x)} does not divide over {parts} devices: "
                f"pad its first axis to a multiple of {parts} and drop the padded results."
            )


def split(batch: PyTree, mesh: Mesh) -> PyTree:
    """`batch` with its first axis over the devices of `mesh`.

    On several hosts each passes its own part, in process order. Texts and other objects are left out (see `numeric`).
    ValueError if the first axis of a leaf is not a multiple of this process's devices.
    """
    batch = numeric(batch)
    _check_divisible(batch, _local(mesh.devices.flat))
    return _put(batch, NamedSharding(mesh, P(AXIS)))


def _local(devices: Sequence[jax.Device] | Any) -> int:
    return sum(d.process_index == jax.process_index() for d in devices)


def jit_step(step: Step, mesh: Mesh) -> Step:
    """`step` over `mesh`: state and key everywhere, the batch split over "data"; the old state is donated.

    A donated state is gone after the call: copy what must survive. (Saving it before the next step is safe:
    Orbax copies or holds the buffers, and XLA does not reuse a held buffer.)
    """
    everywhere, parts, alone = NamedSharding(mesh, P()), _local(mesh.devices.flat), jax.process_count() == 1
    compiled = jax.jit(
        step,
        in_shardings=(everywhere, NamedSharding(mesh, P(AXIS)), everywhere),
        out_shardings=everywhere,
        donate_argnums=0,
    )

    def placed(state: TrainState, batch: PyTree, key: PRNGKey) -> tuple[TrainState, dict[str, Any]]:
        if getattr(state.step, "sharding", None) != everywhere:
            state = shared(state, mesh)
        batch = numeric(batch)
        _check_divisible(batch, parts)
        if alone:  # jit places host arrays faster than device_put does
            return compiled(state, batch, key)
        return compiled(state, split(batch, mesh), shared(key, mesh))

    return placed


def replicate(tree: PyTree, devices: Sequence[jax.Device] | None = None) -> PyTree:
    """[...] -> [local devices, ...] in every leaf, one copy a device: the state that `pmap_step` takes."""
    here = [d for d in devices or training_devices() if d.process_index == jax.process_index()]
    sharding = NamedSharding(data_mesh(here), P(AXIS))
    return jax.tree.map(
        lambda x: jax.device_put(np.broadcast_to(x, (len(here), *np.shape(x))), sharding), tree
    )


def unreplicate(tree: PyTree) -> PyTree:
    """The copy of the first local device: [local devices, ...] -> [...]."""
    return jax.tree.map(lambda x: x.addressable_data(0).reshape(x.shape[1:]), tree)


def pmap_step(step: Step, devices: Sequence[jax.Device] | None = None) -> Step:
    """`step`, made with `axis_name="data"`, under pmap: a replicated state in (donated) and out.

    The batch [B, ...] of this process is reshaped to [devices, B / devices, ...]; metrics are single values.
    """
    devices = list(devices or training_devices())
    parts = _local(devices)
    compiled = jax.pmap(
        step, AXIS, in_axes=(0, 0, None), out_axes=(0, None), devices=devices, donate_argnums=0
    )

    def placed(state: TrainState, batch: PyTree, key: PRNGKey) -> tuple[TrainState, dict[str, Any]]:
        batch = numeric(batch)
        _check_divisible(batch, parts)
        rows = jax.tree.map(lambda x: x.reshape(parts, x.shape[0] // parts, *x.shape[1:]), batch)
        return compiled(state, rows, key)

    return placed


def spread(
    f: Callable[[PyTree, PyTree], PyTree], mesh: Mesh, width: int | None
) -> Callable[[PyTree, PyTree], PyTree]:
    """Lifts `f(shared, batch) -> per-example results` onto all devices, without a word between them.

    For attacks, sampling, evaluation; `f` must not mix examples, and typed keys may be leaves of the batch. Every device runs
    `f` on chunks of exactly `width` examples (`chunks.in_chunks`), so that results are equal bit by bit whatever the size of
    the batch, its order and the number of devices. With `width` None it runs `f` on its part as it is: for functions with a
    width of their own, such as `pooled` attacks.

    A batch of any size is filled up to a multiple of the devices by repeating its last example, and the results of these are
    dropped; on several hosts each passes a multiple of its own devices. Put large `shared` trees in place once, with
    `shared(tree, mesh)`.
    """
    part = f if width is None else lambda common, batch: in_chunks(partial(f, common), width)(batch)
    compiled = jax.jit(
        jax.shard_map(part, mesh=mesh, in_specs=(P(), P(AXIS)), out_specs=P(AXIS), check_vma=False)
    )

    def lifted(common: PyTree, batch: PyTree) -> PyTree:
        batch = numeric(batch)
        n = size(batch)
        missing = -n % _local(mesh.devices.flat) if jax.process_count() == 1 else 0
        if missing:
            places = np.minimum(np.arange(n + missing), n - 1)
            batch = jax.tree.map(lambda x: x[places], batch)
        results = compiled(shared(common, mesh), split(batch, mesh))
        return jax.tree.map(lambda x: x[:n], results) if missing else results

    return lifted
