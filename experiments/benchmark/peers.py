"""Which PyTorch libraries are here to compare with."""

import importlib
import importlib.util
from importlib.metadata import version
from types import ModuleType
from typing import Any, NamedTuple

import jax

from jaxdiff.evaluate import versions

LIBRARIES = {"pgd": "torchattacks", "attacks": "torchattacks", "unet": "diffusers", "sampling": "diffusers"}
INSTALL = 'pip install -e ".[peers]" && pip install --no-deps torchattacks==3.5.1'


class Peers(NamedTuple):
    """PyTorch's side, or the reason why there is none."""

    module: ModuleType | None
    device: Any = None
    missing: str = ""


def find_peers(library: str, cores: int) -> Peers:
    """The peers that need torch and `library`."""
    absent = [name for name in ("torch", library) if importlib.util.find_spec(name) is None]
    if absent:
        return Peers(None, missing=f"no {' and no '.join(absent)} here; to compare: {INSTALL}")
    try:
        module = importlib.import_module("benchmark_peers")
        return Peers(module, module.start(jax.default_backend(), cores))
    except ImportError as error:
        return Peers(None, missing=str(error))


def library_versions() -> dict[str, str]:
    """Ours and the peers'."""
    peers = [name for name in ("torch", *sorted(set(LIBRARIES.values()))) if importlib.util.find_spec(name)]
    return versions() | {name: version(name) for name in peers}
