"""The other side of the benchmark: PyTorch's libraries, at their best settings.

Channels-last memory, all cores (or one GPU), eval mode and no gradients where none are needed, scaled dot
product attention, fused Adam. They run eagerly, as both libraries do. Every function returned here waits for
its result.
"""

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import nn

from jaxdiff.models import UNet
from jaxdiff.models.layers import IMAGENET_MEAN, IMAGENET_STD

Call = Callable[..., torch.Tensor]


def start(platform: str, cores: int) -> torch.device:
    """The device like JAX's; ImportError if this PyTorch has no build for it."""
    if platform not in ("cpu", "gpu") or (platform == "gpu" and not torch.cuda.is_available()):
        raise ImportError(f"this PyTorch ({torch.__version__}) does not run on the {platform} that JAX uses")
    torch.set_num_threads(cores)
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high" if platform == "gpu" else "highest")  # XLA's default, too
    return torch.device("cuda" if platform == "gpu" else "cpu")


def nchw(images: Any, device: torch.device) -> torch.Tensor:
    """[B, H, W, C] -> a channels-last tensor [B, C, H, W]."""
    tensor = torch.from_numpy(np.array(images).transpose(0, 3, 1, 2))
    return tensor.to(device, memory_format=torch.channels_last)


def nhwc(tensor: torch.Tensor) -> np.ndarray:
    """[B, C, H, W] -> [B, H, W, C]."""
    return tensor.detach().float().permute(0, 2, 3, 1).cpu().numpy()


def arrays(module: nn.Module) -> dict[str, np.ndarray]:
    """The state dict as arrays of their own."""
    return {k: v.cpu().numpy().copy() for k, v in module.state_dict().items()}


def frozen(module: nn.Module, device: torch.device) -> nn.Module:
    """For inference and input gradients."""
    return module.to(device, memory_format=torch.channels_last).eval().requires_grad_(False)


def awaited(f: Call, device: torch.device) -> Call:
    """`f`, done when it returns."""

    def call(*args, **kwargs):
        result = f(*args, **kwargs)
        if device.type == "cuda":
            torch.cuda.synchronize()
        return result

    return call


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions with the shortcut A of He et al. 2016."""

    def __init__(self, inputs: int, channels: int, stride: int) -> None:
        super().__init__()
        self.stride, self.padding = stride, (channels - inputs) // 2
        self.conv1 = nn.Conv2d(inputs, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The block's features."""
        h = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        if self.padding:
            pad = (0, 0, 0, 0, self.padding, self.padding)
            x = nn.functional.pad(x[:, :, :: self.stride, :: self.stride], pad)
        return torch.relu(h + x)


class ResNetCIFAR(nn.Module):
    """The CIFAR ResNet of He et al. 2016, section 4.2, with normalisation; keys of the public weights."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD)[:, None, None], persistent=False)
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        widths, blocks = (16, 16, 32, 64), (depth - 2) // 6
        for stage in (1, 2, 3):
            first = BasicBlock(widths[stage - 1], widths[stage], 1 if stage == 1 else 2)
            rest = [BasicBlock(widths[stage], widths[stage], 1) for _ in range(blocks - 1)]
            setattr(self, f"layer{stage}", nn.Sequential(first, *rest))
        self.linear = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of images in [0, 1]."""
        h = torch.relu(self.bn1(self.conv1((x - self.mean) / self.std)))
        h = self.layer3(self.layer2(self.layer1(h)))
        return self.linear(h.mean((2, 3)))


def resnet(depth: int, weights: Mapping[str, np.ndarray] | None, device: torch.device) -> nn.Module:
    """The classifier with these weights, or with He's random ones."""
    module = ResNetCIFAR(depth)
    for m in module.modules():
        if isinstance(m, nn.Conv2d):
            nn.init.kaiming_normal_(m.weight, mode="fan_out")
    if weights is not None:
        module.load_state_dict({k.removeprefix("module."): torch.from_numpy(v) for k, v in weights.items()})
    return frozen(module, device)


def pgd(
    network: nn.Module, x: Any, y: Any, radius: float, lr: float, steps: int, random_start: bool, device: Any
) -> Call:
    """torchattacks' PGD of this batch."""
    import torchattacks

    attack = torchattacks.PGD(network, eps=radius, alpha=lr, steps=steps, random_start=random_start)
    images, labels = nchw(x, device), torch.from_numpy(np.array(y, np.int64)).to(device)
    return awaited(lambda: attack(images, labels), device)


class Flat(nn.Module):
    """A channels-last network for attacks that flatten gradients with `view`: they come in the default memory format."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The network's logits."""
        if x.requires_grad and torch.is_grad_enabled():
            x = x.clone()
            x.register_hook(lambda gradient: gradient.contiguous())
        return self.network(x.contiguous(memory_format=torch.channels_last))


