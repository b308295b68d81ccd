"""Warping and StAdv beside PyTorch's grid_sample and Adam: values, gradients and whole trajectories."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.attacks.stadv import stadv
from jaxdiff.attacks.threats.flow import warp

pytestmark = pytest.mark.peers
torch = pytest.importorskip("torch")
torch.set_num_threads(1)
functional = torch.nn.functional


def _identity(height, width):
    return functional.affine_grid(torch.eye(2, 3)[None].double(), (1, 1, height, width), align_corners=False)


def _sample(x, flow, padding):
    """x [h, w, c] and flow [h, w, 2] of torch, in torch's coordinates."""
    batch = x.permute(2, 0, 1)[None]
    moved = functional.grid_sample(
        batch,
        _identity(*x.shape[:2]) + flow[None],
        mode="bilinear",
        padding_mode=padding,
        align_corners=False,
    )
    return moved[0].permute(1, 2, 0)


@pytest.mark.parametrize("shape", [(8, 8, 3), (5, 9, 1), (7, 4, 3), (1, 6, 2)])
@pytest.mark.parametrize("scale", [0.05, 0.5, 3.0])
@pytest.mark.parametrize(("beyond", "padding"), [("constant", "zeros"), ("edge", "border")])
def test_values_and_gradients_are_those_of_grid_sample(shape, scale, beyond, padding, x64):
    rng = np.random.default_rng(0)
    x, cotangent = rng.random(shape), rng.normal(size=shape)
    flow = scale * rng.uniform(-1, 1, (*shape[:2], 2))
    x_t, flow_t = torch.tensor(x, requires_grad=True), torch.tensor(flow, requires_grad=True)
    moved_t = _sample(x_t, flow_t, padding)
    (moved_t * torch.tensor(cotangent)).sum().backward()
    moved, pull = jax.vjp(lambda x, flow: warp(x, flow, beyond), jnp.asarray(x), jnp.asarray(flow))
    np.testing.assert_allclose(moved, moved_t.detach().numpy(), atol=1e-12)
    for ours, theirs in zip(pull(jnp.asarray(cotangent)), (x_t, flow_t), strict=True):
        np.testing.assert_allclose(ours, theirs.grad.numpy(), atol=1e-11)


def _roughness(flow):
    padded = functional.pad(flow.permute(2, 0, 1)[None], (1, 1, 1, 1), mode="replicate")[0].permute(1, 2, 0)
    near = padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]
    return sum(((flow - other) ** 2).sum(-1).add(1e-10).sqrt().sum() for other in near)


def test_the_letter_is_laidlaws_trajectory(x64):
    """Adam on f6 + 0.0025 / bound L_flow, the grid clipped to [-1, 1] and to the identity +- bound, the last flow.

    Whole powers of two make torch's identity grid exact, and so the derivative at its kinks the same.
    """
    rng = np.random.default_rng(1)
    height, width, classes, bound, steps, lr = 4, 8, 3, 0.2, 25, 0.01
    x, weights = rng.random((height, width, 2)), 0.3 * rng.normal(size=(classes, height * width * 2))
    label = int(np.argmax(weights @ x.ravel()))

    identity = _identity(height, width)[0]
    flow = torch.zeros(height, width, 2, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([flow], lr=lr)
    for _ in range(steps):
        logits = torch.tanh(torch.tensor(weights) @ _sample(torch.tensor(x), flow, "zeros").ravel())
        others = torch.cat([logits[:label], logits[label + 1 :]])
        loss = logits[label] - others.max() + 0.0025 / bound * _roughness(flow)
        adam.zero_grad()
        loss.backward()
        adam.step()
        with torch.no_grad():
            grid = (identity + flow).clamp(-1, 1)
            flow.copy_(torch.minimum(torch.maximum(grid, identity - bound), identity + bound) - identity)
    expected = _sample(torch.tensor(x), flow, "zeros").detach().numpy()

    classifier = lambda x, key: jnp.tanh(jnp.asarray(weights) @ x.ravel())
    attack = stadv(bound, steps, lr=lr, keep="last")
    found = jax.jit(attack.run, static_argnums=0)(
        classifier, jnp.asarray(x), jnp.asarray(label), jax.random.key(0)
    )
    assert np.abs(expected - x).max() > 0.05
    np.testing.assert_allclose(found.x, expected, atol=1e-6)
