"""Bad input to diffusion, and what it is told: a table for `refusals`."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import diffusion as d
from jaxdiff.diffusion import grids, guidance, noise_levels, weights

VP, KEY, X = d.VP(), jax.random.key(0), jnp.full((4,), 0.5)
TO_NOISE = d.Cosine(alpha_min=0.0)
TS = grids.uniform(4)
NAN, INF = float("nan"), float("inf")
KEYS = jax.random.split(KEY, 2)
BATCH = jnp.full((2, 4), 0.5)
T = jnp.array([0.2, 0.4])


def half(x, t):
    return 0.5 * x


def sample(solver=None, denoise=half, x=X, ts=TS, key=KEY, **kwargs):
    return d.sample(d.ddim(VP) if solver is None else solver, denoise, x, ts, key, **kwargs)


def loss(predict=half, x0=BATCH, t=T, keys=KEYS, weight=None):
    return d.denoising(VP, "eps", weight or weights.simple())(predict, x0, t, keys)


PROCESSES = {
    "beta of 0": (lambda: d.VP(beta_min=0.0), "beta_min", "(0, inf)", "0.0"),
    "beta of nan": (lambda: d.VP(beta_max=NAN), "beta_max", "nan"),
    "infinite beta": (lambda: d.VP(beta_max=INF), "beta_max", "inf"),
    "beta in words": (lambda: d.VP(beta_min="0.1"), "beta_min", "'0.1'"),
    "betas swapped": (lambda: d.VP(20.0, 0.1), "beta_min <= beta_max"),
    "offset below 0": (lambda: d.Cosine(offset=-1.0), "offset", "-1.0"),
    "nan offset": (lambda: d.Cosine(offset=NAN), "offset", "nan"),
    "alpha_min of 1": (lambda: d.Cosine(alpha_min=1.0), "alpha_min", "[0, 1)"),
    "alpha_min None": (lambda: d.Cosine(alpha_min=None), "alpha_min", "None"),
    "no betas": (lambda: d.Discrete(()), "non-empty list of betas"),
    "one beta, no list": (lambda: d.Discrete(0.1), "list of betas", "0.1"),
    "betas in words": (lambda: d.Discrete("linear"), "list of betas", "'linear'"),
    "betas in a matrix": (lambda: d.Discrete(np.full((2, 2), 0.1)), "list of betas"),
    "ragged betas": (lambda: d.Discrete([[0.1], [0.1, 0.2]]), "list of betas"),
    "nan in betas": (lambda: d.Discrete([0.1, NAN, 0.2]), "nan at step 2", "(0, 1)"),
    "beta of 1 inside": (lambda: d.Discrete([0.1, 1.0, 0.2]), "1.0 at step 2", "the last at most 1"),
    "last beta above 1": (lambda: d.Discrete([0.1, 1.5]), "1.5 at step 2"),
    "ve upside down": (lambda: d.VE(1.0, 0.1), "sigma_min < sigma_max", "1.0 and 0.1"),
    "edm without noise": (lambda: d.EDM(0.0), "sigma_max", "(0, inf)", "0.0"),
    "sub-vp upside down": (lambda: d.SubVP(20.0, 0.1), "beta_min <= beta_max"),
    "levels that fall": (lambda: d.Levels((1.0, 0.5)), "rise from above 0", "(1.0, 0.5)"),
    "no levels": (lambda: d.Levels(()), "rise from above 0"),
    "one geometric level": (lambda: d.geometric(1), "levels", ">= 2", "1"),
    "sigmoid of no width": (lambda: d.sigmoid(10, width=0.0), "width", "0.0"),
    "quadratic beta of 2": (lambda: d.quadratic(10, beta_max=2.0), "beta_max", "(0, 1)"),
    "cosine table with beta 1": (lambda: d.cosine_table(10, beta_max=1.0), "beta_max", "(0, 1)"),
    "edm of no data": (lambda: d.edm_kind(0.0), "sigma_data", "0.0"),
    "preconditioned by a name": (lambda: d.preconditioned(half, "EDM"), "process as a Process", "'EDM'"),
    "min-SNR of 0": (lambda: weights.min_snr(0.0), "gamma", "0.0"),
    "edm weight of no data": (lambda: weights.edm(-1.0), "sigma_data", "-1.0"),
    "log-normal of no width": (lambda: noise_levels.log_normal(VP, std=0.0), "std", "0.0"),
    "log-normal of a name": (lambda: noise_levels.log_normal("VP"), "process as a Process"),
    "stratified from 0": (lambda: noise_levels.stratified(0.0), "t_min", "(0, 1)"),
    "stratified of a key": (lambda: noise_levels.stratified()(KEY), "a key for every image"),
    "0 steps": (lambda: d.linear(0), "steps", "whole number >= 1", "0"),
    "steps as a float": (lambda: d.linear(10.0), "steps", "10.0"),
    "linear beta of 2": (lambda: d.linear(10, beta_max=2.0), "beta_max", "(0, 1)"),
}

GRIDS = {
    "no steps": (lambda: grids.uniform(0), "uniform needs steps", ">= 1", "0"),
    "half a step": (lambda: grids.uniform(2.5), "steps", "2.5"),
    "steps True": (lambda: grids.uniform(True), "steps", "True"),
    "steps in words": (lambda: grids.uniform("4"), "steps", "'4'"),
    "steps None": (lambda: grids.logsnr(VP, None), "logsnr needs steps", "None"),
    "a rising grid": (lambda: grids.uniform(4, 0.2, 0.5), "start > end", "0.2 and 0.5"),
    "start above 1": (lambda: grids.uniform(4, 1000), "start", "[0, 1]", "1000"),
    "end below 0": (lambda: grids.uniform(4, 1.0, -0.1), "end", "-0.1"),
    "start nan": (lambda: grids.uniform(4, NAN), "start", "nan"),
    "more steps than there are": (lambda: grids.respaced(20, 10), "at most total = 10", "20"),
    "unknown spacing": (lambda: grids.respaced(4, 10, "leeding"), "'leeding'", "did you mean 'leading'"),
    "leading does not divide": (lambda: grids.respaced(501, 1000, "leading"), "500 or 1000", "trailing"),
    "guidance below 0": (lambda: guidance.classifier_free(half, half, -1.0), "scale", "[0, inf)", "-1.0"),
    "guidance of nothing": (lambda: guidance.classifier_free(half, None, 1.0), "unconditional as a function"),
    "autoguidance towards the worse": (lambda: guidance.autoguidance(half, half, 0.5), "scale", "[1, inf)"),
    "an interval upside down": (lambda: guidance.within(half, half, 0.2, 0.4), "start > end", "0.2 and 0.4"),
    "guided by no classifier": (lambda: guidance.classifier(VP, half, None, 1.0), "log_prob as a function"),
    "measured without noise": (
        lambda: guidance.measurement(VP, half, jnp.sum, 0.0, 0.0),
        "variance",
        "(0, inf)",
    ),
    "a mask of numbers": (lambda: guidance.inpainted(half, X, jnp.ones(4)), "mask as truths", "float"),
    "repaint never": (lambda: guidance.repaint(VP, d.ddim(VP), X, X > 0, 0), "repeats", "0"),
    "repaint by a process": (lambda: guidance.repaint(VP, VP, X, X > 0), "solver as a Solver"),
    "quantile of 0": (lambda: guidance.thresholded(half, 0.0), "quantile", "(0, 1]"),
    "churn below 0": (lambda: d.churned(VP, d.heun(VP), -1.0, 10), "churn", "[0, inf)"),
    "churn of no solver": (lambda: d.churned(VP, VP, 1.0, 10), "solver as a Solver"),
    "langevin of no noise": (lambda: d.langevin(VP, snr=0.0), "snr", "(0, inf)"),
    "annealed too fast": (lambda: d.annealed_langevin(VP, rate=2.0), "rate", "(0, 2)"),
    "then a process": (lambda: d.then(d.ddim(VP), VP), "second as a Solver"),
    "adaptive without care": (lambda: d.adaptive(VP, rtol=0.0), "rtol", "(0, 1)"),
    "reverse diffusion in words": (lambda: d.reverse_diffusion(VP, "yes"), "noise_removal", "'yes'"),
    "karras beyond the process": (
        lambda: grids.karras(VP, 5, sigma_max=1e6),
        "sigma_max",
        "that the process has",
    ),
    "karras upside down": (lambda: grids.karras(d.EDM(), 5, 1.0, 0.1), "sigma_max down to sigma_min"),
    "karras below the process": (lambda: grids.karras(d.VE(0.01, 90.0), 5), "0.01"),
    "karras of a name": (lambda: grids.karras("EDM", 5), "process as a Process"),
    "logsnr to the image": (lambda: grids.logsnr(VP, 4, end=0.0), "end > 0"),
    "logsnr from noise": (lambda: grids.logsnr(TO_NOISE, 4), "alpha(1) = 0", "start=0.999"),
    "logsnr of no process": (lambda: grids.logsnr(d.VP, 4), "process as a Process", "VP()"),
}

SOLVERS = {
    **{
        f"{make.__name__} of {name}": (lambda make=make, p=p: make(p), make.__name__, "process as a Process")
        for make in (d.ddim, d.ddpm, d.euler_maruyama, d.heun, d.dpmpp_2m)
        for name, p in {"a name": "VP", "a class": d.VP, "a solver": d.ddim(VP), "None": None}.items()
    },
    "eta above 1": (lambda: d.ddim(VP, eta=1.5), "ddim needs eta", "[0, 1]", "1.5"),
    "eta nan": (lambda: d.ddim(VP, eta=NAN), "eta", "nan"),
    "eta True": (lambda: d.ddim(VP, eta=True), "eta", "True"),
    "unknown variance": (lambda: d.ddpm(VP, "uper"), "variance", "'uper'", "did you mean 'upper'"),
    "variance None": (lambda: d.ddpm(VP, None), "variance", "None"),
    "noise_removal in words": (lambda: d.euler_maruyama(VP, "yes"), "noise_removal", "'yes'"),
    "a solver of numbers": (lambda: d.Solver(1, 2), "init as a function", "1"),
}

DENOISERS = {
    "unknown kind": (lambda: d.denoiser(VP, "epsilon", half), "kind", "'epsilon'", "'eps'"),
    "kind None": (lambda: d.denoiser(VP, None, half), "kind", "None"),
    "process in words": (lambda: d.denoiser("VP", "eps", half), "process as a Process", "'VP'"),
    "no net": (lambda: d.denoiser(VP, "eps", None), "net as a function", "None"),
    "clip below 0": (lambda: d.denoiser(VP, "eps", half, -1.0), "clip", "(0, inf]", "-1.0"),
    "clip nan": (lambda: d.denoiser(VP, "eps", half, NAN), "clip", "nan"),
    "clip True": (lambda: d.denoiser(VP, "eps", half, True), "clip", "True"),
    "eps at pure noise": (lambda: d.denoiser(TO_NOISE, "eps", half), "'eps'", "alpha = 0", "'v' or 'x0'"),
    "score at pure noise": (lambda: d.denoiser(TO_NOISE, "score", half), "'score'", "alpha = 0"),
    "start above 1": (lambda: d.denoiser(VP, "eps", half, start=2.0), "start", "(0, 1]"),
    "a batched net": (
        lambda: d.denoiser(VP, "eps", lambda x, t: x[None])(X, 0.5),
        "(1, 4)",
        "net(x[None], t[None])[0]",
    ),
    "label of a number": (lambda: d.time_label(3.0), "net as a function"),
    "scale nan": (lambda: d.time_label(half, scale=NAN), "scale", "nan"),
    "offset in words": (lambda: d.time_label(half, offset="-1"), "offset", "'-1'"),
    "score of nothing": (lambda: d.score(VP, None), "denoise as a function"),
    "target of an unknown kind": (lambda: d.target(VP, "noise", X, X, 0.5), "kind", "'noise'"),
    "convert to an unknown kind": (lambda: d.convert(VP, "eps", "z", X, X, 0.5), "kind", "'z'"),
}

BAD_TIMES = {
    "rising": ([0.0, 0.5, 1.0], "rise from ts[0] = 0", "ts[::-1]"),
    "rising once": ([1.0, 0.5, 0.7, 0.0], "rise from ts[1] = 0.5 to ts[2] = 0.7"),
    "repeating": ([1.0, 0.5, 0.5, 0.0], "repeat from ts[1] = 0.5"),
    "above 1": ([2.0, 0.5, 0.0], "ts[0] = 2", "[0, 1]"),
    "numbers of steps": (np.arange(999, 0, -100), "ts[0] = 999", "divide by their total"),
    "below 0": ([1.0, 0.5, -0.1], "ts[2] = -0.1", "[0, 1]"),
    "nan": ([1.0, NAN, 0.0], "ts[1] = nan"),
    "one point": ([1.0], "2 times or more", "(1,)"),
    "no points": ([], "2 times or more", "(0,)"),
    "a scalar": (0.5, "2 times or more", "()"),
    "a column": (np.linspace(1, 0, 5)[:, None], "2 times or more", "(5, 1)"),
    "words": ("uniform", "array of times", "'uniform'"),
    "None": (None, "array of times", "None"),
    "truths": ([True, False], "array of times"),
    "the grid's maker": (grids.uniform, "array of times", "grids.uniform(50)"),
}
ENTRIES = {
    "sample": lambda ts: sample(ts=ts),
    "trajectory": lambda ts: d.trajectory(d.ddim(VP), half, X, ts, KEY),
    "regenerate": lambda ts: d.regenerate(VP, d.ddim(VP), half, ts),
    "prior": lambda ts: d.prior(VP, ts, (2,), KEY),
}
TIMES = {
    f"{entry} with times {name}": (lambda call=call, ts=ts: call(ts), entry, *words)
    for entry, call in ENTRIES.items()
    for name, (ts, *words) in BAD_TIMES.items()
}

SAMPLING = {
    "solver in words": (lambda: sample("ddim"), "solver as a Solver", "'ddim'"),
    "a process for a solver": (lambda: sample(VP), "solver as a Solver", "ddpm(process)"),
    "a maker for a solver": (lambda: sample(d.ddim), "solver as a Solver"),
    "no denoiser": (lambda: sample(denoise=None), "denoise as a function"),
    "integer image": (lambda: sample(x=jnp.zeros(4, int)), "int32", "astype('float32')"),
    "uint8 image": (lambda: sample(x=np.zeros(4, np.uint8)), "uint8", "/ 255"),
    "image in words": (lambda: sample(x="noise"), "'noise'"),
    "image None": (lambda: sample(x=None), "None"),
    "a seed": (lambda: sample(key=0), "one random key", "jax.random.key"),
    "keys for a key": (lambda: sample(key=KEYS), "one random key"),
    "legacy key": (lambda: sample(key=jax.random.PRNGKey(0)), "uint32", "jax.random.key"),
    "unknown remat": (lambda: sample(remat="all"), "remat", "'all'", "sqrt"),
    "unknown remat, early": (lambda: d.regenerate(VP, d.ddim(VP), half, TS, "steps"), "did you mean 'step'"),
    "remat None": (lambda: sample(remat=None), "remat", "None"),
    "a batched denoiser": (lambda: sample(denoise=lambda x, t: x[None]), "(1, 4)", "[0]"),
    "euler_maruyama from noise": (
        lambda: sample(d.euler_maruyama(TO_NOISE)),
        "cannot begin at t = 1",
        "drift is infinite",
    ),
    "regenerate of a name": (lambda: d.regenerate("VP", d.ddim(VP), half, TS), "process as a Process"),
    "regenerate with swapped parts": (lambda: d.regenerate(d.ddim(VP), VP, half, TS), "process as a Process"),
    "regenerate by a process": (lambda: d.regenerate(VP, VP, half, TS), "solver as a Solver"),
    "regenerate integers": (lambda: d.regenerate(VP, d.ddim(VP), half, TS)(jnp.ones(4, int), KEY), "int32"),
    "regenerate with a seed": (lambda: d.regenerate(VP, d.ddim(VP), half, TS)(X, 3), "one random key"),
    "prior of no process": (lambda: d.prior(None, TS, (2,), KEY), "process as a Process"),
    "prior on an image": (lambda: d.prior(VP, TS[1:], (2,), KEY), "t = 0.75", "not noise"),
    "prior with a seed": (lambda: d.prior(VP, TS, (2,), 1), "one random key"),
    "prior with signal nan": (lambda: d.prior(VP, TS, (2,), KEY, signal=NAN), "signal", "nan"),
}

LOSSES = {
    "loss of no process": (lambda: d.denoising("VP", "eps", weights.simple()), "process as a Process"),
    "loss of an unknown kind": (lambda: d.denoising(VP, "noise", weights.simple()), "kind", "'noise'"),
    "weight in words": (lambda: d.denoising(VP, "eps", "simple"), "weight as a function", "'simple'"),
    "weight infinite at noise": (
        lambda: d.denoising(TO_NOISE, "eps", weights.elbo()),
        "not finite at t = 1",
        "'v'",
    ),
    "integer images": (lambda: loss(x0=jnp.ones((2, 4), int)), "denoising", "int32"),
    "uint8 images": (lambda: loss(x0=np.ones((2, 4), np.uint8)), "uint8", "/ 255"),
    "one image": (lambda: loss(x0=X), "batch [B, ...]", "(4,)"),
    "one time for all": (lambda: loss(t=0.5), "time for every image", "(2,)", "jnp.full(2, t)"),
    "three times": (lambda: loss(t=jnp.array([0.1, 0.2, 0.3])), "(2,)", "(3,)"),
    "a column of times": (lambda: loss(t=T[:, None]), "(2,)", "(2, 1)"),
    "integer times": (lambda: loss(t=jnp.array([1, 500])), "times", "int32"),
    "times above 1": (lambda: loss(t=jnp.array([1.0, 500.0])), "[0, 1]", "1 to 500", "divide"),
    "times of nan": (lambda: loss(t=jnp.array([NAN, 0.5])), "[0, 1]", "nan"),
    "one key for all": (lambda: loss(keys=KEY), "key for every image", "split"),
    "too many keys": (lambda: loss(keys=jax.random.split(KEY, 3)), "(2,)"),
    "an output of another shape": (lambda: loss(predict=lambda x, t: x[:, :1]), "(2, 4)", "(2, 1)"),
    "unknown bound": (lambda: weights.elbo(10, "lower"), "variance", "'lower'", "posterior"),
    "0 terms": (lambda: weights.elbo(0), "elbo needs steps", "0"),
    "half a term": (lambda: weights.elbo(1.5), "elbo needs steps", "1.5"),
    "t_min of 0": (lambda: noise_levels.uniform(0.0), "t_min", "(0, 1)"),
    "t_min in words": (lambda: noise_levels.uniform("0.1"), "t_min", "'0.1'"),
    "0 discrete times": (lambda: noise_levels.discrete(0), "discrete needs steps", "0"),
    "discrete times as a float": (lambda: noise_levels.discrete(1e3), "steps", "1000.0"),
    "times of a key": (lambda: noise_levels.uniform()(KEY), "a key for every image"),
}

ROWS = PROCESSES | GRIDS | SOLVERS | DENOISERS | TIMES | SAMPLING | LOSSES
