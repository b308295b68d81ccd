"""Minimum-norm attacks beside foolbox and torchattacks, on one network with the same weights and the same settings."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdiff.attacks.least.carlini_wagner import carlini_wagner
from jaxdiff.attacks.least.ddn import ddn
from jaxdiff.attacks.least.deepfool import deepfool
from jaxdiff.attacks.least.fab import fab, fab_targeted
from jaxdiff.attacks.threats.threat import l2, linf

pytestmark = pytest.mark.peers
SHAPE, CLASSES, COUNT = (8, 8, 1), 5, 48
torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def example():
    """An MLP trained on noisy class means, its images and labels, and the same network in torch."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    means = rng.uniform(0.3, 0.7, size=(CLASSES, *SHAPE))
    labels = rng.integers(0, CLASSES, size=400)
    images = np.clip(means[labels] + 0.15 * rng.normal(size=(400, *SHAPE)), 0, 1).astype(np.float32)
    d, hidden = images[0].size, 32
    weights = {
        "a": rng.normal(size=(d, hidden)) / np.sqrt(d),
        "b": np.zeros(hidden),
        "c": rng.normal(size=(hidden, CLASSES)) / np.sqrt(hidden),
        "d": np.zeros(CLASSES),
    }
    weights = jax.tree.map(lambda v: jnp.asarray(v, jnp.float32), weights)
    logits = lambda p, x: jax.nn.silu(x.ravel() @ p["a"] + p["b"]) @ p["c"] + p["d"]
    tx = optax.adam(0.01)

    def loss(p):
        z = jax.vmap(lambda x: logits(p, x))(jnp.asarray(images))
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(z, jnp.asarray(labels)))

    @jax.jit
    def train(p):
        def step(carry, _):
            p, state = carry
            update, state = tx.update(jax.grad(loss)(p), state)
            return (optax.apply_updates(p, update), state), None

        return jax.lax.scan(step, (p, tx.init(p)), None, length=100)[0][0]

    weights = train(weights)
    right = np.flatnonzero(jax.vmap(lambda x: jnp.argmax(logits(weights, x)))(jnp.asarray(images)) == labels)
    x, y = images[right[:COUNT]], labels[right[:COUNT]]
    w = {k: torch.tensor(np.asarray(v)) for k, v in weights.items()}

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.anchor = torch.nn.Parameter(torch.zeros(1))  # peers look here for the device

        def forward(self, x):
            return torch.nn.functional.silu(x.flatten(1) @ w["a"] + w["b"]) @ w["c"] + w["d"]

    return lambda x, key: logits(weights, x), x, y, Network().eval()


def _ours(attack, example):
    classifier, x, y, _ = example
    run = jax.jit(jax.vmap(lambda x, y: attack.run(classifier, x, y, jax.random.key(0))))
    found = run(jnp.asarray(x), jnp.asarray(y))
    assert np.all(found.won)
    return -np.asarray(found.loss)


def _torch(example):
    _, x, y, network = example
    return network, torch.tensor(x.transpose(0, 3, 1, 2)), torch.tensor(y)


def _theirs(adversarial, example, order):
    """The norms at which the peer's label is lost; infinity where it is not."""
    network, x, y = _torch(example)
    with torch.no_grad():
        lost = network(adversarial).argmax(1) != y
    norms = torch.linalg.vector_norm((adversarial - x).flatten(1), order, dim=1)
    return np.where(lost.numpy(), norms.detach().numpy(), np.inf)


@pytest.mark.parametrize(
    ("ours", "name", "settings"),
    [
        (
            lambda: carlini_wagner(6, 100, 0.02),
            "L2CarliniWagnerAttack",
            {"binary_search_steps": 6, "steps": 100, "stepsize": 0.02, "abort_early": False},
        ),
        (lambda: deepfool(l2(jnp.inf)), "L2DeepFoolAttack", {}),
        (lambda: deepfool(linf(jnp.inf)), "LinfDeepFoolAttack", {}),
        (lambda: ddn(levels=None), "DDNAttack", {}),
    ],
)
def test_foolbox_finds_nothing_nearer(example, ours, name, settings):
    """The median norm of ours is at most foolbox's; one in a thousand is for rounding and Adam's epsilon."""
    foolbox = pytest.importorskip("foolbox")
    network, x, y = _torch(example)
    model = foolbox.PyTorchModel(network, bounds=(0, 1), device="cpu")
    adversarial = getattr(foolbox.attacks, name)(**settings).run(model, x, y)
    theirs = np.median(_theirs(adversarial, example, np.inf if "Linf" in name else 2))
    mine = np.median(_ours(ours(), example))
    print(f"{name}: median norm {mine:.5f} here, {theirs:.5f} in foolbox")
    assert mine <= 1.001 * theirs


@pytest.mark.parametrize("norm", ["Linf", "L2"])
@pytest.mark.parametrize("targeted", [False, True])
def test_torchattacks_fab_is_as_near(example, norm, targeted):
    """The same algorithm: the median norms differ by less than 1 %, and hardly any example by more.

    Within an infinite radius the first target succeeds, and torchattacks looks at no other.
    """
    torchattacks = pytest.importorskip("torchattacks")
    network, x, y = _torch(example)
    adversarial = torchattacks.FAB(
        network, norm=norm, eps=1e3, steps=20, multi_targeted=targeted, n_classes=CLASSES
    )(x, y)
    theirs = _theirs(adversarial, example, np.inf if norm == "Linf" else 2)
    threat = (linf if norm == "Linf" else l2)(jnp.inf)
    mine = _ours(fab_targeted(threat, 1, 20) if targeted else fab(threat, 20), example)
    print(f"FAB {norm}, targeted {targeted}: median norm {np.median(mine):.5f} here, {np.median(theirs):.5f}")
    assert abs(np.median(mine) / np.median(theirs) - 1) < 0.01
    assert np.mean(mine <= 1.01 * theirs) >= 0.9
