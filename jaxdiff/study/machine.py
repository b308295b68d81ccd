"""What a run needs of its machine before the first computation: devices, and a cache of compiled programs."""

import os

import jax

from jaxdiff.data.store import cache_folder
from jaxdiff.evaluate import fingerprint, this_machine

SWITCH = "JAXDIFF_COMPILATION_CACHE"


def use_all_cores() -> None:
    """One virtual CPU device per core, at most eight; before the first JAX call, without effect on accelerators.

    XLA runs convolutions of few channels on one thread; work without collectives is spread over these devices. Where the
    environment says how many (XLA_FLAGS or JAX_NUM_CPU_DEVICES), that counts.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if "xla_force_host_platform_device_count" in flags or jax.config.jax_num_cpu_devices >= 0:
        return
    jax.config.update("jax_num_cpu_devices", max(1, min(cores(), 8)))


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cache_programs() -> None:
    """Keeps compiled programs in the user's cache folder, where the next run finds them.

    Every kind of machine has a folder of its own, so that a home that several share serves no program to another processor.
    JAX_COMPILATION_CACHE_DIR says another folder, JAXDIFF_COMPILATION_CACHE=off that there is none.
    """
    if os.environ.get(SWITCH) == "off" or jax.config.jax_compilation_cache_dir:
        return
    folder = cache_folder() / "programs" / fingerprint(this_machine())
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
