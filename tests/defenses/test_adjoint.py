"""The adjoint gradient: known on Gaussian data, wrong in proportion to the steps, the same as torchsde's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gaussians import STD, exact_denoiser

from jaxdiff.defenses.adjoint import adjoint_regenerate
from jaxdiff.diffusion import VP, Cosine, ddpm, euler_maruyama, regenerate
from jaxdiff.diffusion.grids import uniform

pytestmark = pytest.mark.usefixtures("x64")

PROCESS = VP()
SOLVER = euler_maruyama(PROCESS)


def _beta(t):
    return 0.1 + 19.9 * t


def _alpha(t):
    return np.exp(-0.5 * (0.1 * t + 9.95 * t**2))


def _two_modes(x_t, t, tanh=jnp.tanh, alpha=PROCESS.alpha):
    """The exact denoiser of data from N(-0.6, 0.3^2) and N(0.6, 0.3^2): its Jacobian depends on the state."""
    a = alpha(t)
    v = a**2 * 0.3**2 + 1 - a**2
    return (a * 0.3**2 * x_t + (1 - a**2) * 0.6 * tanh(a * 0.6 * x_t / v)) / v


def _pair(denoise, ts):
    exact = regenerate(PROCESS, SOLVER, denoise, ts)
    adjoint = adjoint_regenerate(PROCESS, SOLVER, denoise, ts)
    return exact, adjoint


def _gradients(denoise, ts, x, key):
    pair = _pair(denoise, ts)
    gradient = lambda x, purify: jax.grad(lambda x: jnp.sum(jnp.cos(purify(x, key))))(x)
    return jax.jit(lambda x: [gradient(x, purify) for purify in pair])(x)


def test_gaussian_data_have_a_known_adjoint(key):
    """The drift is linear there, so equation (3) is a product of numbers: at the later times, times alpha(t*).

    The last of them is 1e-5 in place of 0, where the score need not exist.
    """
    ts = jnp.array([0.3, 0.27, 0.2, 0.19, 0.12, 0.06, 0.03, 0.0])
    x = jnp.linspace(-1, 1, 5)
    pair = _pair(exact_denoiser(PROCESS), ts)
    slope = lambda x, purify: jax.grad(lambda x: jnp.sum(purify(x, key)))(x)
    exact, adjoint = jax.jit(lambda x: [slope(x, purify) for purify in pair])(x)
    t = np.maximum(ts, 1e-5)
    slope = _beta(t) * (1 / (_alpha(t) ** 2 * STD**2 + 1 - _alpha(t) ** 2) - 0.5)  # d drift / dx
    np.testing.assert_allclose(adjoint, _alpha(0.3) * np.prod(1 - np.diff(-ts) * slope[1:]), rtol=1e-9)
    np.testing.assert_allclose(exact, _alpha(0.3) * np.prod(1 - np.diff(-ts) * slope[:-1]), rtol=1e-9)


@pytest.mark.slow
def test_error_is_of_first_order_in_the_step(key):
    """Halving dt halves the error, also where the Jacobian depends on the reconstructed states; it is large when dt is."""
    x = jax.random.uniform(key, (40,), minval=-1.0)
    errors = []
    for steps in (25, 50, 100, 200):
        exact, adjoint = _gradients(_two_modes, uniform(steps, 0.2, 0.02), x, key)
        errors.append(float(jnp.linalg.norm(adjoint - exact) / jnp.linalg.norm(exact)))
    ratios = np.divide(errors[:-1], errors[1:])
    assert errors[0] > 0.05
    assert np.all(ratios > 1.4) and np.all(ratios < 2.8), errors


def test_the_image_is_that_of_the_defense(key):
    """Forward there is one purification, for a batch as for one image."""
    exact, adjoint = _pair(_two_modes, uniform(6, 0.2))
    x, keys = jax.random.uniform(key, (3, 4, 2)), jax.random.split(key, 3)
    np.testing.assert_array_equal(jax.jit(jax.vmap(adjoint))(x, keys), jax.jit(jax.vmap(exact))(x, keys))
    gradient = jax.jit(jax.grad(lambda x, key: jnp.sum(adjoint(x, key) ** 2)))
    loop = [gradient(image, key) for image, key in zip(x, keys, strict=True)]
    np.testing.assert_allclose(jax.vmap(gradient)(x, keys), jnp.stack(loop), rtol=1e-9)
    assert jnp.all(jnp.isfinite(jnp.stack(loop)))  # the grid ends at time 0, where there is no score


def test_memory_does_not_grow_with_the_steps(key):
    def temporaries(steps, make):
        purify = make(PROCESS, SOLVER, _two_modes, uniform(steps, 0.2))
        gradient = jax.jit(jax.grad(lambda x: jnp.sum(purify(x, key))))
        return gradient.lower(jnp.zeros(10_000)).compile().memory_analysis().temp_size_in_bytes

    assert temporaries(64, adjoint_regenerate) < 1.1 * temporaries(8, adjoint_regenerate)
    assert temporaries(64, regenerate) > 3 * temporaries(8, regenerate)


@pytest.mark.parametrize("solver", [ddpm(PROCESS), euler_maruyama(Cosine())], ids=["ddpm", "other_process"])
def test_other_solvers_are_refused(solver):
    with pytest.raises(ValueError, match=r"euler_maruyama\(process\)"):
        adjoint_regenerate(PROCESS, solver, _two_modes, uniform(6, 0.2))


@pytest.mark.peers
@pytest.mark.parametrize("adjoint_method", ["milstein", "euler"])
def test_same_gradient_as_torchsde(adjoint_method, key):
    """DiffPure's own solver on the same grid with the same noise; "milstein" is what it takes without being told."""
    torch, torchsde = pytest.importorskip("torch"), pytest.importorskip("torchsde")
    torch.set_num_threads(1)
    start, end, steps = 0.375, 0.125, 8  # exact in binary: the grids coincide
    dt, ts = (start - end) / steps, uniform(steps, start, end)
    noise_key, solve_key = jax.random.split(key)
    x = jax.random.uniform(key, (5,), minval=-1.0)
    z = [jax.random.normal(jax.random.fold_in(solve_key, i), x.shape, x.dtype) for i in range(steps)]
    increments = torch.tensor(np.stack(z) * np.sqrt(dt))

    class Reverse(torch.nn.Module):
        """Time runs from 0 at t* to t* - end."""

        noise_type, sde_type = "diagonal", "ito"

        def f(self, u, x):
            t = start - u
            alpha = lambda t: torch.exp(-0.5 * (0.1 * t + 9.95 * t**2))
            score = (alpha(t) * _two_modes(x, t, torch.tanh, alpha) - x) / (1 - alpha(t) ** 2)
            return 0.5 * _beta(t) * x + _beta(t) * score

        def g(self, u, x):
            return torch.sqrt(_beta(start - u)) * torch.ones_like(x)

    class Increments(torchsde.BaseBrownian):
        shape, dtype, device, levy_area_approximation = (1, 5), torch.float64, torch.device("cpu"), "none"

        def __call__(self, ta, tb=None, return_U=False, return_A=False):
            return increments[round(float(ta) / dt)][None]

        def __repr__(self):
            return "Increments"

    noise = jax.random.normal(noise_key, x.shape, x.dtype)
    leaf = torch.tensor(np.asarray(x))[None].requires_grad_()
    x_t = _alpha(start) * leaf + np.sqrt(1 - _alpha(start) ** 2) * torch.tensor(np.asarray(noise))
    times = torch.tensor([0.0, start - end], dtype=torch.float64)
    theirs = torchsde.sdeint_adjoint(
        Reverse(), x_t, times, bm=Increments(), method="euler", adjoint_method=adjoint_method, dt=dt
    )[-1]
    torch.cos(theirs).sum().backward()
    _, adjoint = _pair(_two_modes, ts)
    np.testing.assert_allclose(adjoint(x, key), theirs.detach().numpy()[0], rtol=1e-9)
    exact, ours = _gradients(_two_modes, ts, x, key)
    np.testing.assert_allclose(ours, leaf.grad.numpy()[0], rtol=1e-7)
    assert np.linalg.norm(ours - exact) > 0.1 * np.linalg.norm(exact)
