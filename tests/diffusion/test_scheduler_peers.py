"""Whole runs of the solvers against diffusers' schedulers, with one network and the same noise.

Their tables are float32: a few parts in 1e4 at the first step of a table.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.diffusion import (
    VE,
    cosine_table,
    ddim,
    ddpm,
    denoiser,
    dpmpp_2m,
    dpmpp_2m_sde,
    heun,
    langevin,
    linear,
    quadratic,
    reverse_diffusion,
    sample,
    time_label,
    unipc,
)
from jaxdiff.diffusion.grids import respaced

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

pytestmark = [
    pytest.mark.peers,
    pytest.mark.usefixtures("x64"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # of NumPy 2 to torch
]

SHAPE = (1, 1, 4, 4)
BETAS = {"linear": linear(), "scaled_linear": quadratic(), "squaredcos_cap_v2": cosine_table()}


def ours_says(x, label):
    """A network of the noise."""
    return jnp.tanh(0.3 * x) + 1e-4 * label


def theirs_says(x, label):
    return torch.tanh(0.3 * x) + 1e-4 * label


def begin():
    return np.random.default_rng(0).normal(size=SHAPE)


def theirs(scheduler, steps, monkeypatch=None, keys=None):
    """The run of a scheduler; with keys its noise is that of our steps."""
    scheduler.set_timesteps(steps)
    x = torch.tensor(begin()) * float(scheduler.init_noise_sigma)
    drawn = iter(keys if keys is not None else ())
    if keys is not None:
        noise = lambda shape, **_: torch.tensor(np.array(jax.random.normal(next(drawn), shape)))
        monkeypatch.setattr(f"{type(scheduler).__module__}.randn_tensor", noise)
    for t in scheduler.timesteps:
        seen = scheduler.scale_model_input(x, t)
        x = scheduler.step(theirs_says(seen, float(t)), t, x).prev_sample.double()
    return x.numpy()


def ours(make, ts, process=None, key=None):
    process = process or linear()
    denoise = denoiser(process, "eps", time_label(ours_says, 1000.0, -1.0))
    return sample(
        make(process), denoise, jnp.asarray(begin()), ts, key if key is not None else jax.random.key(0)
    )


def step_keys(key, steps):
    return [jax.random.fold_in(key, i) for i in range(steps)]


@pytest.mark.parametrize("schedule", BETAS)
def test_tables(schedule):
    table = diffusers.DDPMScheduler(beta_schedule=schedule).betas.numpy()
    if schedule == "scaled_linear":
        table = diffusers.DDPMScheduler(beta_schedule=schedule, beta_start=1e-4, beta_end=0.02).betas.numpy()
    np.testing.assert_allclose(BETAS[schedule].betas, table, rtol=2e-5)


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_ddim(spacing):
    scheduler = diffusers.DDIMScheduler(clip_sample=False, timestep_spacing=spacing)
    np.testing.assert_allclose(
        ours(ddim, respaced(20, 1000, spacing)), theirs(scheduler, 20), rtol=2e-4, atol=2e-4
    )


@pytest.mark.parametrize(("variance", "theirs_is"), [("posterior", "fixed_small"), ("upper", "fixed_large")])
def test_ddpm(variance, theirs_is, monkeypatch, key):
    scheduler = diffusers.DDPMScheduler(clip_sample=False, variance_type=theirs_is)
    found = ours(lambda p: ddpm(p, variance), respaced(1000), key=key)
    np.testing.assert_allclose(
        found, theirs(scheduler, 1000, monkeypatch, step_keys(key, 1000)), rtol=1e-3, atol=1e-3
    )


def test_dpmpp_2m():
    scheduler = diffusers.DPMSolverMultistepScheduler(timestep_spacing="trailing")
    np.testing.assert_allclose(ours(dpmpp_2m, respaced(20)), theirs(scheduler, 20), rtol=2e-4, atol=2e-4)


def test_dpmpp_2m_sde(monkeypatch, key):
    scheduler = diffusers.DPMSolverMultistepScheduler(
        timestep_spacing="trailing", algorithm_type="sde-dpmsolver++"
    )
    found = ours(dpmpp_2m_sde, respaced(20), key=key)
    np.testing.assert_allclose(
        found, theirs(scheduler, 20, monkeypatch, step_keys(key, 20)), rtol=2e-4, atol=2e-4
    )


def test_unipc():
    scheduler = diffusers.UniPCMultistepScheduler(timestep_spacing="trailing")
    np.testing.assert_allclose(ours(unipc, respaced(20)), theirs(scheduler, 20), rtol=2e-4, atol=2e-4)


def test_heun():
    """They step in x / alpha, from 1 at the first level, at evenly spaced steps of the table: every 37th."""
    scheduler = diffusers.HeunDiscreteScheduler(beta_start=1e-4, beta_end=0.02, timestep_spacing="linspace")
    scheduler.set_timesteps(28)
    process, ts = linear(), jnp.append(jnp.arange(999, -1, -37) + 1.0, 0.0) / 1000
    start = begin() * float(scheduler.init_noise_sigma) * float(process.alpha(1.0))
    denoise = denoiser(process, "eps", time_label(ours_says, 1000.0, -1.0))
    found = sample(heun(process), denoise, jnp.asarray(start), ts, jax.random.key(0))
    np.testing.assert_allclose(found, theirs(scheduler, 28), rtol=1e-3, atol=1e-3)


def test_the_predictor_and_the_corrector_of_ve(monkeypatch, key):
    """Of one image, for their corrector's step is a mean over the batch. Their levels are 0.01 (50/0.01)^t."""
    from diffusers.schedulers import scheduling_sde_ve

    scheduler = diffusers.ScoreSdeVeScheduler(sigma_min=0.01, sigma_max=50.0, snr=0.15)
    scheduler.set_timesteps(100)
    scheduler.set_sigmas(100)
    ve, t, s = VE(0.01, 50.0), scheduler.timesteps[30], scheduler.timesteps[31]
    x, z = begin(), np.array(jax.random.normal(key, SHAPE))
    direction = -0.7 * x / float(ve.sigma(float(t))) ** 2
    denoise = lambda x, t: (
        x + ve.sigma(t) ** 2 * jnp.asarray(-0.7 * begin()) / ve.sigma(float(scheduler.timesteps[30])) ** 2
    )
    drawn = lambda keys: torch.tensor(np.array(jax.random.normal(keys, SHAPE)))
    monkeypatch.setattr(scheduling_sde_ve, "randn_tensor", lambda *_, **__: torch.tensor(z))
    predicted = scheduler.step_pred(torch.tensor(direction), t, torch.tensor(x)).prev_sample
    ours, _ = reverse_diffusion(ve).step(denoise, jnp.asarray(x), (), float(t), float(s), key)
    np.testing.assert_allclose(ours, predicted, rtol=1e-4, atol=1e-3)
    monkeypatch.setattr(
        scheduling_sde_ve, "randn_tensor", lambda *_, **__: drawn(jax.random.split(key, 1)[0])
    )
    corrected = scheduler.step_correct(torch.tensor(direction), torch.tensor(x)).prev_sample
    ours, _ = langevin(ve, snr=0.15).step(denoise, jnp.asarray(x), (), 1.0, float(t), key)
    np.testing.assert_allclose(ours, corrected, rtol=1e-4, atol=1e-4)
