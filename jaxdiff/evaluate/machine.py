"""On what kind of machine numbers are made: what their last bits depend on, in one line.

XLA compiles for the processor that it finds, and rounding differs with fused multiply-adds and the width of vectors. An attack
turns a last bit into another picture. This is a note beside the numbers, never a reason to refuse them.
"""

import os
import platform
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import jax
import jaxlib

# What XLA's code for a CPU depends on, of x86 (as `xla_cpu_max_isa` knows it) and ARM.
SETS = (
    "sse4_2", "avx", "avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "asimd", "sve",
    "sve2", "bf16", "i8mm",
)  # fmt: skip
SILENT = ("--xla_force_host_platform_device_count", "--xla_dump")  # change no number


def this_machine() -> str:
    """The kind of machine, for example "cpu AMD EPYC (avx, avx2, fma); jax 0.10.2, jaxlib 0.10.2; --xla_cpu_max_isa=AVX2".

    Platform and kind of device (of a CPU its model and instruction sets), versions of jax and jaxlib, and the flags of XLA that
    can change a number. How many devices there are is not in it.
    """
    device = jax.devices()[0]
    if device.platform == "cpu":
        chip = f"cpu {processor()}"
    else:
        chip = f"{device.platform} {device.device_kind} ({' '.join(device.client.platform_version.split())})"
    settings = xla_settings(os.environ.get("XLA_FLAGS", ""))
    precision = jax.config.jax_default_matmul_precision
    if precision is not None:
        settings.append(f"matmul precision {precision}")
    if jax.config.jax_enable_x64:
        settings.append("x64")
    return "; ".join(
        [chip, f"jax {jax.__version__}, jaxlib {jaxlib.__version__}", *filter(None, [" ".join(settings)])]
    )


def xla_settings(flags: str) -> list[str]:
    """The flags of XLA_FLAGS that can change a number, sorted; of one that is given twice the last counts."""
    given = {flag.split("=")[0]: flag for flag in flags.split()}
    return sorted(flag for flag in given.values() if not flag.startswith(SILENT))


@cache
def processor() -> str:
    """The model of the CPU and its instruction sets, as far as the system tells."""
    try:
        return described(Path("/proc/cpuinfo").read_text(errors="replace").splitlines())
    except OSError:  # not Linux
        return platform.processor() or platform.machine()


def described(cpuinfo: Iterable[str]) -> str:
    """Of Linux's /proc/cpuinfo, the model and the instruction sets: "AMD EPYC (avx, avx2)"."""
    facts = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in cpuinfo)}
    model = facts.get("model name") or platform.machine()
    known = set(facts.get("flags", facts.get("Features", "")).split())
    sets = ", ".join(name for name in SETS if name in known)
    return f"{model} ({sets})" if sets else model