def attack(
    network: nn.Module,
    name: str,
    x: Any,
    y: Any,
    radius: float,
    steps: int,
    queries: int,
    device: torch.device,
) -> Call:
    """torchattacks' attack of this name, L-infinity. Its AutoAttack takes 10 steps of each attack unless told better."""
    import torchattacks

    network, common = Flat(network).eval(), {"norm": "Linf", "eps": radius, "seed": 0}
    targeted = {"steps": steps, "n_classes": 10}
    makers = {
        "apgd-ce": lambda: torchattacks.APGD(network, steps=steps, loss="ce", **common),
        "apgd-t": lambda: torchattacks.APGDT(network, **targeted, **common),
        "fab-t": lambda: torchattacks.FAB(network, multi_targeted=True, **targeted, **common),
        # The schedule of the authors' AutoAttack; torchattacks' own default shrinks the windows sooner.
        "square": lambda: torchattacks.Square(network, n_queries=queries, resc_schedule=False, **common),
        "autoattack": lambda: torchattacks.AutoAttack(network, version="standard", n_classes=10, **common),
    }
    made = makers[name]()
    if name == "autoattack":
        for part in made._autoattack.attacks:
            part.steps, part.n_queries, part.rescale_schedule = steps, queries, False
    images, labels = nchw(x, device).contiguous(), torch.from_numpy(np.array(y, np.int64)).to(device)
    return awaited(lambda: made(images, labels), device)


def unet(model: UNet, side: int, device: torch.device) -> nn.Module:
    """diffusers' UNet2DModel of the shape and in the conventions of `model`, with its own random weights."""
    from diffusers import UNet2DModel

    attends = [side >> level in model.attention for level in range(len(model.multipliers))]
    module = UNet2DModel(
        sample_size=side,
        block_out_channels=[m * model.channels for m in model.multipliers],
        layers_per_block=model.blocks,
        down_block_types=["AttnDownBlock2D" if a else "DownBlock2D" for a in attends],
        up_block_types=["AttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attends)],
        norm_num_groups=model.groups,
        norm_eps=1e-6,
        flip_sin_to_cos=False,
        freq_shift=1,
        downsample_padding=0,
        attention_head_dim=None,
        dropout=0.0,
    )
    return frozen(module, device)


def forward(network: nn.Module, x: Any, t: Any, device: torch.device) -> Call:
    """One evaluation of the UNet."""
    images, times = nchw(x, device), torch.from_numpy(np.array(t)).to(device)
    return awaited(torch.no_grad()(lambda: network(images, times).sample), device)


def descend(network: nn.Module, x: Any, t: Any, rate: float, steps: int, device: torch.device) -> Call:
    """`steps` steps of x - rate d/dx |network(x, t)|^2."""
    images, times = nchw(x, device), torch.from_numpy(np.array(t)).to(device)

    def run():
        z = images
        for _ in range(steps):
            z = z.detach().requires_grad_(True)
            z = z.detach() - rate * torch.autograd.grad(network(z, times).sample.square().sum(), z)[0]
        return z

    return awaited(run, device)


def train(network: nn.Module, x0: Any, rate: float, device: torch.device, bfloat16: bool = False) -> Call:
    """(noise, times) -> the loss of a step of DDPM's training with Adam; draws what is not given."""
    from diffusers import DDPMScheduler

    images, scheduler = nchw(x0, device), DDPMScheduler()
    network = copy.deepcopy(network).train().requires_grad_(True)
    optimizer = torch.optim.Adam(network.parameters(), lr=rate, fused=True)

    def step(noise=None, times=None):
        noise = torch.randn_like(images) if noise is None else nchw(noise, device)
        times = torch.randint(1000, images.shape[:1]) if times is None else torch.from_numpy(np.array(times))
        times = times.to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            output = network(scheduler.add_noise(images, noise, times), times).sample
        loss = nn.functional.mse_loss(output.float(), noise)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return awaited(step, device)


SCHEDULERS = {  # class, settings, options of a step; the first two clip x0, as DDPM's sampler does
    "ddim": ("DDIMScheduler", {}, {"use_clipped_model_output": True}),
    "ddpm": ("DDPMScheduler", {}, {}),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", {"timestep_spacing": "trailing"}, {}),
    "unipc": ("UniPCMultistepScheduler", {"timestep_spacing": "trailing"}, {}),
}


def sampler(network: nn.Module, name: str, steps: int, x: Any, device: torch.device) -> Call:
    """(noises) -> images from noise x by a scheduler of `SCHEDULERS`.

    The noise of each step is drawn if it is not given.
    """
    import diffusers

    kind, settings, options = SCHEDULERS[name]
    scheduler = getattr(diffusers, kind)(**settings)
    start_noise = nchw(x, device)

    @torch.no_grad()
    def run(noises: Iterable[Any] | None = None):
        scheduler.set_timesteps(steps)  # anew for every sample, as their pipelines do: some count their steps
        z = start_noise
        for t in scheduler.timesteps:
            z = scheduler.step(network(z, t).sample, t, z, **options).prev_sample
        return z

    def call(noises: Iterable[Any] | None = None):
        if noises is None:
            return run()
        given = mock.Mock(side_effect=[nchw(n, device) for n in noises])
        with mock.patch(f"{type(scheduler).__module__}.randn_tensor", given, create=True):
            return run()

    return awaited(call, device)
