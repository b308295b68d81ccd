"""What a score network learns to predict, and along which process: eps, x0 or v on a linear or a cosine process, three seeds.

    python experiments/run.py --config=configs/ablation_digits.py --workdir=runs/ablation_digits --sweep

Measured are the denoising loss on a held-out fifth of the training digits, and how DiffPure with that network stands against a
transferred attack. About half an hour on two cores. Variant "smoke": a minute or two.
"""

from ml_collections import ConfigDict

from jaxdiff import attacks, data, defenses, diffusion, models, train
from jaxdiff.study import part, study, tasks

RADIUS = 0.2
PROCESSES = (part(diffusion.linear), part(diffusion.Cosine, alpha_min=0.01))


def _training(steps):
    adam = part(train.optimizer.adam, lr=1e-2, warmup=50, schedule="cosine", clip=1.0)
    return part(tasks.training, optimizer=adam, steps=steps, batch_size=64, ema_decays=(0.99,), log_every=20)


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant: "", or "smoke"."""
    linf = part(attacks.linf, radius=RADIUS)
    pgd = part(
        attacks.untargeted,
        ascent=part(attacks.pgd, steps=20, keep_best=True),
        objective=part(attacks.cross_entropy),
    )
    diffpure = part(
        defenses.diffpure,
        denoise="@score",
        solver=part(diffusion.solvers.ddim),
        ts=part(diffusion.grids.uniform, start=0.1, end=0.0, steps=4),
    )
    return study(
        variant,
        seed=0,
        data=part(data.dataset.digits, validation=0.2),
        stages={
            "score": part(
                tasks.score,
                model=part(models.UNet, channels=16, multipliers=(1, 2), blocks=1, attention=(), dropout=0.0),
                process=PROCESSES[0],
                kind="eps",
                label=part(diffusion.time_label, scale=1000.0, offset=-1.0),
                loss=part(diffusion.denoising, weight=part(diffusion.weights.simple)),
                time=part(diffusion.noise_levels.uniform, t_min=1e-3),
                train=_training(1000),
            ),
            "classifier": part(
                tasks.classifier,
                model=part(models.CNN, channels=(32, 64, 128), mean=(0.3,), std=(0.4,)),
                loss=part(defenses.training.standard),
                train=_training(400),
            ),
            "table": part(
                tasks.table,
                victims={"diffpure": part(tasks.victim, classifier="@classifier", defense=diffpure)},
                cells={"blind_pgd": part(tasks.cell, attack=pgd, threat=linf, view="blind")},
            ),
        },
        axes={
            "seed": (0, 1, 2),
            "stages.score.kind": ("eps", "x0", "v"),
            "stages.score.process": PROCESSES,
        },
    )
