"""Ablations of diffusion on digits, each over three seeds: of what is learned, how it is weighed, averaged, drawn and guided.

    python experiments/run.py --config=configs/ablation_digits.py --workdir=runs/ablation_digits --sweep
    python experiments/run.py --config=configs/ablation_digits.py:weights --workdir=runs/ablation_digits --sweep

    variant     axes beside the seed                        what is measured
    (none)      eps, x0 or v on a linear or cosine process  held-out loss, quality, DiffPure under a transferred attack
    weights     L_simple against the bound                  quality, bits/dim
    averages    decay of the average of weights             quality, bits/dim
    sampling    solver x steps                              quality by evaluations of the denoiser
    guidance    scale                                       quality, diversity, classes seen as asked

"weights" and "guidance" take ten minutes each on two cores, the others longer; they share what they have in common.
The numbers to expect are in docs/generation.md. "smoke", or any of them followed by "_smoke": a minute or two.
"""

from generation import guided
from ml_collections import ConfigDict
from published import cases

from jaxdiff import attacks, data, defenses, diffusion, models, train
from jaxdiff.diffusion import conditions, grids, solvers
from jaxdiff.study import part, study, tasks

RADIUS = 0.2
SEEDS = (0, 1, 2)


def _training(steps, decay=0.99):
    adam = part(train.optimizer.adam, lr=1e-2, warmup=50, schedule="cosine", clip=1.0)
    return part(tasks.training, optimizer=adam, steps=steps, batch_size=64, ema_decays=(decay,), log_every=20)


def _score(classes=None):
    unet = part(
        models.UNet, channels=16, multipliers=(1, 2), blocks=1, attention=(), dropout=0.0, classes=classes
    )
    return part(
        tasks.score,
        model=unet,
        process=part(diffusion.linear),
        kind="eps",
        label=part(diffusion.time_label, scale=1000.0, offset=-1.0),
        loss=part(diffusion.denoising, weight=part(diffusion.weights.simple)),
        time=part(diffusion.noise_levels.uniform, t_min=1e-3),
        condition=part(conditions.label, drop=0.1) if classes else None,
        train=_training(1000),
    )


def _classifier():
    return part(
        tasks.classifier,
        model=part(models.CNN, channels=(32, 64, 128), mean=(0.3,), std=(0.4,)),
        loss=part(defenses.training.standard),
        train=_training(400),
    )


def _drawn(denoise, labels=()):
    """Samples, and their quality beside that of the test images."""
    return {
        "samples": part(
            tasks.samples,
            denoise=denoise,
            solver=part(solvers.dpmpp_2m),
            ts=part(grids.logsnr, steps=50),
            n=360,
            labels=labels,
            batch_size=384,
        ),
        "quality": part(
            tasks.quality,
            samples={"samples": "@samples"},
            features=part(models.features, classifier="@classifier"),
            draws=20,
        ),
    }


def _likelihood():
    return part(
        tasks.likelihood,
        denoise=_clipped(),
        bound=part(diffusion.variational_bound, steps=1000, variance="upper"),
        n=64,
    )


def _clipped():
    return part(diffusion.clipped, denoise="@score", clip=1.0)


def _table():
    """How DiffPure stands against an attack on the classifier alone."""
    linf = part(attacks.linf, radius=RADIUS)
    pgd = part(
        attacks.untargeted,
        ascent=part(attacks.pgd, steps=20, keep_best=True),
        objective=part(attacks.cross_entropy),
    )
    diffpure = part(
        defenses.diffpure,
        denoise="@score",
        solver=part(solvers.ddim),
        ts=part(grids.uniform, start=0.1, end=0.0, steps=4),
    )
    return part(
        tasks.table,
        victims={"diffpure": part(tasks.victim, classifier="@classifier", defense=diffpure)},
        cells={"blind_pgd": part(tasks.cell, attack=pgd, threat=linf, view="blind")},
    )


def _targets():
    processes = (part(diffusion.linear), part(diffusion.Cosine, alpha_min=0.01))
    stages = {"score": _score(), "classifier": _classifier(), **_drawn(_clipped()), "table": _table()}
    return stages, {"stages.score.kind": ("eps", "x0", "v"), "stages.score.process": processes}


def _weights():
    weights = (part(diffusion.weights.simple), part(diffusion.weights.elbo, steps=1000, variance="upper"))
    stages = {
        "score": _score(),
        "classifier": _classifier(),
        **_drawn(_clipped()),
        "likelihood": _likelihood(),
    }
    return stages, {"stages.score.loss.weight": weights}


def _averages():
    stages = {
        "score": _score(),
        "classifier": _classifier(),
        **_drawn(_clipped()),
        "likelihood": _likelihood(),
    }
    return stages, {"stages.score.train.ema_decays": ((), (0.9,), (0.99,), (0.999,))}


def _sampling():
    chosen = (solvers.ddpm, solvers.ddim, solvers.heun, solvers.dpmpp_2m)
    stages = {"score": _score(), "classifier": _classifier(), **_drawn(_clipped())}
    return stages, {
        "stages.samples.solver": tuple(map(part, chosen)),
        "stages.samples.ts.steps": (5, 10, 20, 50),
    }


def _guidance():
    stages = {
        "score": _score(classes=10),
        "classifier": _classifier(),
        **_drawn(guided(1.0), labels=tuple(range(10))),
    }
    return stages, {"stages.samples.denoise.denoise.scale": (0.0, 1.0, 2.0, 4.0, 8.0)}


CASES = {
    "targets": _targets,
    "weights": _weights,
    "averages": _averages,
    "sampling": _sampling,
    "guidance": _guidance,
}


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant: "", "weights", "averages", "sampling", "guidance", "smoke", "weights_smoke", ..."""
    case, small = cases("ablation_digits", variant, tuple(CASES))
    stages, axes = CASES[case]()
    return study(
        "smoke" if small else "",
        seed=0,
        data=part(data.dataset.digits, validation=0.2),
        stages=stages,
        axes={"seed": SEEDS, **axes},
    )
