"""What the configs of published results share: a score network, samples as the paper draws them, FID and bits/dim.

The network is the UNet of DDPM, with the sizes of the paper; where a paper has another one (NCSN++, DDPM++, ADM), its config
says so, and its number is what that network reached. FID is that of 50,000 samples against the training images in the features
of the Inception network, whose usual file of weights the environment variable JAXDIFF_INCEPTION names (see `models.inception`).
"""

from ml_collections import ConfigDict

from jaxdiff import checks, data, defenses, diffusion, models, train
from jaxdiff.data import augment
from jaxdiff.study import part, study, tasks

CIFAR10 = {"dataset": "cifar10"}


def cases(name: str, variant: str, known: tuple[str, ...]) -> tuple[str, bool]:
    """(case, whether it is to be small) of a variant such as "", "ve", "smoke" or "ve_smoke"; ValueError for others."""
    small = {f"{case}_smoke": (case, True) for case in known}
    every = {
        "": (known[0], False),
        "smoke": (known[0], True),
        **{case: (case, False) for case in known},
        **small,
    }
    checks.known(name, every, variant=variant)
    return every[variant]


def unet(small: bool, channels=128, multipliers=(1, 2, 2, 2), blocks=2, **settings):
    """A UNet, or a small one of the same kind."""
    if small:
        channels, multipliers, blocks = 8, multipliers[:2], 1
        settings["heads"] = 1
    return part(models.UNet, channels=channels, multipliers=multipliers, blocks=blocks, **settings)


def score(
    model, kind, process, time, label, optimizer, steps, batch_size, ema, loss=None, warmup="constant", **more
):
    """The stage of the score network."""
    return part(
        tasks.score,
        model=model,
        process=process,
        kind=kind,
        loss=loss or part(diffusion.denoising, weight=part(diffusion.weights.simple)),
        time=time,
        label=label,
        augment=(part(augment.flip),),
        train=part(
            tasks.training,
            optimizer=optimizer,
            steps=steps,
            batch_size=batch_size,
            ema_decays=() if ema is None else (ema,),
            ema_warmup=warmup,
            log_every=100,
            checkpoint_every=5000,
            keep=3,
        ),
        **more,
    )


def adam(lr, warmup=5000, clip=1.0, **settings):
    """Adam with a linear warm-up and gradients clipped to a global norm."""
    return part(train.optimizer.adam, lr=lr, warmup=warmup, clip=clip, **settings)


def table(
    small, score, denoise, solver, ts, likelihood=None, of=CIFAR10, classes=(), n=50_000, signal=0.05
) -> ConfigDict:
    """The study: network, samples, their quality, and perhaps likelihood."""
    features = (
        part(
            tasks.classifier,
            model=part(models.CNN, channels=(4,), mean=(0.5,) * 3, std=(0.25,) * 3),
            loss=part(defenses.training.standard),
            train=part(tasks.training, optimizer=part(train.optimizer.adam, lr=1e-3), steps=3, batch_size=4),
        )
        if small
        else part(
            tasks.feature_network,
            model=part(models.InceptionV3),
            weights="$JAXDIFF_INCEPTION",
            converter="models.inception_from_torch",
        )
    )
    stages = {
        "score": score,
        "samples": part(
            tasks.samples,
            denoise=denoise,
            solver=solver,
            ts=ts,
            n=n,
            labels=classes,
            signal=signal,
            batch_size=256,
        ),
        "features": features,
        "quality": part(
            tasks.quality,
            samples={"samples": "@samples"},
            features=part(models.features, classifier="@features"),
            draws=20,
        ),
    }
    if likelihood:
        stages["likelihood"] = part(tasks.likelihood, denoise="@score", **likelihood)
    return study("smoke" if small else "", seed=0, data=part(data.dataset.tfds, **of), stages=stages)
