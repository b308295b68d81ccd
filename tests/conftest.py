"""Shared fixtures: strict ranks everywhere, float64 for the laws."""

import os
import tempfile
from pathlib import Path

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_configure(config):
    """Nearly all the time of the default tests is LLVM's: code that runs once needs no optimisation."""
    if "not slow" in (config.option.markexpr or ""):
        os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
    if (
        "PYTEST_XDIST_WORKER" not in os.environ
    ):  # decoded sets of tests: one folder for all, and for none after them
        folder = tempfile.TemporaryDirectory()
        os.environ["JAXDIFF_CACHE_DIR"] = folder.name
        config.add_cleanup(folder.cleanup)


@pytest.fixture
def x64():
    """Float64 inside one test (or one module, with `pytestmark = pytest.mark.usefixtures("x64")`)."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def key():
    return jax.random.key(0)


@pytest.fixture(scope="session")
def tfds_dir() -> str:
    """Where real data sets lie, or a skip."""
    path = os.environ.get("TFDS_DATA_DIR", "")
    if not (Path(path) / "cifar10").is_dir():
        pytest.skip("set TFDS_DATA_DIR to a folder that holds cifar10 and fashion_mnist as array_record")
    return path


@pytest.fixture(scope="session")
def weights_dir() -> Path:
    """Where trained CIFAR-10 ResNets lie (resnet20-12fca82f.npz, resnet56-4bfd9763.npz), or a skip."""
    path = Path(os.environ.get("JAXDIFF_WEIGHTS_DIR", ""))
    if not (path / "resnet20-12fca82f.npz").is_file():
        pytest.skip("set JAXDIFF_WEIGHTS_DIR to a folder that holds resnet20-12fca82f.npz")
    return path
