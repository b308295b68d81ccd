"""Converted weights against PyTorch and diffusers, with their own random weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxdiff.models import UNet, unet_from_diffusers
from jaxdiff.models.convert import fill
from jaxdiff.models.layouts import flattened

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

pytestmark = pytest.mark.peers

CONVENTIONS = {
    "norm_eps": 1e-6,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "downsample_padding": 0,
    "attention_head_dim": None,
    "dropout": 0.0,
}


def foreign(channels, attention, groups, size, blocks):
    """A UNet2DModel in the conventions of google/ddpm-cifar10-32, with noise on every parameter."""
    torch.manual_seed(0)
    model = diffusers.UNet2DModel(
        sample_size=size,
        block_out_channels=channels,
        layers_per_block=blocks,
        down_block_types=["AttnDownBlock2D" if a else "DownBlock2D" for a in attention],
        up_block_types=["AttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attention)],
        norm_num_groups=groups,
        **CONVENTIONS,
    )
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.02 * torch.randn_like(p))
    return model.eval()


@pytest.mark.parametrize(
    ("model", "spec", "size"),
    [
        (UNet(32, (1, 2), 1, (16,), groups=8), ((32, 64), (True, False), 8, 16, 1), (16, 16)),
        (UNet(32, (1, 2, 2), 2, (8,), groups=8), ((32, 64, 64), (False, True, False), 8, 16, 2), (16, 24)),
    ],
)
def test_unet_is_the_one_of_diffusers(model, spec, size):
    """Outputs agree to float32 rounding, at different times in a batch, also on images not square."""
    theirs = foreign(*spec)
    variables = unet_from_diffusers({k: v.numpy() for k, v in theirs.state_dict().items()}, model, size[0])
    rng = np.random.default_rng(0)
    x, t = rng.normal(size=(2, *size, 3)).astype(np.float32), np.array([3, 950])
    with torch.no_grad():
        expected = theirs(torch.from_numpy(x.transpose(0, 3, 1, 2)), torch.from_numpy(t)).sample.numpy()
    ours = jax.jit(model.apply)(variables, jnp.asarray(x), jnp.asarray(t))
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(ours, expected.transpose(0, 2, 3, 1), rtol=1e-4, atol=2e-5)


def test_cifar10_weights_of_diffusers_convert():
    """The state dict of the google/ddpm-cifar10-32 architecture fills our default UNet, key for key."""
    theirs = foreign((128, 256, 256, 256), (False, True, False, False), 32, 32, 2)
    arrays = {k: v.numpy() for k, v in theirs.state_dict().items()}
    variables = unet_from_diffusers(arrays, UNet())
    assert sum(a.size for a in arrays.values()) == 35_746_307
    with pytest.raises(ValueError, match="missing"):
        unet_from_diffusers(arrays, UNet(attention=(8,)))
    assert set(variables) == {"params"}


class ConvFlattenLinear(nn.Module):
    @nn.compact
    def __call__(self, x):
        h = nn.relu(nn.Conv(6, (3, 3), padding=1, name="0")(x))
        h = nn.relu(nn.ConvTranspose(6, (2, 2), (2, 2), "VALID", name="2")(h))
        return nn.Dense(10, name="5")(h.reshape(len(h), -1))


def test_conv_flatten_linear_is_the_one_of_pytorch():
    torch.manual_seed(0)
    layers = torch.nn
    theirs = layers.Sequential(
        layers.Conv2d(3, 6, 3, padding=1),
        layers.ReLU(),
        layers.ConvTranspose2d(6, 6, 2, stride=2),
        layers.ReLU(),
        layers.Flatten(),
        layers.Linear(6 * 8 * 8, 10),
    )
    x = np.random.default_rng(0).normal(size=(4, 4, 4, 3)).astype(np.float32)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(x.transpose(0, 3, 1, 2))).numpy()
    names = {"kernel": "weight", "bias": "bias"}
    layouts = {"5.weight": flattened(8, 8, 6)}
    ours = ConvFlattenLinear()
    variables = fill(ours, (x,), theirs.state_dict(), lambda path: f"{path[1]}.{names[path[2]]}", layouts)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(ours.apply(variables, x), expected, rtol=1e-4, atol=1e-5)
