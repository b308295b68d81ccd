"""Optimisers a config can name: clip -> direction -> learning rate, which is recorded for the metrics."""

import optax

from jaxdiff.checks import count, instance, known, number

__all__ = ["adam", "adamw", "sgd"]

Number = float | int


def learning_rate(
    lr: Number, warmup: int = 0, schedule: str = "constant", total: int | None = None
) -> optax.Schedule:
    """step -> rate: `lr * step / warmup` up to step `warmup`, then constant, or a cosine to 0 at `total`.

    Steps count from 0, so a warm-up starts with an update of size zero (as in DDPM). ValueError for a
    schedule of another name, or a cosine without a `total` beyond `warmup`.
    """
    number("An optimiser", "(0, inf)", lr=lr)
    count("An optimiser", 0, warmup=warmup)
    known("An optimiser", ("constant", "cosine"), schedule=schedule)
    if total is not None:
        count("An optimiser", total=total)
    if schedule == "cosine" and (total is None or total <= warmup):
        raise ValueError(
            f"A cosine schedule needs total > warmup={warmup} (the steps of the run); got total={total}."
        )
    cosine = schedule == "cosine"
    main = optax.cosine_decay_schedule(lr, total - warmup) if cosine else optax.constant_schedule(lr)
    return optax.join_schedules([optax.linear_schedule(0.0, lr, warmup), main], [warmup]) if warmup else main


def _assemble(
    directions: list[optax.GradientTransformation], clip: Number | None, rate: optax.Schedule
) -> optax.GradientTransformation:
    """Clips by global norm, follows `directions`, scales by `-rate` and keeps the rate in its state."""
    if clip is not None:
        number("An optimiser", "[0, inf)", clip=clip)
    clipping = [optax.clip_by_global_norm(clip)] if clip else []
    return optax.chain(*clipping, *directions, optax.inject_hyperparams(optax.scale_by_learning_rate)(rate))


def _moments(b1: Number, b2: Number, eps: Number) -> optax.GradientTransformation:
    """Adam's direction."""
    number("adam", "[0, 1)", b1=b1, b2=b2)
    number("adam", "[0, inf)", eps=eps)
    return optax.scale_by_adam(b1, b2, eps)


def adam(
    lr: Number,
    b1: Number = 0.9,
    b2: Number = 0.999,
    eps: Number = 1e-8,
    warmup: int = 0,
    schedule: str = "constant",
    total: int | None = None,
    clip: Number | None = None,
) -> optax.GradientTransformation:
    """Adam; DDPM's is `adam(2e-4, warmup=5000, clip=1.0)`. See `learning_rate`; `clip` is a global norm."""
    return _assemble([_moments(b1, b2, eps)], clip, learning_rate(lr, warmup, schedule, total))


def adamw(
    lr: Number,
    b1: Number = 0.9,
    b2: Number = 0.999,
    eps: Number = 1e-8,
    weight_decay: Number = 1e-4,
    warmup: int = 0,
    schedule: str = "constant",
    total: int | None = None,
    clip: Number | None = None,
) -> optax.GradientTransformation:
    """Adam with decoupled weight decay: each update also subtracts `rate * weight_decay * params`."""
    number("adamw", "[0, inf)", weight_decay=weight_decay)
    directions = [_moments(b1, b2, eps), optax.add_decayed_weights(weight_decay)]
    return _assemble(directions, clip, learning_rate(lr, warmup, schedule, total))


def sgd(
    lr: Number,
    momentum: Number = 0.0,
    nesterov: bool = False,
    weight_decay: Number = 0.0,
    warmup: int = 0,
    schedule: str = "constant",
    total: int | None = None,
    clip: Number | None = None,
) -> optax.GradientTransformation:
    """SGD; `weight_decay` is added to the (clipped) gradient before the momentum, as for classifiers."""
    number("sgd", "[0, 1)", momentum=momentum)
    number("sgd", "[0, inf)", weight_decay=weight_decay)
    instance("sgd", bool, "True", nesterov=nesterov)
    decay = [optax.add_decayed_weights(weight_decay)] if weight_decay else []
    trace = [optax.trace(momentum, nesterov)] if momentum else []
    return _assemble([*decay, *trace], clip, learning_rate(lr, warmup, schedule, total))
