"""One pixel against ART and torchattacks on one network, at the same number of queries."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.attacks.queries.one_pixel import pixels

torch = pytest.importorskip("torch")
torchattacks = pytest.importorskip("torchattacks")
evasion = pytest.importorskip("art.attacks.evasion")
classification = pytest.importorskip("art.estimators.classification")

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]  # the peers' own warnings

N, SHAPE, CLASSES, POPULATION, GENERATIONS = 24, (8, 8, 3), 4, 400, 10


def _networks(rng):
    """One small network, linear, ReLU, linear, in both libraries."""
    first = rng.normal(size=(192, 32)).astype(np.float32) / 14
    last = rng.normal(size=(32, CLASSES)).astype(np.float32) / 6

    class Theirs(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first = torch.nn.Parameter(torch.from_numpy(first))

        def forward(self, x):
            return torch.relu((x - 0.5).permute(0, 2, 3, 1).flatten(1) @ self.first) @ torch.from_numpy(last)

    return lambda x, key: jax.nn.relu((x - 0.5).reshape(-1) @ first) @ last, Theirs().eval()


def test_as_successful_as_the_peers():
    """One pixel, 400 members, 10 generations after the first: at least as many victories as either peer."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    ours, theirs = _networks(rng)
    x = rng.uniform(size=(N, *SHAPE)).astype(np.float32)
    torch_x = torch.from_numpy(x.transpose(0, 3, 1, 2).copy())
    label = lambda x: theirs(x).argmax(1).detach()
    y = label(torch_x)

    attack = pixels(1, POPULATION, GENERATIONS)
    run = jax.jit(lambda: jax.lax.map(lambda p: attack.run(ours, *p), (x, y.numpy(), keys)))
    keys = jax.random.split(jax.random.key(0), N)
    found = run()
    again = label(torch.from_numpy(np.array(found.x).transpose(0, 3, 1, 2).copy()))
    np.testing.assert_array_equal((again != y).numpy(), found.won)

    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 the peers draw from the global generator
    peer = torchattacks.OnePixel(
        theirs, pixels=1, steps=GENERATIONS, popsize=POPULATION, inf_batch=POPULATION
    )
    by_torchattacks = int((label(peer(torch_x, y)) != y).sum())
    wrapped = classification.PyTorchClassifier(
        torch.nn.Sequential(theirs, torch.nn.Softmax(1)),
        torch.nn.CrossEntropyLoss(),
        (3, 8, 8),
        CLASSES,
        clip_values=(0.0, 1.0),
        device_type="cpu",
    )
    peer = evasion.PixelAttack(wrapped, th=1, es=1, max_iter=GENERATIONS)  # es = 1 is differential evolution
    by_art = int((label(torch.from_numpy(peer.generate(torch_x.numpy(), y.numpy()))) != y).sum())
    wins = int(jnp.sum(found.won))
    print(f"of {N}: ours {wins}, torchattacks {by_torchattacks}, ART {by_art}")
    assert 4 <= wins <= N - 4
    assert wins >= by_torchattacks and wins >= by_art, (wins, by_torchattacks, by_art)
