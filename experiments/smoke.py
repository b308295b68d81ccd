"""The "smoke" variant of a config: the same parts and the same path through the code, in seconds."""

from collections.abc import Mapping

from ml_collections import ConfigDict

TINY_NET = {"channels": 8, "multipliers": (1, 2), "blocks": 1}


def shrink(config: ConfigDict, classifier: Mapping | None = None) -> ConfigDict:
    """Few steps, few images, tiny networks; `classifier` replaces the classifiers' models."""
    config.score.model.update(TINY_NET)
    config.score.sample.update(n=4, batch_size=4)
    for grid in (config.score.sample.grid, config.robustness.purify.grid):
        grid.steps = 2
    for name in ("score", "classifier", "adversarial_training"):
        config[name].train.update(
            steps=4, batch_size=8, log_every=1, checkpoint_every=2, draw_every=4, ema_decays=(0.5,)
        )
        config[name].optimizer.warmup = 1
        if classifier and name != "score":
            config[name].model = dict(classifier)
    config.adversarial_training.attack.ascent.steps = 1
    config.robustness.update(n=4, batch_size=4, show=2)
    config.robustness.curve.update(radii=(0.0, config.robustness.threat.radius), n=2)
    for cells in config.robustness.cells.values():
        for cell in cells.values():
            cell.update({k: 2 for k in ("n", "eot", "restarts") if k in cell})
            if "steps" in cell.get("ascent", {}):
                cell.ascent.steps = 2
    return config


SMALL = {
    "pgd": {"steps": 2},
    "apgd": {"steps": 3},
    "fab_targeted": {"n": 2, "steps": 2},
    "square_linf": {"queries": 8},
    "nes": {"budget": 44, "samples": 10},
    "standard": {"steps": 4, "queries": 4},
    "deepfool": {"steps": 3},
    "carlini_wagner": {"search_steps": 2, "steps": 2},
    "ddn": {"steps": 3},
    "hop_skip_jump": {"budget": 20},
    "pixels": {"population": 8, "generations": 2},
    "stadv": {"steps": 2},
    "rotation_translation": {"grid": (2, 2, 2)},
}


def shrink_attacks(config: ConfigDict, model: Mapping) -> ConfigDict:
    """The same attacks with few steps on few images; a `model` fitted in a hundred steps, or untrained where those are dear."""
    spec = config.attack
    spec.update(n=16, batch_size=16, slots=4, show=2)
    untrained = {"name": "untrained", "model": model}
    fitted = {"name": "fitted", "model": model, "data": config.data.to_dict()}
    one, name = (fitted, "fitted") if config.data.name == "digits" else (untrained, "untrained")
    spec.classifiers = {name: one}
    spec.surrogates = {surrogate: {**one, "seed": 1} for surrogate in spec.get("surrogates", ())}
    spec.masking.n = 8
    if "curve" in spec:
        spec.curve.update(radii={k: (0.0, radii[-1]) for k, radii in spec.curve.radii.items()}, n=8)
    for cell in spec.cells.values():
        if "n" in cell:
            cell.n = 8
        for kind in ("ascent", "attack", "autoattack"):
            if kind in cell:
                cell[kind].update(SMALL.get(cell[kind].name, {}))
    return config
