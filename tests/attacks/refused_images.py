"""What is no image is refused by all that takes one: {what takes it, and what is wrong: (the call, words of its message)}."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from known_models import three_sums

from jaxdiff import attacks as a
from jaxdiff.attacks import directions, patch, universal
from jaxdiff.attacks.queries.estimate import nes_gradient
from jaxdiff.attacks.queries.rotation import rotate_translate

KEY, IMAGE, LABEL = jax.random.key(0), jnp.full((4, 4, 1), 0.5), jnp.asarray(0)
IMAGES, LABELS = jnp.full((3, 4, 4, 1), 0.5), jnp.zeros(3, int)
LINF, L2 = a.linf(0.1), a.l2(0.5)

THREATS = {
    "linf": LINF,
    "l2": L2,
    "l1": a.l1(1.0),
    "flow": a.flow_field(0.1),
    "fourier": a.fourier_l2(0.5),
    "low": a.low_frequency(LINF, 0.5),
}
MOVES = {name: jnp.zeros((4, 4, 2 if name == "flow" else 1)) for name in THREATS}
IMAGE_ENTRIES = {
    **{f"{name}, init": partial(threat.init, KEY) for name, threat in THREATS.items()},
    **{f"{name}, apply": lambda x, n=name: THREATS[n].apply(x, MOVES[n]) for name in THREATS},
    **{f"{name}, project": lambda x, n=name: THREATS[n].project(MOVES[n], x) for name in THREATS},
    "warp": lambda x: a.warp(x, MOVES["flow"]),
    "rotate_translate": lambda x: rotate_translate(x, 1.0, 0.0, 0.0),
    "apply_universal": lambda x: universal.apply_universal(IMAGE, LINF)(three_sums, x, LABEL, KEY),
    "universal_step, init": universal.universal_step(LINF, a.margin(), 0.1).init,
    "apply_patch": lambda x: patch.apply_patch(IMAGE, patch.square_mask(4), patch.random_placement())(
        three_sums, x, LABEL, KEY
    ),
    "place": lambda x: patch.place(x, IMAGE, patch.square_mask(4), patch.Placement(1.0, 1.0)),
    "place, patch": lambda x: patch.place(IMAGE, x, patch.square_mask(4), patch.Placement(1.0, 1.0)),
    "patch_step, patch": lambda x: patch.patch_step(
        a.margin(), patch.square_mask(4), patch.random_placement(), directions.adam()
    )(three_sums, x, directions.adam().init(x), IMAGES, LABELS, KEY),
    "total_variation": patch.total_variation,
    "non_printability": patch.non_printability,
    "colours": lambda x: patch.non_printability(IMAGE, x[0]),
    "run_with_flow": lambda x: a.run_with_flow(a.stadv(steps=2), three_sums, x, LABEL, KEY),
    "attack": lambda x: a.untargeted(a.pgd(LINF), a.margin())(three_sums, x, LABEL, KEY),
    "ascent": lambda x: a.pgd(LINF)(lambda x, key: jnp.sum(x), x, KEY),
    "any attack": lambda x: a.as_stepwise(lambda f, x, y, key: x)(three_sums, x, LABEL, KEY),
}
# They may look outside of [0, 1], as probes for a gradient do: only what is no float is refused.
FLOAT_ENTRIES = {
    "defend": lambda x: a.defend(three_sums, lambda x, key: x)(x, KEY),
    "bpda": lambda x: a.bpda(lambda x, key: x)(x, KEY),
    "eot": lambda x: a.eot(three_sums, 2)(x, KEY),
    "eot_logits": lambda x: a.eot_logits(three_sums, 2)(x, KEY),
    "ensemble": lambda x: a.ensemble(three_sums)(x, KEY),
    "nes_gradient": lambda x: nes_gradient(lambda x, key: jnp.sum(x), x, KEY, 2),
    "linf, norm": LINF.norm,
    "l2, measure": L2.measure,
}
NO_IMAGES = {
    "bytes": (np.zeros((4, 4, 1), np.uint8), "uint8", "255"),
    "255": (255 * IMAGE, "[0, 1]", "divide by 255"),
    "-1..1": (2 * IMAGE - 2, "[0, 1]", "(images + 1) / 2"),
    "nan": (jnp.nan * IMAGE, "[0, 1]", "nan"),
}
ROWS = {
    f"{entry}: {kind}": (partial(call, bad), *words)
    for entry, call in (IMAGE_ENTRIES | FLOAT_ENTRIES).items()
    for kind, (bad, *words) in NO_IMAGES.items()
    if entry in IMAGE_ENTRIES or kind == "bytes"
}
