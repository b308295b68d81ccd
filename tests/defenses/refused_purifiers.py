"""Bad input to purifiers and to attackers' views, and what it is told: a table for `refusals`."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.defenses import Purifier, attackers_view, diffpure
from jaxdiff.defenses.adjoint import adjoint_regenerate
from jaxdiff.diffusion import VP, Cosine, ddim, ddpm, euler_maruyama
from jaxdiff.diffusion.grids import uniform

KEY, X, TS = jax.random.key(0), jnp.full((4,), 0.5), uniform(4, 0.2)
TO_NOISE = Cosine(alpha_min=0.0)
FALLING = "times that fall"


def half(x, t):
    return 0.5 * x


def purify(process=VP(), solver=None, denoise=half, ts=TS, **kwargs):  # noqa: B008
    return diffpure(process, ddpm(VP()) if solver is None else solver, denoise, ts, **kwargs)


def adjoint(process=VP(), solver=None, denoise=half, ts=TS):  # noqa: B008
    return adjoint_regenerate(process, euler_maruyama(VP()) if solver is None else solver, denoise, ts)


def logits(x, key):
    return x


MAKERS = {"diffpure": purify, "adjoint_regenerate": adjoint}
ROWS = {
    f"{name}: {what}": (lambda make=make, kwargs=kwargs: make(**kwargs), name if known else "", *words)
    for name, make in MAKERS.items()
    for what, kwargs, known, *words in (
        ("process in words", {"process": "VP"}, True, "process as a Process", "'VP'"),
        ("process as a class", {"process": VP}, True, "process as a Process"),
        ("solver in words", {"solver": "ddpm"}, True, "solver as a Solver", "'ddpm'"),
        ("process for a solver", {"solver": VP()}, True, "solver as a Solver", "ddpm(process)"),
        ("no denoiser", {"denoise": None}, True, "denoise as a function"),
        ("rising times", {"ts": TS[::-1]}, True, FALLING, "ts[::-1]"),
        ("repeating times", {"ts": [0.2, 0.1, 0.1]}, True, FALLING, "repeat"),
        ("times above 1", {"ts": [100, 50, 0]}, True, "[0, 1]", "divide"),
        ("t* for the times", {"ts": 0.1}, True, "2 times or more"),
        ("one time", {"ts": [0.1]}, True, "2 times or more"),
        ("no times", {"ts": None}, True, "array of times"),
        (
            "Euler-Maruyama from noise",
            {"process": TO_NOISE, "solver": euler_maruyama(TO_NOISE), "ts": uniform(4)},
            False,
            "cannot begin at t = 1",
        ),
    )
} | {
    "diffpure of uint8": (lambda: purify()(np.full(4, 200, np.uint8), KEY), "diffpure", "uint8", "/ 255"),
    "diffpure of integers": (lambda: purify()(jnp.ones(4, int), KEY), "diffpure", "int32"),
    "diffpure of traced integers": (lambda: jax.jit(purify())(jnp.ones(4, int), KEY), "diffpure", "int32"),
    "diffpure of 0..255": (lambda: purify()(255 * X, KEY), "[0, 1]", "127.5", "divide by 255"),
    "diffpure of [-1, 1]": (lambda: purify()(X - 1.5, KEY), "[0, 1]", "min -1", "(images + 1) / 2"),
    "diffpure of nan": (lambda: purify()(X * jnp.nan, KEY), "finite"),
    "diffpure of nothing": (lambda: purify()(None, KEY), "None"),
    "diffpure with a seed": (lambda: purify()(X, 0), "one random key"),
    "a view of 0..255": (
        lambda: purify(solver=euler_maruyama(VP())).views["adjoint"]()(255 * X, KEY),
        "[0, 1]",
    ),
    "adjoint of integers": (lambda: adjoint()(jnp.ones(4, int), KEY), "int32"),
    "adjoint with a seed": (lambda: adjoint()(X, 0), "one random key"),
    "adjoint of ddim": (lambda: adjoint(solver=ddim(VP())), "euler_maruyama(process)"),
    "adjoint of the mean": (
        lambda: adjoint(solver=euler_maruyama(VP(), noise_removal=True)),
        "euler_maruyama(process)",
    ),
    "diffpure, unknown remat": (lambda: purify(remat="sqr"), "remat", "did you mean 'sqrt'"),
    "no surrogate steps": (lambda: purify(surrogate_steps=0), "4 steps", "between 1 and 4", "got 0"),
    "more surrogate steps": (lambda: purify(surrogate_steps=5), "4 steps", "between 1 and 4", "got 5"),
    "surrogate steps as a float": (lambda: purify(surrogate_steps=2.0), "surrogate_steps", "2.0"),
    "surrogate steps True": (lambda: purify(surrogate_steps=True), "surrogate_steps", "True"),
    "purifier of a name": (lambda: Purifier("diffpure", {}), "purify as a function", "'diffpure'"),
    "purifier with a list": (lambda: Purifier(logits, [logits]), "views as a Mapping"),
    "purifier with a built view": (lambda: Purifier(logits, {"flat": 3}), "flat as a function", "3"),
    "view of no classifier": (lambda: attackers_view(None, purify()), "classifier as a function"),
    "view of no defense": (lambda: attackers_view(logits, "diffpure"), "defense as a function"),
    "unknown view": (lambda: attackers_view(logits, purify(), "adjont"), "'adjont'", "adjoint", "surrogate"),
    "view None": (lambda: attackers_view(logits, purify(), None), "None", "exact"),
    "view as a list": (lambda: attackers_view(logits, purify(), ["exact"]), "['exact']", "bpda"),
}
