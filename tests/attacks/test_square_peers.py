"""Square against torchattacks' on one network: other random numbers, the same success rate."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.attacks.attack import untargeted
from jaxdiff.attacks.objectives import margin
from jaxdiff.attacks.queries.square import square_l2, square_linf

torch = pytest.importorskip("torch")
torchattacks = pytest.importorskip("torchattacks")

pytestmark = pytest.mark.peers

N, SHAPE = 300, (15, 15, 3)


def _networks(rng):
    """One small network, convolution, ReLU, linear, in both libraries."""
    kernel = rng.normal(size=(3, 3, 3, 6)).astype(np.float32) / 5
    head = rng.normal(size=(7 * 7 * 6, 5)).astype(np.float32) / 17

    def ours(x, key):
        dimensions = ("NHWC", "HWIO", "NHWC")
        h = jax.lax.conv_general_dilated(x[None] - 0.5, kernel, (2, 2), "VALID", dimension_numbers=dimensions)
        return jax.nn.relu(h).reshape(-1) @ head

    class Theirs(torch.nn.Module):
        def __init__(self):
            super().__init__()
            # torchattacks asks a model for the device of its parameters.
            self.kernel = torch.nn.Parameter(torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy()))

        def forward(self, x):
            h = torch.nn.functional.conv2d(x - 0.5, self.kernel, stride=2)
            return torch.relu(h).permute(0, 2, 3, 1).flatten(1) @ torch.from_numpy(head)

    return ours, Theirs().eval()


@pytest.mark.parametrize(
    ("norm", "make", "radius"), [("Linf", square_linf, 0.05), ("L2", square_l2, 0.9)], ids=["linf", "l2"]
)
def test_success_rate_is_that_of_torchattacks(norm, make, radius):
    """Of 300 images at 201 queries, by a two-sided test at 99.9 % of two shares; both must be far from 0 and 1."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    ours, theirs = _networks(rng)
    x = rng.uniform(size=(N, *SHAPE)).astype(np.float32)
    torch_x = torch.from_numpy(x.transpose(0, 3, 1, 2).copy())
    with torch.no_grad():
        y = theirs(torch_x).argmax(1)
    logits = jax.jit(jax.vmap(lambda x: ours(x, None)))
    np.testing.assert_array_equal(jnp.argmax(logits(x), axis=1), y.numpy())

    peer = torchattacks.Square(theirs, norm=norm, eps=radius, n_queries=200, resc_schedule=False)
    with torch.no_grad():
        their_share = float((theirs(peer(torch_x, y)).argmax(1) != y).float().mean())
    attack = untargeted(make(radius, 201), margin())
    run = jax.jit(jax.vmap(lambda x, y, key: attack.run(ours, x, y, key)))
    found = run(x, jnp.asarray(y.numpy()), jax.random.split(jax.random.key(1), N))
    share = float(jnp.mean(found.won))
    np.testing.assert_array_equal(jnp.argmax(logits(found.x), axis=1) != y.numpy(), found.won)

    mean = (share + their_share) / 2
    print(f"{norm}: ours {share:.3f}, torchattacks {their_share:.3f}")
    assert 0.2 < mean < 0.8
    assert abs(share - their_share) < 3.29 * np.sqrt(2 * mean * (1 - mean) / N), (share, their_share)
