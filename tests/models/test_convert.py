"""Foreign checkpoints: trained weights reach their accuracy on real data, wrong ones are refused by name."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import models
from jaxdiff.models.convert import fill

from .helpers import randomised


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


class TestConversionErrors:
    @pytest.fixture
    def arrays(self):
        """A state dict of ResNet-8, by inverting the layout of its own variables."""
        variables = randomised(models.ResNetCIFAR(8), jnp.zeros((1, 8, 8, 3)))
        names = {
            "kernel": "weight",
            "scale": "weight",
            "bias": "bias",
            "mean": "running_mean",
            "var": "running_var",
        }
        flat = {}
        for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
            *modules, last = [p.key for p in path[1:]]
            module = ".".join(m.replace("_", ".") for m in modules)
            flat[f"{module}.{names[last]}"] = (
                np.asarray(leaf).T if leaf.ndim < 4 else np.asarray(leaf).transpose(3, 2, 0, 1)
            )
        return variables, flat

    def test_inverts(self, arrays):
        variables, flat = arrays
        prefixed = {f"module.{k}": v for k, v in flat.items()} | {
            "module.bn1.num_batches_tracked": np.array(3)
        }
        jax.tree.map(np.testing.assert_array_equal, models.resnet_cifar_from_torch(prefixed), variables)

    def test_missing(self, arrays):
        del arrays[1]["layer2.0.conv1.weight"]
        with pytest.raises(ValueError, match=r"missing \['layer2.0.conv1.weight'\]"):
            models.resnet_cifar_from_torch(arrays[1])

    def test_unexpected(self, arrays):
        with pytest.raises(ValueError, match=r"unexpected \['fc.weight'\]"):
            models.resnet_cifar_from_torch(arrays[1] | {"fc.weight": np.zeros((10, 64))})

    def test_shape(self, arrays):
        with pytest.raises(ValueError, match=r"'conv1.weight'.*\(3, 3, 1, 16\).*\(3, 3, 3, 16\)"):
            models.resnet_cifar_from_torch(arrays[1] | {"conv1.weight": np.zeros((16, 1, 3, 3))})

    def test_nothing(self):
        with pytest.raises(ValueError, match="another architecture"):
            fill({"params": {"a": {"kernel": jax.ShapeDtypeStruct((1,), jnp.float32)}}}, {}, ".".join)

    def test_no_file(self):
        with pytest.raises(FileNotFoundError, match=r"nowhere\.npz"):
            models.load_npz(Path("nowhere.npz"))
