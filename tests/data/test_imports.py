"""What is heavy is imported where it is used, and TensorFlow never."""

import subprocess
import sys

import pytest

HEAVY = ["tensorflow_datasets", "sklearn", "grain", "tensorflow", "ml_collections", "matplotlib"]


def imported_after(code, names):
    """Which of `names` a fresh interpreter has imported after `code`."""
    report = f"import sys; print([n for n in {names} if n in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=True
    )
    return done.stdout.strip().splitlines()[-1]


def test_importing_is_light():
    assert imported_after("import jaxdiff.data", HEAVY) == "[]"


@pytest.mark.parametrize("cache", [True, False])
def test_reading_tfds_never_imports_tensorflow(tfds_dir, cache):
    code = (
        "import numpy as np; from jaxdiff.data import dataset, stream\n"
        f"d = dataset.tfds('cifar10', 'test[:40]', {tfds_dir!r}, cache={cache})\n"
        "next(stream.stream(d, 16, 0)); len(d.label_names)"
    )
    assert imported_after(code, ["tensorflow", "tensorflow_datasets"]) == "['tensorflow_datasets']"
