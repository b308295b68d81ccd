"""Foreign checkpoints: trained weights reach their accuracy on real data, wrong ones are refused by name."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import models

from .state_dicts import resnet8


def cifar10_test(data_dir: str):
    """All 10,000 test images, uint8, and their labels."""
    import tensorflow_datasets as tfds

    source = tfds.data_source("cifar10", data_dir=data_dir, download=False)["test"]
    records = [source[i] for i in range(len(source))]
    return np.stack([r["image"] for r in records]), np.array([r["label"] for r in records])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "depth", "correct"),
    [
        ("resnet20-12fca82f.npz", 20, 9173),
        ("resnet56-4bfd9763.npz", 56, 9339),
    ],
)
def test_accuracy_of_trained_resnets(file, depth, correct, tfds_dir, weights_dir):
    """The known accuracies of these weights on CIFAR-10's 10,000 test images: 91.73 % and 93.39 %."""
    images, labels = cifar10_test(tfds_dir)
    model = models.ResNetCIFAR(depth)
    variables = models.resnet_cifar_from_torch(models.load_npz(weights_dir / file))
    predict = jax.jit(lambda v, x: model.apply(v, x.astype(jnp.float32) / 255).argmax(-1))
    predictions = np.concatenate([predict(variables, x) for x in np.split(images, 20)])
    assert (predictions == labels).sum() == correct


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.module."])
def test_a_state_dict_of_any_wrapper(prefix):
    variables, flat = resnet8()
    wrapped = {prefix + k: v for k, v in flat.items()} | {f"{prefix}bn1.num_batches_tracked": np.array(3)}
    jax.tree.map(np.testing.assert_array_equal, models.resnet_cifar_from_torch(wrapped), variables)


def test_a_file_in_the_home_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    np.savez(tmp_path / "weights.npz", a=np.arange(3.0))
    np.testing.assert_array_equal(models.load_npz("~/weights.npz")["a"], np.arange(3.0))
