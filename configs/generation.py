"""What the configs of class-conditional generation share: how networks are trained, drawn from, and measured."""

from jaxdiff import defenses, diffusion, models, train
from jaxdiff.diffusion import corruptions, guidance
from jaxdiff.study import part, tasks

DROP = 0.1  # the share of labels that are not told in training


def training(optimizer, steps, batch_size, decay, log_every=50):
    """A training run with one average."""
    return part(
        tasks.training,
        optimizer=optimizer,
        steps=steps,
        batch_size=batch_size,
        ema_decays=(decay,),
        log_every=log_every,
        checkpoint_every=1000,
    )


def score(model, run, process=None, kind="eps", **more):
    """A class-conditional score network."""
    settings = {
        "process": process or part(diffusion.Cosine, alpha_min=0.01),
        "loss": part(diffusion.denoising, weight=part(diffusion.weights.simple)),
        "time": part(diffusion.noise_levels.uniform, t_min=1e-3),
        "label": part(diffusion.time_label, scale=999.0),
        "condition": part(diffusion.conditions.label, drop=DROP),
    }
    return part(tasks.score, model=model, kind=kind, train=run, **settings | more)


def classifier(model, run, augment=()):
    """The classifier that judges, trained apart from the score network; its features are those of the distances."""
    return part(
        tasks.classifier, model=model, loss=part(defenses.training.standard), augment=augment, train=run
    )


def guided(scale, clip=1.0):
    """The denoiser of a class."""
    return part(diffusion.clipped, denoise=part(guidance.of_class, score="@score", scale=scale), clip=clip)


def samples(n, scale=1.0, steps=50, solver=None, ts=None):
    """Samples of all ten classes in turn."""
    return part(
        tasks.samples,
        denoise=guided(scale),
        solver=solver or part(diffusion.solvers.dpmpp_2m),
        ts=ts or part(diffusion.grids.logsnr, steps=steps),
        n=n,
        labels=tuple(range(10)),
        batch_size=256,
    )


def restorations(steps):
    """Inpainting by replacement and by RePaint, and super-resolution by the measurement."""
    grid = part(diffusion.grids.uniform, steps=steps)
    known = part(guidance.inpainted, denoise=guided(1.0))
    measured = part(
        guidance.measurement,
        denoise=part(guidance.of_class, score="@score"),
        variance=part(guidance.posterior_noise, noise=1e-3, gain=0.25),
    )
    repainted = part(guidance.repaint, solver=part(diffusion.solvers.ddpm), repeats=5)
    restored = lambda **settings: part(tasks.restored, ts=grid.copy_and_resolve_references(), **settings)
    return {
        "inpainted": restored(
            denoise=known, solver=part(diffusion.solvers.ddpm), corruption=part(corruptions.hidden)
        ),
        "repainted": restored(denoise=guided(1.0), solver=repainted, corruption=part(corruptions.hidden)),
        "enlarged": restored(
            denoise=measured,
            solver=part(diffusion.solvers.ddpm),
            corruption=part(corruptions.smaller, factor=2),
        ),
    }


def measured(n, likelihoods):
    """The quality of the samples beside that of real images, noise and a Gaussian; bits/dim of `likelihoods` test images."""
    return {
        "test": part(tasks.real, n=n),
        "noise": part(tasks.noise, n=n),
        "gaussian": part(tasks.pca_gaussian, n=n),
        "quality": part(
            tasks.quality,
            samples={name: f"@{name}" for name in ("samples", "test", "gaussian", "noise")},
            features=part(models.features, classifier="@classifier"),
        ),
        "likelihood": part(
            tasks.likelihood,
            denoise=part(diffusion.clipped, denoise="@score", clip=1.0),
            bound=part(diffusion.variational_bound, steps=1000),
            flow=part(diffusion.flow_likelihood),
            n=likelihoods,
        ),
    }


def adam(lr, warmup):
    """The optimiser of the score networks."""
    return part(train.optimizer.adam, lr=lr, warmup=warmup, schedule="cosine", clip=1.0)


def adamw(lr, warmup):
    """The optimiser of the classifiers."""
    return part(train.optimizer.adamw, lr=lr, weight_decay=0.05, warmup=warmup, schedule="cosine")
