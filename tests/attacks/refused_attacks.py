"""Bad input of attacks: {what is wrong: (the call, words of its message)}, for `refusals`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from known_models import three_sums

from jaxdiff import attacks as a
from jaxdiff.attacks import directions, patch, universal
from jaxdiff.attacks.queries.estimate import nes_gradient
from jaxdiff.attacks.queries.rotation import rotate_translate
from jaxdiff.attacks.stadv import flow_lbfgs
from jaxdiff.attacks.universal.patch import Placement, random_placement, square_mask

NAN, INF = float("nan"), float("inf")
KEY, IMAGE, LABEL = jax.random.key(0), jnp.full((4, 4, 1), 0.5), jnp.asarray(0)
IMAGES, LABELS = jnp.full((3, 4, 4, 1), 0.5), jnp.zeros(3, int)
LINF, L2 = a.linf(0.1), a.l2(0.5)


# Constructors with arguments that are right; every number, count, name, truth and part of them is then spoilt.
MAKE = {
    "l1": (a.l1, {"radius": 1.0}),
    "flow_field": (a.flow_field, {"radius": 0.1}),
    "fourier_l2": (a.fourier_l2, {"radius": 0.5, "decay": 1.0}),
    "low_frequency": (a.low_frequency, {"threat": LINF, "cutoff": 0.5, "rounds": 2}),
    "momentum": (directions.momentum, {"threat": LINF, "decay": 1.0}),
    "nesterov": (directions.nesterov, {"threat": LINF, "decay": 1.0}),
    "steepest": (directions.steepest, {"threat": LINF}),
    "adam": (directions.adam, {"b1": 0.9, "b2": 0.9, "eps": 1e-8}),
    "apgd": (a.apgd, {"threat": LINF, "steps": 5, "rho": 0.75}),
    "apgd_l1": (a.apgd_l1, {"radius": 1.0, "steps": 5, "large_radius": True}),
    "square_linf": (a.square_linf, {"radius": 0.1, "queries": 5, "p": 0.8, "rescale": True}),
    "square_l2": (a.square_l2, {"radius": 0.1, "queries": 5, "p": 0.8, "rescale": True}),
    "square_l1": (a.square_l1, {"radius": 0.1, "queries": 5, "p": 0.8, "rescale": True}),
    "nes": (
        a.nes,
        {
            "threat": LINF,
            "lr": 0.1,
            "budget": 99,
            "samples": 5,
            "sigma": 0.1,
            "tx": directions.adam(),
            "batch_size": 5,
        },
    ),
    "spsa": (
        a.spsa,
        {
            "threat": LINF,
            "lr": 0.1,
            "budget": 99,
            "samples": 5,
            "sigma": 0.1,
            "tx": directions.adam(),
            "batch_size": 5,
        },
    ),
    "rotation_translation": (a.rotation_translation, {"max_degrees": 30.0, "max_shift": 0.1}),
    "worst_of_k": (a.worst_of_k, {"k": 3, "max_degrees": 30.0, "max_shift": 0.1}),
    "fab": (a.fab, {"threat": LINF, "steps": 5, "alpha_max": 0.1, "eta": 1.05, "beta": 0.9, "restarts": 2}),
    "fab_targeted": (
        a.fab_targeted,
        {"threat": LINF, "n": 2, "steps": 5, "alpha_max": 0.1, "eta": 1.05, "beta": 0.9, "restarts": 2},
    ),
    "deepfool": (a.deepfool, {"threat": LINF, "steps": 5, "overshoot": 0.02, "classes": 3}),
    "ddn": (a.ddn, {"steps": 5, "gamma": 0.05, "init_norm": 1.0, "levels": 256, "targeted": False}),
    "carlini_wagner": (
        a.carlini_wagner,
        {
            "search_steps": 2,
            "steps": 5,
            "lr": 0.01,
            "initial_const": 0.1,
            "confidence": 0.0,
            "targeted": False,
        },
    ),
    "pixels": (
        a.pixels,
        {"k": 1, "population": 5, "generations": 3, "differential_weight": 0.5, "targeted": False},
    ),
    "stadv": (a.stadv, {"bound": 0.1, "steps": 5, "lr": 0.01, "tau": 0.05, "keep": "best"}),
    "stadv_original": (a.stadv_original, {"tau": 0.05, "kappa": 0.0, "steps": 5, "goal": "targeted"}),
    "flow_lbfgs": (flow_lbfgs, {"tau": 0.05, "kappa": 0.0, "steps": 5, "searches": 5}),
    "hop_skip_jump": (
        a.hop_skip_jump,
        {"ball": a.l2, "radius": 1.0, "budget": 50, "directions": 5, "block": 5, "targeted": False},
    ),
    "boundary": (
        a.boundary,
        {
            "ball": a.l2,
            "radius": 1.0,
            "budget": 50,
            "block": 4,
            "sideways": 0.1,
            "inwards": 0.1,
            "targeted": False,
        },
    ),
    "synthesise": (
        a.synthesise,
        {"steps": 5, "lr": 0.1, "score": "logit", "tv_weight": 0.1, "tx": directions.adam()},
    ),
    "stay_near": (a.stay_near, {"lmbda": 0.1, "steps": 5, "lr": 0.1, "tx": directions.adam()}),
    "universal_step": (
        universal.universal_step,
        {"threat": LINF, "objective": a.margin(), "lr": 0.1, "clip": 3.0, "tx": directions.adam()},
    ),
    "universal_pgd": (
        universal.universal_pgd,
        {"threat": LINF, "objective": a.margin(), "lr": 0.1, "clip": 3.0, "tx": directions.adam()},
    ),
    "universal_deepfool": (
        universal.universal_deepfool,
        {"threat": LINF, "minimal": a.deepfool(L2), "passes": 2, "rate": 0.8, "batch_size": 2},
    ),
    "apply_universal": (universal.apply_universal, {"delta": IMAGE, "threat": LINF}),
    "square_mask": (square_mask, {"size": 3}),
    "circle_mask": (patch.circle_mask, {"size": 3}),
    "force_class": (patch.force_class, {"target": 1}),
    "random_placement": (random_placement, {"scale": (0.5, 1.0), "angle": 0.1}),
    "rotate_translate": (
        functools.partial(rotate_translate, IMAGE),
        {"degrees": 1.0, "dx": 1.0, "dy": 1.0},
    ),
    "nes_gradient": (
        functools.partial(nes_gradient, lambda x, key: jnp.sum(x), IMAGE, KEY),
        {"samples": 2, "sigma": 0.1},
    ),
    "Placement": (
        lambda **k: patch.place(IMAGE, IMAGE, square_mask(4), Placement(**k)),
        {"row": 1.0, "column": 1.0, "scale": 1.0, "angle": 0.0},
    ),
    "apply_patch": (
        patch.apply_patch,
        {"patch": IMAGE, "mask": square_mask(4), "draw": random_placement()},
    ),
    "patch_step": (
        patch.patch_step,
        {
            "objective": a.margin(),
            "mask": square_mask(4),
            "draw": random_placement(),
            "tx": directions.adam(),
            "penalty": patch.total_variation,
        },
    ),
    "train_patch": (
        functools.partial(patch.train_patch, three_sums, IMAGES, LABELS, KEY),
        {
            "objective": a.margin(),
            "mask": square_mask(4),
            "draw": random_placement(),
            "steps": 2,
            "batch": 2,
            "lr": 0.1,
            "penalty": patch.total_variation,
        },
    ),
}
# These may be infinite, negative, or None.
FREE = {
    ("l1", "radius"): [INF],
    ("hop_skip_jump", "radius"): [INF],
    ("boundary", "radius"): [INF],
    ("universal_step", "clip"): [INF, -1.0],
    ("universal_pgd", "clip"): [INF, -1.0],
    **{("rotate_translate", name): [-1.0] for name in ("degrees", "dx", "dy")},
    ("Placement", "row"): [-1.0],
    ("Placement", "column"): [-1.0],
    ("Placement", "angle"): [-1.0],
}
# What is said in place of the argument's name.
WORDS = {
    ("apply_universal", "delta"): ("perturbation",),
    ("flow_field", "radius"): ("radius", "half the image"),
}
NONE = {"tx", "batch_size", "levels", "tau", "penalty", "starts"}
SHARES = {("nes", "lr"), ("spsa", "lr")}  # None is a share of the radius


def _spoilt(value):
    """What stands for nothing sensible in place of `value`, by its kind."""
    if isinstance(value, bool):
        return ["yes", None, 2]
    if isinstance(value, int):
        return ["3", None, 2.5, NAN, True, 0, -1, np.ones(3), LINF]
    if isinstance(value, float):
        return ["0.1", None, NAN, INF, -1.0, True, np.ones(3), 1j, LINF]
    if isinstance(value, str):
        return ["Best", None, 3]
    if isinstance(value, tuple):
        return ["ab", None, (1.0,), (2.0, 1.0), (0.0, 1.0), (NAN, 1.0), (0.5, INF), ("a", "b")]
    if isinstance(value, jax.Array):
        return ["x", None, [[1.0], [2.0, 3.0]], np.zeros((2, 2), np.uint8)]
    if isinstance(value, a.Threat):
        return ["linf", None, 0.1, a.linf, a.fab(LINF, 2)]
    if hasattr(value, "update"):
        return ["adam", 3, directions.adam, LINF]
    return ["margin", 3, None, LINF]  # functions


def _rows():
    # Every count but this one begins above 0.
    fine = {("pixels", "generations", 0), ("force_class", "target", 0), ("force_class", "target", True)}
    for name, (make, right) in MAKE.items():
        for argument, value in right.items():
            for i, bad in enumerate(_spoilt(value)):
                if bad is None and (argument in NONE or (name, argument) in SHARES):
                    continue
                if isinstance(bad, int) and (name, argument, bad) in fine:
                    continue
                if isinstance(bad, float) and bad in FREE.get((name, argument), []):
                    continue
                told = f"{bad}" if isinstance(bad, str | int | float | None.__class__) else type(bad).__name__
                call = functools.partial(make, **(right | {argument: bad}))
                yield f"{name}: {argument} = {told} ({i})", (call, *WORDS.get((name, argument), (argument,)))


ROWS = dict(_rows())
ROWS |= {
    # ---- factories of objectives that were not called, functions of other arguments
    "universal: cross_entropy": (lambda: universal.universal_step(LINF, a.cross_entropy, 0.1), "cross_entropy()"),
    "universal: dlr": (lambda: universal.universal_pgd(LINF, a.dlr, 0.1), "dlr()"),
    "universal: targeted": (lambda: universal.universal_step(LINF, a.targeted_margin(), 0.1), "(logits, y)"),
    "patch: margin": (lambda: patch.patch_step(a.margin, square_mask(2), random_placement(), directions.adam()), "margin()"),
    "patch: force_class": (
        lambda: patch.train_patch(three_sums, IMAGES, LABELS, KEY, patch.force_class, square_mask(2), random_placement()),
        "force_class",
    ),
    "patch: random_placement": (lambda: patch.apply_patch(IMAGE, square_mask(4), random_placement), "random_placement()"),
    "hop: a threat for a ball": (lambda: a.hop_skip_jump(L2, 1.0, 100), "ball", "l2"),
    "hop: another function": (lambda: a.hop_skip_jump(lambda r: r, 1.0, 100), "ball"),
    "deepfool universal: ascent": (lambda: universal.universal_deepfool(L2, a.margin()), "minimal"),
    "fab: no planes": (lambda: a.fab(a.flow_field(0.1)), "to_plane"),
    "fab: infinite restarts": (lambda: a.fab(a.linf(INF), restarts=2), "restarts", "inf"),
    "apgd: infinite": (lambda: a.apgd(a.linf(INF)), "radius", "inf"),
    "universal: nesterov": (
        lambda: universal.universal_step(LINF, a.margin(), 0.1, tx=directions.nesterov(LINF)).init(IMAGE),
        "nesterov",
    ),
    "nes: budget": (lambda: a.nes(LINF, 0.1, budget=20, samples=10), "21"),
    "hop: less than a block": (lambda: a.hop_skip_jump(a.l2, 1.0, 4, block=5), "budget", "5"),
    "boundary: odd": (lambda: a.boundary(a.l2, 1.0, 100, block=5), "even"),
    "boundary: long": (lambda: a.boundary(a.l2, 1.0, 100, sideways=1.5), "sideways"),
    "apgd_l1: too few": (lambda: a.apgd_l1(1.0, 2), "large_radius", ">= 3"),
    "grid of two": (lambda: a.rotation_translation(grid=(3, 3)), "(angles, dx, dy)"),
    "grid of none": (lambda: a.rotation_translation(grid=(3, 0, 3)), "dx", "0"),
    "grid of floats": (lambda: a.rotation_translation(grid=(3.0, 3, 3)), "angles", "3.0"),
    "grid, a number": (lambda: a.rotation_translation(grid=5), "(angles, dx, dy)"),
    "grid of words": (lambda: a.rotation_translation(grid="abc"), "(angles, dx, dy)"),
    "degrees of 255": (lambda: a.rotation_translation(max_degrees=255.0), "max_degrees"),
    "shift in pixels": (lambda: a.worst_of_k(max_shift=3), "max_shift", "share"),
    "levels": (lambda: a.ddn(levels=1), "levels"),
    "gamma": (lambda: a.ddn(gamma=1.0), "gamma"),
    "score": (lambda: a.synthesise(5, 0.1, score="logits"), "did you mean 'logit'"),
    "keep": (lambda: a.stadv(keep="Last"), "did you mean 'last'"),
    # ---- starts
    "starts of bytes": (lambda: a.hop_skip_jump(a.l2, 1.0, 100, starts=np.zeros((2, 4, 4, 1), np.uint8)), "starts", "uint8"),
    "starts in -1..1": (lambda: a.boundary(a.l2, 1.0, 100, starts=2 * IMAGES - 2), "starts", "[-1, 1]"),
    "starts, one": (lambda: a.hop_skip_jump(a.l2, 1.0, 100, starts=jnp.zeros(4)), "starts", "x[None]"),
    "starts of another shape": (
        lambda: a.hop_skip_jump(a.l2, 1.0, 100, starts=jnp.zeros((2, 5, 4, 1)))(three_sums, IMAGE, LABEL, KEY),
        "starts",
        "(4, 4, 1)",
    ),
    # ---- problems
    "fab_targeted: classes": (lambda: a.fab_targeted(LINF, 3)(three_sums, IMAGE, LABEL, KEY), "n <= 2"),
    "one class": (lambda: a.deepfool(LINF)(lambda x, key: jnp.sum(x)[None], IMAGE, LABEL, KEY), "two classes"),
    "force_class beyond": (
        lambda: patch.train_patch(
            three_sums, IMAGES, LABELS, KEY, patch.force_class(3), square_mask(2), random_placement(), 1
        ),
        "between 0 and 2",
    ),
    "patch of other channels": (
        lambda: patch.place(IMAGE, jnp.zeros((2, 2, 3)), square_mask(2), Placement(0.0, 0.0)),
        "channels",
    ),
    "mask of other size": (
        lambda: patch.place(IMAGE, jnp.zeros((2, 2, 1)), square_mask(3), Placement(0.0, 0.0)),
        "mask",
    ),
    "placement, a tuple": (lambda: patch.place(IMAGE, IMAGE, square_mask(4), (0.0, 0.0)), "Placement(row, column)"),
    "mask with channels": (
        lambda: patch.patch_step(a.margin(), IMAGE, random_placement(), directions.adam()),
        "mask",
        "(4, 4, 1)",
    ),
    "colours": (lambda: patch.non_printability(IMAGE, jnp.zeros((2, 3))), "Colours"),
    "flow of other size": (lambda: a.warp(IMAGE, jnp.zeros((3, 4, 2))), "flow", "(3, 4, 2)"),
    "beyond": (lambda: a.warp(IMAGE, jnp.zeros((4, 4, 2)), "zeros"), "beyond"),
    "empty fooling rate": (
        lambda: universal.fooling_rate(LINF, IMAGE, three_sums, IMAGES[:0], LABELS[:0], KEY),
        "at least one image",
    ),
    "labels of no class": (
        lambda: universal.universal_pgd(LINF, a.margin(), 0.1)(three_sums, IMAGES[None], LABELS[None] + 7, KEY),
        "universal_pgd",
        "between 0",
    ),
    "a patch for labels of no class": (
        lambda: patch.patch_step(a.margin(), square_mask(2), random_placement(), directions.adam())(
            three_sums, IMAGE[:2, :2], directions.adam().init(IMAGE[:2, :2]), IMAGES, LABELS + 7, KEY
        ),
        "patch_step",
        "between 0",
    ),
    "batches": (
        lambda: universal.universal_pgd(LINF, a.margin(), 0.1)(three_sums, IMAGES, LABELS, KEY),
        "[steps, batch, ...]",
    ),
}  # fmt: skip

FLAT, GREY = jnp.full(16, 0.5), jnp.full((4, 4), 0.5)
SPATIAL = {
    "square_linf": a.untargeted(a.square_linf(0.1, 3), a.margin()),
    "square_l2": a.untargeted(a.square_l2(0.1, 3), a.margin()),
    "square_l1": a.untargeted(a.square_l1(0.1, 3), a.margin()),
    "pixels": a.pixels(1, 4, 2),
    "stadv": a.stadv(steps=2),
    "stadv_original": a.stadv_original(steps=2),
    "rotation": a.untargeted(a.worst_of_k(2), a.margin()),
    "total variation": a.synthesise(2, 0.1, tv_weight=0.1),
    "fourier": a.untargeted(a.apgd(a.fourier_l2(0.1), 2), a.margin()),
    "low frequency": a.untargeted(a.apgd(a.low_frequency(LINF, 0.5), 2), a.margin()),
    "flow": a.untargeted(a.pgd(a.flow_field(0.1), 0.1, 2), a.margin()),
    "patch": patch.apply_patch(jnp.zeros((2, 2, 1)), square_mask(2), random_placement()),
    "rotate_translate": lambda classifier, x, y, key: rotate_translate(x, 0.0, 0.0, 0.0),
    "warp": lambda classifier, x, y, key: a.warp(x, jnp.zeros((4, 4, 2))),
}


def _flat(x, key):
    return jnp.stack([jnp.sum(x), -jnp.sum(x)])


for name, attack in SPATIAL.items():
    ROWS[f"{name}: a flat vector"] = (
        functools.partial(attack, _flat, FLAT, LABEL, KEY),
        '"h w c"',
        "(16,)",
        "flat",
    )
    ROWS[f"{name}: a grey image"] = (
        functools.partial(attack, _flat, GREY, LABEL, KEY),
        '"h w c"',
        "x[..., None]",
    )

# What runs over many images with one key: (classifier, images, labels, key).
SETS = {
    "fooling_rate": functools.partial(universal.fooling_rate, LINF, jnp.zeros((4, 4, 1))),
    "universal_deepfool": universal.universal_deepfool(L2, a.deepfool(L2, 2), passes=1),
    "universal step": lambda f, x, y, k: (
        lambda step: step.step(f, step.init(IMAGE), x, y, k)
    )(universal.universal_step(LINF, a.margin(), 0.1)),
    "train_patch": lambda *problem: patch.train_patch(
        *problem, a.margin(), square_mask(2), random_placement(), steps=1
    ),
}  # fmt: skip
PROBLEMS = {
    "images of bytes": (three_sums, np.zeros((3, 4, 4, 1), np.uint8), LABELS, KEY, "uint8", "255"),
    "images in -1..1": (three_sums, 2 * IMAGES - 2, LABELS, KEY, "[-1, 1]"),
    "images of 255": (three_sums, 255 * IMAGES, LABELS, KEY, "255"),
    "images, NaN": (three_sums, NAN * IMAGES, LABELS, KEY, "nan"),
    "no images": (three_sums, IMAGES[:0], LABELS[:0], KEY, "at least one"),
    "images, None": (three_sums, None, LABELS, KEY, "None"),
    "labels of 1..": (three_sums, IMAGES, LABELS + 3, KEY, "between 0 and 2"),
    "labels, negative": (three_sums, IMAGES, LABELS - 1, KEY, "-1"),
    "labels, floats": (three_sums, IMAGES, LABELS + 0.5, KEY, "integers"),
    "labels, one-hot": (three_sums, IMAGES, jax.nn.one_hot(LABELS, 3, dtype=int), KEY, "argmax"),
    "labels, columns": (three_sums, IMAGES, LABELS[:, None], KEY, "y[:, 0]"),
    "labels, too few": (three_sums, IMAGES, LABELS[:2], KEY, "(3,)"),
    "a seed": (three_sums, IMAGES, LABELS, 0, "jax.random.key(0)"),
    "many keys": (three_sums, IMAGES, LABELS, jax.random.split(KEY, 3), "one random key"),
    "no classifier": (None, IMAGES, LABELS, KEY, "classifier"),
    "batched": (lambda x, key: three_sums(x, key)[None], IMAGES, LABELS, KEY, "model(x[None])[0]"),
    "argmax": (lambda x, key: jnp.argmax(three_sums(x, key)), IMAGES, LABELS, KEY, "not the class"),
    "without a key": (lambda x: three_sums(x, None), IMAGES, LABELS, KEY, "classifier(image, key)"),
}
for name, run in SETS.items():
    for kind, (*problem, words) in {k: (*p[:4], p[4:]) for k, p in PROBLEMS.items()}.items():
        ROWS[f"{name}: {kind}"] = (functools.partial(run, *problem), *words)
