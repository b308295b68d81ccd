"""The gradient of DiffPure's published numbers: a continuous adjoint whose states are reconstructed, not stored.

The reverse SDE by Euler and Maruyama steps from t down to s, dt = t - s, with the drift b(x, t) = f x - g^2 score and the
noise z of that step:

    x_s = x_t - b(x_t, t) dt + g(t) sqrt(dt) z.                                                     (1)

Backward (Li et al. 2020, arXiv 2001.01328; Nie et al. 2022, arXiv 2205.07460, equation 6) the same method solves state and
adjoint a = dL/dx from s up to t, beginning at the result, with the same z:

    x_t = x_s + b(x_s, s) dt - g(s) sqrt(dt) z,                                                     (2)
    a_t = a_s - dt (db/dx)(x_s, s)^T a_s.                                                           (3)

(2) is not the inverse of (1), and (3) is not its transpose: both evaluate at the later state and time. The gradient is
therefore wrong by O(dt), in exchange for memory that does not grow with the number of steps. At the end of the grid b
is evaluated at time 1e-5, where DiffPure ends, because the score of clean images need not exist. Every step of (1) has noise,
the last one too: `noise_removal` is another solver.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import checks
from jaxdiff.diffusion import euler_maruyama, sample, score
from jaxdiff.diffusion.grids import TimesLike
from jaxdiff.diffusion.process import Process
from jaxdiff.diffusion.sample import noised, regenerable
from jaxdiff.diffusion.solvers import Solver
from jaxdiff.floats import wide_dtype
from jaxdiff.types import Defense, Denoiser, Image, PRNGKey

END = 1e-5


def adjoint_regenerate(process: Process, solver: Solver, denoise: Denoiser, ts: TimesLike) -> Defense:
    """`diffusion.regenerate` with the gradient of equations (2) and (3) for the image; the noising's gradient is exact.

    What the denoiser closes over (its parameters) cannot be differentiated. ValueError unless `solver` is
    `euler_maruyama(process)`.
    """
    ts = regenerable("adjoint_regenerate", process, solver, denoise, ts)
    if not _is_euler_maruyama(process, solver):
        raise ValueError(
            "The adjoint gradient solves the reverse SDE backward, and so needs solver = euler_maruyama(process); the steps of "
            "this solver are others. Use the exact gradient with it, or give that solver."
        )
    return partial(_regenerated, process, solver, denoise, ts)


def _regenerated(process: Process, solver: Solver, denoise: Denoiser, ts, x, key: PRNGKey) -> Image:
    x, key = checks.floats("adjoint_regenerate", x), checks.key("adjoint_regenerate", key)

    @jax.custom_vjp
    def solve(x: Image, key: PRNGKey) -> Image:
        return sample(solver, denoise, x, ts, key)

    def forward(x, key):
        result = solve(x, key)
        return result, (result, key)

    def backward(residuals, a):
        x, key = residuals
        return _backward(process, denoise, jnp.asarray(ts).astype(wide_dtype(x.dtype)), x, a, key), None

    solve.defvjp(forward, backward)
    return solve(*noised(process, x, ts[0], key))


def _backward(process: Process, denoise: Denoiser, ts, x: Image, a: Image, key: PRNGKey) -> Image:
    """dL/dx at ts[0] from the result x and a = dL/dx there, by equations (2) and (3)."""

    def drift(x: Image, t: jax.Array) -> Image:
        b = process.f(t) * x - process.g2(t) * score(process, denoise)(x, t)
        return b.astype(x.dtype)

    def step(state, i):
        x, a = state
        dt, s = ts[i] - ts[i + 1], jnp.maximum(ts[i + 1], END)
        z = jax.random.normal(jax.random.fold_in(key, i), x.shape, x.dtype)
        b, transpose = jax.vjp(lambda x: drift(x, s), x)
        x_t = x + b * dt - jnp.sqrt(process.g2(s) * dt) * z
        return (x_t.astype(x.dtype), (a - dt * transpose(a)[0]).astype(a.dtype)), None

    return jax.lax.scan(step, (x, a), jnp.arange(len(ts) - 1), reverse=True)[0][1]


def _is_euler_maruyama(process: Process, solver: Solver) -> bool:
    """Whether every step of the solver is equation (1): a solver is known by what it does."""

    def steps(solver: Solver):
        x = jnp.array([-0.5, 0.1, 0.8])
        step = lambda t, s: solver.step(lambda x, t: jnp.tanh(x), x, solver.init(x), t, s, jax.random.key(0))
        return step(0.5, 0.2)[0], step(0.2, 0.0)[0]

    with jax.ensure_compile_time_eval():
        mine, its = jax.jit(lambda: (steps(euler_maruyama(process)), steps(solver)))()
        return bool(np.allclose(mine, its, rtol=1e-4, atol=1e-5))
