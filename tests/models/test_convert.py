"""Foreign checkpoints: trained weights reach their accuracy on real data, wrong ones are refused by name."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from jaxdiff import models
from jaxdiff.models import convert

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


# As diffusers writes them, for three levels; the way up counts from the coarsest.
UNET_KEYS = {
    ("conv_in", "kernel"): "conv_in.weight",
    ("time", "dense1", "kernel"): "time_embedding.linear_1.weight",
    ("time", "dense2", "bias"): "time_embedding.linear_2.bias",
    ("down0_1_block", "norm1", "scale"): "down_blocks.0.resnets.1.norm1.weight",
    ("down1_0_block", "time", "kernel"): "down_blocks.1.resnets.0.time_emb_proj.weight",
    ("down1_0_block", "shortcut", "bias"): "down_blocks.1.resnets.0.conv_shortcut.bias",
    ("down1_1_attention", "norm", "bias"): "down_blocks.1.attentions.1.group_norm.bias",
    ("down0_downsample", "kernel"): "down_blocks.0.downsamplers.0.conv.weight",
    ("middle_block1", "conv2", "kernel"): "mid_block.resnets.1.conv2.weight",
    ("middle_attention", "query", "kernel"): "mid_block.attentions.0.to_q.weight",
    ("up2_2_block", "conv1", "kernel"): "up_blocks.0.resnets.2.conv1.weight",
    ("up1_0_attention", "value", "bias"): "up_blocks.1.attentions.0.to_v.bias",
    ("up1_0_attention", "out", "kernel"): "up_blocks.1.attentions.0.to_out.0.weight",
    ("up2_upsample", "bias"): "up_blocks.0.upsamplers.0.conv.bias",
    ("norm_out", "scale"): "conv_norm_out.weight",
    ("conv_out", "bias"): "conv_out.bias",
}


def test_the_keys_of_diffusers():
    """Every array lands where its name says, transposed if it is a kernel."""
    model = models.UNet(8, (1, 2, 2), 2, attention=(4,), groups=2)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)), jnp.zeros(1))["params"]
    shapes = {path: leaf.shape for path, leaf in flatten_dict(shapes).items()}
    foreign = {path: {4: (3, 2, 0, 1), 2: (1, 0)}.get(len(shape), (0,)) for path, shape in shapes.items()}
    rng = np.random.default_rng(0)
    drawn = {path: rng.normal(size=shape).astype(np.float32) for path, shape in shapes.items()}
    named = {path: convert._unet_key(("params", *path), 3) for path in shapes}
    assert {path: named[path] for path in UNET_KEYS} == UNET_KEYS
    assert len(set(named.values())) == len(shapes)
    arrays = {named[path]: drawn[path].transpose(foreign[path]) for path in shapes}
    filled = flatten_dict(models.unet_from_diffusers(arrays, model, 8)["params"])
    for path, value in drawn.items():
        np.testing.assert_array_equal(filled[path], value)
