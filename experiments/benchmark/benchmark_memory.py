"""Memory of the gradient through a sampler: what XLA plans, for each remat, without running it."""

import sys
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.diffusion import ddpm, denoiser, grids, linear, sample, time_label
from jaxdiff.diffusion.sample import REMATS
from jaxdiff.models import UNet, as_net

# The plan is the same, in half the time.
NEVER_RUN = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


class Sizes(NamedTuple):
    """A UNet that compiles fast; images; the samplers' steps, each a constant times the one before."""

    unet: UNet = UNet(16, (1, 2), 1, (), dropout=0.0, groups=4)
    image: tuple[int, ...] = (16, 16, 3)
    batch: int = 2
    steps: tuple[int, ...] = (50, 100, 200, 400)


SMOKE = Sizes(UNet(8, (1,), 1, (), dropout=0.0, groups=2), (8, 8, 3), steps=(4, 16, 64))


class Memory(NamedTuple):
    """Bytes of the gradient through `steps` steps; `state` is one image state of the batch."""

    remat: str
    steps: int
    bytes: int
    state: int


def measure(sizes: Sizes, remats: Sequence[str] = REMATS) -> list[Memory]:
    """What XLA plans for the gradient of a sampled image with respect to the noise it starts from."""
    rows = []
    for remat in remats:
        for steps in sizes.steps:
            print(f"memory, remat {remat}, {steps} steps ...", file=sys.stderr, flush=True)
            rows.append(Memory(remat, steps, *gradient_bytes(sizes, steps, remat)))
    return rows


def gradient_bytes(sizes: Sizes, steps: int, remat: str) -> tuple[int, int]:
    """Temporary memory of the gradient through a DDPM sampler, and the size of an image state."""
    process, ts = linear(), grids.uniform(steps)
    solver = ddpm(process)
    x = jax.ShapeDtypeStruct((sizes.batch, *sizes.image), jnp.float32)
    t = jax.ShapeDtypeStruct((sizes.batch,), jnp.float32)
    variables = jax.eval_shape(sizes.unet.init, jax.random.key(0), x, t)
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), sizes.batch))

    def height(x, variables, keys):
        net = time_label(as_net(sizes.unet, variables), scale=1000.0, offset=-1.0)
        denoise = denoiser(process, "eps", net)
        one = lambda x, key: sample(solver, denoise, x, ts, key, remat)
        return jnp.square(jax.vmap(one)(x, keys)).sum()

    options = NEVER_RUN if jax.default_backend() == "cpu" else None
    plan = jax.jit(jax.grad(height)).lower(x, variables, keys).compile(options).memory_analysis()
    return plan.temp_size_in_bytes, x.size * x.dtype.itemsize


class Growth(NamedTuple):
    """Of the memory with the steps: image states a step, and the exponent p of a + b steps^p."""

    states: float
    exponent: float


def growth(rows: Sequence[Memory]) -> Growth:
    """Of one remat, from increments: where steps multiply by r, those of a + b steps^p multiply by r^p."""
    steps, sizes = np.array([r.steps for r in rows]), np.array([r.bytes for r in rows])
    states = (sizes[-1] - sizes[0]) / rows[0].state / (steps[-1] - steps[0])
    increments = np.maximum(np.diff(sizes), 1)
    return Growth(float(states), float(np.polyfit(np.log(steps[:-1]), np.log(increments), 1)[0]))


def by_remat(rows: Sequence[Memory]) -> dict[str, list[Memory]]:
    """{"none": [...], ...} in the order of the steps."""
    return {remat: [r for r in rows if r.remat == remat] for remat in dict.fromkeys(r.remat for r in rows)}


def verdicts(rows: Sequence[Memory]) -> list[str]:
    """Whether "step" stores one image state a step, and "sqrt" grows as the square root."""
    found = {remat: growth(group) for remat, group in by_remat(rows).items()}
    laws = []
    if "step" in found:  # 4 bytes more a step for its index
        holds = found["step"].states <= 1.01
        laws.append((holds, f"'step' grows by {found['step'].states:.3f} image states a step (law: 1)"))
    if "sqrt" in found:
        holds = abs(found["sqrt"].exponent - 0.5) <= 0.1
        laws.append((holds, f"'sqrt' grows as steps^{found['sqrt'].exponent:.2f} (law: 0.5)"))
    return [f"{'holds' if holds else 'BROKEN'}: {text}" for holds, text in laws]
