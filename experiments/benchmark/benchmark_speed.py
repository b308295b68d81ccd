"""The rows of the benchmark: what jaxdiff computes, what the peer computes, and whether they agree."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from benchmark_compare import Row, close, compare
from peers import Peers

from jaxdiff.attacks import cross_entropy, linf, pgd, untargeted
from jaxdiff.diffusion import (
    ddim,
    ddpm,
    denoiser,
    denoising,
    dpmpp_2m,
    grids,
    linear,
    noise_levels,
    sample,
    time_label,
    unipc,
    weights,
)
from jaxdiff.keys import example_keys, purpose
from jaxdiff.models import (
    ResNetCIFAR,
    UNet,
    as_classifier,
    as_net,
    load_npz,
    resnet_cifar_from_torch,
    unet_from_diffusers,
)
from jaxdiff.train import (
    data_mesh,
    init_state,
    jit_step,
    make_step,
    shared,
    split,
    spread,
    training_devices,
)
from jaxdiff.train.optimizer import adam

RADIUS, PGD_LR = 8 / 255, 2 / 255
DESCENT, LEARNING_RATE = 1e-3, 1e-4
PROCESS, LABEL = linear(), {"scale": 1000.0, "offset": -1.0}  # DDPM's


class Sizes(NamedTuple):
    """What is measured; the UNet has 6.5 million parameters."""

    depth: int = 20
    pgd_batch: int = 200
    pgd_steps: int = 20
    unet: UNet = UNet(64, (1, 2, 2), 2, (16,), dropout=0.0, groups=16)
    side: int = 32
    batch: int = 16
    gradients: int = 3
    ddim_steps: int = 20
    ddpm_steps: int = 50


SMOKE = Sizes(
    depth=8,
    pgd_batch=8,
    pgd_steps=6,  # reaches the radius
    unet=UNet(16, (1, 2), 1, (8,), dropout=0.0, groups=4),
    side=16,
    batch=8,
    gradients=2,
    ddim_steps=4,
    ddpm_steps=4,
)


def mesh_for(batch: int) -> Any:
    """As many devices as divide the batch."""
    devices = jax.devices()
    return data_mesh(devices[: max(n for n in range(1, len(devices) + 1) if batch % n == 0)])


def pgd_rows(sizes: Sizes, repeats: int, peers: Peers, weights: str | None = None) -> list[Row]:
    """PGD with a random start on a CIFAR ResNet."""
    model, arrays, side = ResNetCIFAR(sizes.depth), load_npz(weights) if weights else None, peers.module
    theirs = side and side.resnet(sizes.depth, arrays, peers.device)
    arrays = side.arrays(theirs) if side else arrays
    x = jax.random.uniform(jax.random.key(0), (sizes.pgd_batch, 32, 32, 3))
    variables = resnet_cifar_from_torch(arrays) if arrays else jax.jit(model.init)(jax.random.key(1), x)
    predict = jax.jit(model.apply)
    y = predict(variables, x).argmax(-1)
    ours = lambda start: attack_call(model, sizes, variables, x, y, start)
    settings = (RADIUS, PGD_LR, sizes.pgd_steps)
    peer = side and side.pgd(theirs, x, y, *settings, True, peers.device)

    def check(_):
        # Both start from the images, without chance. Rounding flips the signs of some gradients: about 2 % of
        # the radius in the mean. A step or a tenth of the step length makes 6 to 25 %.
        x_theirs = side.nhwc(side.pgd(theirs, x, y, *settings, False, peers.device)())
        x_ours = jax.device_get(ours(False)())
        close("logits", predict(variables, x), theirs(side.nchw(x, peers.device)).cpu().numpy())
        close("PGD", RADIUS + np.abs(x_ours - x_theirs).mean(), RADIUS, 0.05)

    what, shape = f"PGD-{sizes.pgd_steps}, ResNet-{sizes.depth}", f"{sizes.pgd_batch} x 32 x 32 x 3"
    return [compare(what, shape, ours(True), peer, check, repeats)]


def attack_call(
    model: Any, sizes: Sizes, variables: Any, x: jax.Array, y: jax.Array, random_start: bool
) -> Callable[[], Any]:
    """Our PGD of this batch."""
    ascent, mesh = pgd(linf(RADIUS), PGD_LR, sizes.pgd_steps, random_start), mesh_for(len(x))
    attack = untargeted(ascent, cross_entropy())

    def run(variables, batch):
        classifier = as_classifier(model, variables)
        return jax.vmap(lambda x, y, key: attack(classifier, x, y, key))(*batch)

    ours, keys = spread(run, mesh, None), jax.random.split(jax.random.key(2), len(x))
    variables, batch = shared(variables, mesh), split((x, y, keys), mesh)
    return lambda: ours(variables, batch)


class Network(NamedTuple):
    """The UNet of both sides, and a batch."""

    sizes: Sizes
    variables: Any
    theirs: Any
    x: jax.Array
    t: jax.Array
    peers: Peers
    repeats: int

    @property
    def shape(self) -> str:
        """Of the batch."""
        return " x ".join(map(str, self.x.shape))

    def compare(self, what: str, ours: Callable, peer: Callable | None, check: Callable, per: int = 1) -> Row:
        """A row about this batch."""
        return compare(what, self.shape, ours, peer, check, self.repeats, per)

    def images(self, tensor: Any) -> np.ndarray:
        """A tensor of the other side."""
        return self.peers.module.nhwc(tensor)


def networks(sizes: Sizes, repeats: int, peers: Peers) -> Network:
    """The same weights on both sides; our own random ones if there is only ours."""
    x = jax.random.normal(jax.random.key(0), (sizes.batch, sizes.side, sizes.side, 3))
    t = jnp.arange(sizes.batch) * (999 // sizes.batch)
    theirs = peers.module and peers.module.unet(sizes.unet, sizes.side, peers.device)
    if theirs:
        variables = unet_from_diffusers(peers.module.arrays(theirs), sizes.unet, sizes.side)
    else:
        variables = jax.jit(sizes.unet.init)(jax.random.key(1), x, t)
    return Network(sizes, variables, theirs, x, t, peers, repeats)


def unet_rows(sizes: Sizes, repeats: int, peers: Peers) -> list[Row]:
    """The UNet's forward pass, input gradients and training step."""
    net = networks(sizes, repeats, peers)
    rows = [forward_row(net), gradient_row(net), training_row(net)]
    return rows if jax.default_backend() == "cpu" else [*rows, training_row(net, bfloat16=True)]


