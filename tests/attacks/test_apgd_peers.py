"""APGD against torchattacks, iterate by iterate: the same network, the same start, float64 on both sides.

torchattacks 3.5.1 departs from the authors' code in one place, which these tests keep away from: its targeted form under L2
moves every image of a batch with the step size of the first.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import models
from jaxdiff.attacks.ascents.apgd import apgd, check_iterations
from jaxdiff.attacks.attack import untargeted
from jaxdiff.attacks.multi import multi_targeted
from jaxdiff.attacks.objectives import cross_entropy, dlr, targeted_dlr
from jaxdiff.attacks.threats.threat import l2, linf
from jaxdiff.models.layers import IMAGENET_MEAN, IMAGENET_STD

torch = pytest.importorskip("torch")
torchattacks = pytest.importorskip("torchattacks")

pytestmark = [pytest.mark.peers, pytest.mark.usefixtures("x64", "torch64")]

STEPS = 100
SHAPE = (8, 8, 3)
THREATS = {"linf": (linf, "Linf"), "l2": (l2, "L2")}
OBJECTIVES = {"cross_entropy": (cross_entropy(), "ce"), "dlr": (dlr(), "dlr")}


@pytest.fixture
def torch64():
    """torchattacks keeps losses and step sizes in the default type."""
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


class Recorder(torch.nn.Module):
    """A model that remembers what it was asked, as images "h w c"."""

    def __init__(self, model):
        super().__init__()
        self.model, self.seen = model, []

    def forward(self, x):
        self.seen.append(x.detach().numpy().transpose(0, 2, 3, 1).copy())
        return self.model(x)


def _mlp(rng, shape=SHAPE, classes=10):
    """One network with tanh in both frameworks."""
    first = rng.normal(size=(24, np.prod(shape))) / 4
    first -= first.mean(axis=1, keepdims=True)
    last = rng.normal(size=(classes, 24)) / 2
    a, b = jnp.asarray(first), jnp.asarray(last)
    theirs = torch.nn.Sequential(
        torch.nn.Flatten(),
        torch.nn.Linear(first.shape[1], 24, False),
        torch.nn.Tanh(),
        torch.nn.Linear(24, classes, False),
    )
    # Their images are "c h w".
    columns = first.reshape(-1, *shape).transpose(0, 3, 1, 2).reshape(24, -1)
    with torch.no_grad():
        theirs[1].weight.copy_(torch.from_numpy(columns))
        theirs[3].weight.copy_(torch.from_numpy(last))
    return (lambda x, key: b @ jnp.tanh(a @ x.ravel())), theirs


def _start(threat, noise):
    """The threat with a given start in place of a random one."""
    return threat._replace(init=lambda key, x: noise)


def _ours(objective, threat, classifier, x, y, noise):
    """The states after every step of a batch, "step batch ..."."""

    def one(x, y, noise):
        attack = untargeted(apgd(_start(threat, noise), STEPS), objective)
        problem = classifier, x, y, jax.random.key(0)

        def step(state, i):
            state = attack.step(problem, state, i)
            return state, state

        return jax.lax.scan(step, attack.init(problem), jnp.arange(attack.steps))[1]

    return jax.jit(jax.vmap(one, out_axes=1))(x, y, noise)


def _theirs(monkeypatch, norm, loss, radius, model, x, y, noise):
    """(iterates, all predictions right, highest loss) of one run that starts from `noise`."""
    draw = torch.from_numpy(noise.transpose(0, 3, 1, 2).copy())
    monkeypatch.setattr(torch, "rand", lambda *_: (draw + 1) / 2)
    monkeypatch.setattr(torch, "randn", lambda *_: draw)
    recorder = Recorder(model.eval())
    attack = torchattacks.APGD(recorder, norm=norm, eps=radius, steps=STEPS, loss=loss)
    images = torch.from_numpy(x.transpose(0, 3, 1, 2).copy())
    _, right, highest, _ = attack.attack_single_run(images, torch.from_numpy(y))
    return np.stack(recorder.seen), right.numpy(), highest.numpy()


def _compare(monkeypatch, name, objective, radius, classifier, model, x, y, noise, halvings):
    """Every iterate of every image, the highest losses and the victories, with `halvings` of the step or more."""
    make, norm = THREATS[name]
    ours, theirs = OBJECTIVES[objective]
    seen, right, highest = _theirs(monkeypatch, norm, theirs, radius, model, x, y, noise)
    states = _ours(ours, make(radius), classifier, jnp.asarray(x), jnp.asarray(y), jnp.asarray(noise))
    states = jax.tree.map(np.asarray, states)
    halved = np.diff(states.length, axis=0, prepend=states.length[:1]) < 0
    assert set(np.flatnonzero(halved.any(axis=1))) <= set(check_iterations(STEPS))
    assert halved.sum(axis=0).mean() >= halvings
    # Where the label is third the DLR is flat: there a gradient of 1e-11, rounding alone, decides where to go next.
    flat = np.linalg.norm(states.at.gradient.reshape(*halved.shape, -1), axis=2) < 1e-6
    lost_way = np.cumsum(flat, axis=0) - flat > 0
    never = ~flat.any(axis=0)
    assert never.mean() >= 0.5
    # After a halving the state stands at the highest point, no longer at the one just seen: the next one tells.
    known = ~halved & ~lost_way
    np.testing.assert_allclose((x + states.at.delta)[known], seen[known], atol=1e-5)
    np.testing.assert_allclose(states.highest.loss[-1][never], highest[never], rtol=1e-6)
    np.testing.assert_array_equal(states.best.won[-1][never], ~right[never])


def _noise(rng, name, shape):
    return rng.uniform(-1, 1, shape) if name == "linf" else rng.normal(size=shape)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize(("name", "radius"), [("linf", 1 / 256), ("l2", 1 / 16)])
def test_every_iterate_is_that_of_torchattacks(name, radius, objective, monkeypatch):
    """100 iterations, with several halvings of the step: to 1e-5, and in fact to rounding."""
    rng = np.random.default_rng(0)
    classifier, model = _mlp(rng)
    x = rng.uniform(size=(6, *SHAPE))
    y = np.array([np.argmax(classifier(image, None)) for image in jnp.asarray(x)])
    _compare(monkeypatch, name, objective, radius, classifier, model, x, y, _noise(rng, name, x.shape), 4)


def test_targets_and_their_losses_are_those_of_torchattacks(monkeypatch):
    """APGD-T in L-infinity: the highest loss towards each target, from the same start."""
    rng = np.random.default_rng(1)
    classifier, model = _mlp(rng)
    x, targets = rng.uniform(size=SHAPE), 4
    logits = classifier(jnp.asarray(x), None)
    y = jnp.argmax(logits)
    noise = _noise(rng, "linf", (1, *SHAPE))
    threat = _start(linf(1 / 64), jnp.asarray(noise[0]))
    attack = multi_targeted(apgd(threat, STEPS), targeted_dlr(), targets)
    found = jax.jit(lambda: attack.run(classifier, jnp.asarray(x), y, jax.random.key(0)))()

    draw = torch.from_numpy(noise.transpose(0, 3, 1, 2).copy())
    monkeypatch.setattr(torch, "rand", lambda *_: (draw + 1) / 2)
    peer = torchattacks.APGDT(model, norm="Linf", eps=1 / 64, steps=STEPS, n_classes=10)
    heights = []
    for target in range(2, targets + 2):
        peer.target_class = target
        run = peer.attack_single_run(
            torch.from_numpy(x[None].transpose(0, 3, 1, 2).copy()), torch.tensor([int(y)])
        )
        heights.append(float(run[2][0]))
    assert len({round(h, 3) for h in heights}) == targets
    np.testing.assert_allclose(found.loss, max(heights), rtol=1e-6)


class _Block(torch.nn.Module):
    """Two 3 x 3 convolutions around shortcut A: every second pixel, and zeros for the new channels."""

    def __init__(self, old, new):
        super().__init__()
        self.stride, self.pad = new // old, (new - old) // 2
        self.conv1 = torch.nn.Conv2d(old, new, 3, self.stride, 1, bias=False)
        self.conv2 = torch.nn.Conv2d(new, new, 3, 1, 1, bias=False)
        self.bn1, self.bn2 = torch.nn.BatchNorm2d(new), torch.nn.BatchNorm2d(new)

    def forward(self, x):
        h = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        short = torch.nn.functional.pad(x[..., :: self.stride, :: self.stride], (0,) * 4 + (self.pad,) * 2)
        return torch.relu(h + short)


class _ResNet20(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = torch.nn.Conv2d(3, 16, 3, 1, 1, bias=False), torch.nn.BatchNorm2d(16)
        rows = [[(16, 16)] * 3, [(16, 32), (32, 32), (32, 32)], [(32, 64), (64, 64), (64, 64)]]
        self.layer1, self.layer2, self.layer3 = (
            torch.nn.Sequential(*[_Block(*b) for b in row]) for row in rows
        )
        self.linear = torch.nn.Linear(64, 10)

    def forward(self, x):
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
        h = torch.relu(self.bn1(self.conv1((x - mean) / std)))
        return self.linear(self.layer3(self.layer2(self.layer1(h))).mean((2, 3)))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "objective"), [("linf", "dlr"), ("l2", "cross_entropy")])
def test_every_iterate_on_a_trained_resnet(name, objective, weights_dir, monkeypatch):
    """ResNet-20 of CIFAR-10."""
    arrays = models.load_npz(weights_dir / "resnet20-12fca82f.npz")
    model = _ResNet20()
    model.load_state_dict(
        {k.removeprefix("module."): torch.from_numpy(np.asarray(v)) for k, v in arrays.items()}, strict=False
    )
    variables = jax.tree.map(lambda v: jnp.asarray(v, jnp.float64), models.resnet_cifar_from_torch(arrays))
    classifier = models.as_classifier(models.ResNetCIFAR(20, dtype=jnp.float64), variables)
    rng = np.random.default_rng(0)
    x = np.clip(0.5 + 0.2 * np.kron(rng.normal(size=(4, 8, 8, 3)), np.ones((1, 4, 4, 1))), 0, 1)
    logits = jax.jit(jax.vmap(lambda x: classifier(x, None)))(jnp.asarray(x))
    with torch.no_grad():
        np.testing.assert_allclose(
            model.eval()(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())), logits, atol=1e-9
        )
    y = np.array(jnp.argmax(logits, axis=1))
    radius = 1 / 256 if name == "linf" else 1 / 16
    _compare(monkeypatch, name, objective, radius, classifier, model, x, y, _noise(rng, name, x.shape), 2)