def forward_row(net: Network) -> Row:
    """One evaluation."""
    mesh = mesh_for(len(net.x))
    forward = spread(lambda variables, batch: net.sizes.unet.apply(variables, *batch), mesh, None)
    variables, batch = shared(net.variables, mesh), split((net.x, net.t), mesh)
    side = net.peers.module
    peer = side and side.forward(net.theirs, net.x, net.t, net.peers.device)
    check = lambda out: close("UNet", out, net.images(peer()))
    return net.compare("UNet forward", lambda: forward(variables, batch), peer, check)


def gradient_row(net: Network) -> Row:
    """Gradients with respect to the images inside a scan, as attacks and guidance take them."""
    steps, mesh = net.sizes.gradients, mesh_for(len(net.x))

    def descend(variables, batch):
        height = lambda x: jnp.square(net.sizes.unet.apply(variables, x, batch[1])).sum()
        step = lambda x, _: (x - DESCENT * jax.grad(height)(x), None)
        return jax.lax.scan(step, batch[0], length=steps)[0]

    ours, variables = spread(descend, mesh, None), shared(net.variables, mesh)
    batch, side = split((net.x, net.t), mesh), net.peers.module
    peer = side and side.descend(net.theirs, net.x, net.t, DESCENT, steps, net.peers.device)
    check = lambda x: close("input gradients", x - net.x, net.images(peer()) - np.asarray(net.x))
    return net.compare("UNet input gradient, in a scan", lambda: ours(variables, batch), peer, check, steps)


def training_row(net: Network, bfloat16: bool = False) -> Row:
    """A step of DDPM's training with Adam, noise and times drawn in the step."""
    model = net.sizes.unet.clone(dtype="bfloat16" if bfloat16 else None)
    per_example, root = denoising(PROCESS, "eps", weights.simple()), jax.random.key(3)
    draw_time, ids = noise_levels.discrete(), jnp.arange(len(net.x))

    def draws(key):
        keys = example_keys(key, ids)
        return tuple(jax.vmap(lambda k: purpose(k, name))(keys) for name in ("time", "noise"))

    def loss(params, model_state, batch, key):
        time_keys, noise_keys = draws(key)
        predict = lambda x, label: model.apply({"params": params}, x, label, train=True)
        times = draw_time(time_keys)
        values = per_example(time_label(predict, **LABEL), batch["image"], times, noise_keys)
        return values.mean(), ({}, model_state)

    def drawn(n):
        time_keys, noise_keys = draws(jax.random.fold_in(root, n))
        noise = jax.vmap(lambda k: jax.random.normal(k, net.x.shape[1:]))(noise_keys)
        return noise, np.rint(1000 * np.asarray(draw_time(time_keys))).astype(np.int64) - 1

    tx, mesh = adam(LEARNING_RATE), data_mesh(training_devices())
    step, batch = jit_step(make_step(loss, tx), mesh), {"image": net.x}
    state = shared(init_state(net.variables["params"], tx), mesh)

    def ours():
        nonlocal state
        state, metrics = step(state, batch, root)
        return metrics["loss"]

    side = net.peers.module
    peer = side and side.train(net.theirs, net.x, LEARNING_RATE, net.peers.device, bfloat16)

    def check(first):  # the loss of the second step depends on the gradient of the first
        for n, value in enumerate((first, ours())):
            close(f"loss of step {n + 1}", value, peer(*drawn(n)).item(), 2e-2 if bfloat16 else 1e-3)

    return net.compare(f"UNet training step{', bfloat16' if bfloat16 else ''}", ours, peer, check)


def sampling_rows(sizes: Sizes, repeats: int, peers: Peers) -> list[Row]:
    """Solvers with the UNet, against the schedulers of diffusers."""
    net = networks(sizes, repeats, peers)
    return [
        sampling_row(net, "ddim", ddim(PROCESS), sizes.ddim_steps),
        sampling_row(net, "ddpm", ddpm(PROCESS), sizes.ddpm_steps),
        sampling_row(net, "dpmpp_2m", dpmpp_2m(PROCESS), sizes.ddim_steps, "trailing", None),
        sampling_row(net, "unipc", unipc(PROCESS), sizes.ddim_steps, "trailing", None),
    ]


def sampling_row(
    net: Network, name: str, solver: Any, steps: int, spacing: str = "leading", clip: float | None = 1.0
) -> Row:
    """A sampler; for the check both take the same noise, in every step."""
    ts, mesh = grids.respaced(steps, spacing=spacing), mesh_for(len(net.x))
    keys = jax.random.split(jax.random.key(4), len(net.x))

    def run(variables, batch):
        denoise = denoiser(PROCESS, "eps", time_label(as_net(net.sizes.unet, variables), **LABEL), clip=clip)
        return jax.vmap(lambda x, key: sample(solver, denoise, x, ts, key))(*batch)

    ours, side = spread(run, mesh, None), net.peers.module
    variables, batch = shared(net.variables, mesh), split((net.x, keys), mesh)
    peer = side and side.sampler(net.theirs, name, steps, net.x, net.peers.device)

    def noises():
        draw = lambda key, i: jax.random.normal(jax.random.fold_in(key, i), net.x.shape[1:])
        return [jax.vmap(lambda key: draw(key, i))(keys) for i in range(steps)]

    check = lambda x: close(name, x, net.images(peer(noises())))
    what = f"{name.upper()}, {steps} steps"
    return net.compare(what, lambda: ours(variables, batch), peer, check)
